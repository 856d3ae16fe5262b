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

/**
 * The combines of a kernel. By subgroups, each that runs once has one of two places in shared memory in turn, so that the
 * next need not wait until all have read it: its successor's barrier is enough. Those in loops and branches have a third,
 * and wait. Trees wait anyway, and share one.
 */
export class Combines {
  readonly #group: Group;
  readonly #found = new Map<string, Combine & { readonly waits: boolean }>();
  /** By type. */
  readonly #places = new Map<string, number>();

  constructor(group: Group) {
    this.#group = group;
  }

  /** The call; `again`: it may run more than once. */
  call(stmt: Combine, value: string, again: boolean): string {
    const { op, over } = stmt;
    const type = typeText(stmt.value.type);
    const subgroup = subgroupOf(this.#group);
    const waits = again || subgroup === 0;
    const name = `combine_${op}_${wordOf(type)}_${over}${again && subgroup > 0 ? "_again" : ""}`;
    this.#found.set(name, { ...stmt, waits });
    if (waits) return `${name}(lane, ${value})`;
    // Within subgroups nobody waits for others, so that the place is still in use.
    if (over <= subgroup) return `${name}(lane, ${value}, 0u)`;
    const place = this.#places.get(type) ?? 0;
    this.#places.set(type, 1 - place);
    return `${name}(lane, ${value}, ${place * this.#length}u)`;
  }

  /** Whether they need `enable subgroups`. */
  get useSubgroups(): boolean {
    return this.#found.size > 0 && subgroupOf(this.#group) > 1;
  }

  /** What each place holds. */
  get #length(): number {
    return Math.max(1, this.#group.invocations / Math.max(subgroupOf(this.#group), 1));
  }

  /** Functions by their names, and the memory that they share. */
  texts(): string[] {
    const subgroup = subgroupOf(this.#group);
    const types = new Set([...this.#found.values()].map(({ value }) => typeText(value.type)));
    const length = (subgroup > 0 ? 3 : 1) * this.#length;
    const memory = [...types].map((type) => `var<workgroup> ${memoryOf(type)}: array<${type}, ${length}>;`);
    const functions = [...this.#found].map(([name, { op, value, over, waits }]) => {
      const type = typeText(value.type);
      const third = waits ? [`let place = ${2 * this.#length}u;`] : [];
      const body =
        subgroup > 0 ? [...third, ...bySubgroups(op, type, over, waits, this.#group)] : byTree(op, type, over);
      const place = waits ? "" : ", place: u32";
      const lines = body.map((line) => `  ${line}`);
      return [`fn ${name}(lane: u32, value: ${type}${place}) -> ${type} {`, ...lines, "}"].join("\n");
    });
    return [...memory, ...functions];
  }
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

function byTree(op: Combine["op"], type: string, over: number): string[] {
  const all = memoryOf(type);
  const at = (lane: string) => `${all}[${lane}]`;
  return [
    `${at("lane")} = value;`,
    "workgroupBarrier();",
    `for (var half = ${over / 2}u; half > 0u; half >>= 1u) {`,
    `  if ((lane & ${over - 1}u) < half) { ${at("lane")} = ${pairOf(op, at("lane"), at("lane + half"))}; }`,
    "  workgroupBarrier();",
    "}",
    `let result = ${at(`lane & ${~(over - 1) >>> 0}u`)};`,
    "workgroupBarrier();",
    "return result;",
  ];
}

function bySubgroups(
  op: Combine["op"],
  type: string,
  over: number,
  waits: boolean,
  { invocations, subgroup }: Group,
): string[] {
  const all = memoryOf(type);
  // A combine of all is a barrier as well.
  const meet = over === invocations ? ["workgroupBarrier();"] : [];
  if (over < subgroup) return [...meet, "var result = value;", ...byShuffles(op, over), "return result;"];
  const own = op === "add" ? "subgroupAdd(value)" : "subgroupMax(value)";
  if (over === subgroup) return [...meet, `return ${own};`];
  // Each subgroup adds up what all of them found, so that nobody waits for one that does.
  const parts = over / subgroup;
  const first = `place + lane / ${over}u * ${parts}u`;
  const several = parts <= subgroup;
  return [
    `let own = ${own};`,
    `if ((lane & ${subgroup - 1}u) == 0u) { ${all}[place + lane / ${subgroup}u] = own; }`,
    "workgroupBarrier();",
    `var result = ${all}[${first}${several ? ` + (lane & ${parts - 1}u)` : ""}];`,
    ...(several
      ? byShuffles(op, parts)
      : [
          `for (var part = 1u; part < ${parts}u; part++) { result = ${pairOf(op, "result", `${all}[${first} + part]`)}; }`,
        ]),
    ...(waits ? ["workgroupBarrier();"] : []),
    "return result;",
  ];
}

/** `result` of `over` neighbours. */
function byShuffles(op: Combine["op"], over: number): string[] {
  const lines: string[] = [];
  for (let half = over / 2; half >= 1; half /= 2) {
    lines.push(`result = ${pairOf(op, "result", `subgroupShuffleXor(result, ${half}u)`)};`);
  }
  return lines;
}
