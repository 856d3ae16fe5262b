/**
 * WGSL functions by which a workgroup's invocations put values together. Where subgroups are known to be runs of
 * neighbours, each adds up its own by one instruction and only their results go through shared memory; elsewhere a tree does.
 */
import type { Combine } from "../../ir/kernel/kernel.ts";
import { typeText } from "./expr.ts";

export interface Group {
  readonly invocations: number;
  /** Invocations of a subgroup, or 0 where they are not to be used. */
  readonly subgroup: number;
}

export function combineName({ op, value, over }: Combine): string {
  return `combine_${op}_${wordOf(typeText(value.type))}_${over}`;
}

/** Whether a kernel with these combines needs `enable subgroups`. */
export function usesSubgroups(combines: Iterable<Combine>, group: Group): boolean {
  return [...combines].length > 0 && subgroupOf(group) > 1;
}

/** Functions by their names, and the memory that they share. */
export function combineTexts(combines: ReadonlyMap<string, Combine>, group: Group): string[] {
  const subgroup = subgroupOf(group);
  const types = new Set([...combines.values()].map(({ value }) => typeText(value.type)));
  const length = Math.max(1, group.invocations / Math.max(subgroup, 1));
  const memory = [...types].map((type) => `var<workgroup> ${memoryOf(type)}: array<${type}, ${length}>;`);
  const functions = [...combines].map(([name, { op, value, over }]) => {
    const type = typeText(value.type);
    const whole = over === group.invocations;
    const body = subgroup > 1 ? bySubgroups(op, type, over, subgroup, whole) : byTree(op, type, over, whole);
    return [`fn ${name}(lane: u32, value: ${type}) -> ${type} {`, ...body.map((line) => `  ${line}`), "}"].join("\n");
  });
  return [...memory, ...functions];
}

function subgroupOf({ invocations, subgroup }: Group): number {
  return subgroup > 1 && invocations % subgroup === 0 ? subgroup : 0;
}

/** A type as part of a name: `vec4_f32`. */
function wordOf(type: string): string {
  return type.replaceAll(/\W+/g, " ").trim().replaceAll(" ", "_");
}

function memoryOf(type: string): string {
  return `combined_${wordOf(type)}`;
}

function pairOf(op: Combine["op"], a: string, b: string): string {
  return op === "add" ? `${a} + ${b}` : `max(${a}, ${b})`;
}

function byTree(op: Combine["op"], type: string, over: number, whole: boolean): string[] {
  const all = memoryOf(type);
  const result = whole
    ? [`return workgroupUniformLoad(&${all}[0]);`]
    : [`let result = ${all}[lane & ${~(over - 1) >>> 0}u];`, "workgroupBarrier();", "return result;"];
  return [
    `${all}[lane] = value;`,
    "workgroupBarrier();",
    `for (var half = ${over / 2}u; half > 0u; half >>= 1u) {`,
    `  if (${whole ? "lane" : `(lane & ${over - 1}u)`} < half) { ${all}[lane] = ${pairOf(op, `${all}[lane]`, `${all}[lane + half]`)}; }`,
    "  workgroupBarrier();",
    "}",
    ...result,
  ];
}

function bySubgroups(op: Combine["op"], type: string, over: number, subgroup: number, whole: boolean): string[] {
  const all = memoryOf(type);
  const own = op === "add" ? "subgroupAdd(value)" : "subgroupMax(value)";
  if (over < subgroup) {
    const lines = ["var result = value;"];
    for (let half = over / 2; half >= 1; half /= 2) {
      lines.push(`result = ${pairOf(op, "result", `subgroupShuffleXor(result, ${half}u)`)};`);
    }
    return [...lines, "return result;"];
  }
  if (over === subgroup && !whole) return [`return ${own};`];
  const shared = [
    `let own = ${own};`,
    `if ((lane & ${subgroup - 1}u) == 0u) { ${all}[lane / ${subgroup}u] = own; }`,
    "workgroupBarrier();",
  ];
  const parts = over / subgroup;
  const loop = (first: string, next: string) => [
    `var result = ${all}[${first}];`,
    `for (var part = 1u; part < ${parts}u; part++) { result = ${pairOf(op, "result", `${all}[${next}]`)}; }`,
  ];
  if (!whole) {
    const sum = loop("first", "first + part");
    return [...shared, `let first = lane / ${over}u * ${parts}u;`, ...sum, "workgroupBarrier();", "return result;"];
  }
  // By one invocation, so that all are seen to have the same.
  const sum = [...loop("0", "part"), `${all}[0] = result;`].map((line) => `  ${line}`);
  const once = parts === 1 ? [] : ["if (lane == 0u) {", ...sum, "}"];
  return [...shared, ...once, `return workgroupUniformLoad(&${all}[0]);`];
}
