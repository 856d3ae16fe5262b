/**
 * WGSL functions by which a workgroup's invocations put values together. Where subgroups are known to be runs of
 * neighbours, each adds up its own by one instruction and only their results go through shared memory; elsewhere a tree does.
 */
import type { Combine, Kernel } from "../../ir/kernel/kernel.ts";
import { eachStmt } from "../../ir/kernel/walk.ts";
import { typeText } from "./expr.ts";

export interface Group {
  readonly invocations: number;
  /** Invocations of a subgroup, or 0 where they are not to be used. */
  readonly subgroup: number;
  /** How far apart at most invocations are whose values of a type are combined, see `mostApart`. */
  readonly apart: ReadonlyMap<string, number>;
}

/**
 * The combines of a kernel. By subgroups, each that runs once has one of two places in shared memory in turn, so that the
 * next need not wait until all have read it: its successor's barrier is enough. Those in loops and branches have a third,
 * and wait. Trees wait anyway, and share one.
 */
export class Combines {
  readonly #group: Group;
  readonly #found = new Map<string, Found>();
  /** By type. */
  readonly #places = new Map<string, number>();

  constructor(group: Group) {
    this.#group = group;
  }

  /** The call; `again`: it may run more than once. */
  call(stmt: Combine, value: string, again: boolean): string {
    const { op, over, apart } = stmt;
    const type = typeText(stmt.value.type);
    const subgroup = subgroupOf(this.#group);
    const tree = apart >= subgroup;
    const waits = again || tree;
    const how = `${over}${apart > 1 ? `_by_${apart}` : ""}${again && !tree ? "_again" : ""}`;
    const name = `combine_${op}_${wordOf(type)}_${how}`;
    this.#found.set(name, { ...stmt, waits, tree });
    if (waits) return `${name}(lane, ${value})`;
    // Within subgroups nobody waits for others, so that the place is still in use.
    if (over * apart <= subgroup) return `${name}(lane, ${value}, 0u)`;
    const place = this.#places.get(type) ?? 0;
    this.#places.set(type, 1 - place);
    return `${name}(lane, ${value}, ${place * this.#length(type)}u)`;
  }

  /** Whether they need `enable subgroups`. */
  get useSubgroups(): boolean {
    return [...this.#found.values()].some(({ tree }) => !tree);
  }

  /** What each place of a type holds. */
  #length(type: string): number {
    const { invocations, apart } = this.#group;
    return Math.max(1, (invocations / Math.max(subgroupOf(this.#group), 1)) * (apart.get(type) ?? 1));
  }

  /** Functions by their names, and the memory that they share. */
  texts(): string[] {
    const memory = new Set(
      [...this.#found.values()].map(({ value, tree }) => {
        const type = typeText(value.type);
        const length = tree ? this.#group.invocations : 3 * this.#length(type);
        return `var<workgroup> ${memoryOf(type, tree)}: array<${type}, ${length}>;`;
      }),
    );
    const functions = [...this.#found].map(([name, stmt]) => {
      const { waits, tree } = stmt;
      const type = typeText(stmt.value.type);
      const third = waits ? [`let place = ${2 * this.#length(type)}u;`] : [];
      const body = tree ? byTree(stmt, type) : [...third, ...bySubgroups(stmt, type, this.#group)];
      const place = waits ? "" : ", place: u32";
      const lines = body.map((line) => `  ${line}`);
      return [`fn ${name}(lane: u32, value: ${type}${place}) -> ${type} {`, ...lines, "}"].join("\n");
    });
    return [...memory, ...functions];
  }
}

/** A combine of the kernel. */
interface Found extends Combine {
  /** Whether it ends with a barrier. */
  readonly waits: boolean;
  /** Whether it goes by shared memory alone. */
  readonly tree: boolean;
}

/** How far apart at most a kernel's invocations are whose values are combined, by WGSL's name of their type. */
export function mostApart({ body }: Kernel): ReadonlyMap<string, number> {
  const most = new Map<string, number>();
  eachStmt(body, (stmt) => {
    if (stmt.k !== "combine") return;
    const type = typeText(stmt.value.type);
    most.set(type, Math.max(most.get(type) ?? 1, stmt.apart));
  });
  return most;
}

function subgroupOf({ invocations, subgroup }: Group): number {
  return subgroup > 1 && invocations % subgroup === 0 ? subgroup : 0;
}

/** A type as part of a name: `vec4_f32`. */
function wordOf(type: string): string {
  return type.replaceAll(/\W+/g, " ").trim().replaceAll(" ", "_");
}

function memoryOf(type: string, tree = false): string {
  return `combined_${wordOf(type)}${tree ? "_tree" : ""}`;
}

function pairOf(op: Combine["op"], a: string, b: string): string {
  return op === "add" ? `${a} + ${b}` : `max(${a}, ${b})`;
}

function byTree({ op, over, apart }: Combine, type: string): string[] {
  const all = memoryOf(type, true);
  const at = (lane: string) => `${all}[${lane}]`;
  const run = over * apart;
  const first = `lane & ${~(run - 1) >>> 0}u`;
  return [
    `${at("lane")} = value;`,
    "workgroupBarrier();",
    `for (var half = ${run >> 1}u; half >= ${apart}u; half >>= 1u) {`,
    `  if ((lane & ${run - 1}u) < half) { ${at("lane")} = ${pairOf(op, at("lane"), at("lane + half"))}; }`,
    "  workgroupBarrier();",
    "}",
    `let result = ${at(apart === 1 ? first : `(${first}) + (lane & ${apart - 1}u)`)};`,
    "workgroupBarrier();",
    "return result;",
  ];
}

function bySubgroups({ op, over, apart, waits }: Found, type: string, { invocations, subgroup }: Group): string[] {
  const all = memoryOf(type);
  const run = over * apart;
  // A combine of all is a barrier as well.
  const meet = over === invocations ? ["workgroupBarrier();"] : [];
  if (run < subgroup || (run === subgroup && apart > 1))
    return [...meet, "var result = value;", ...byShuffles(op, over, apart), "return result;"];
  const whole = op === "add" ? "subgroupAdd(value)" : "subgroupMax(value)";
  if (run === subgroup) return [...meet, `return ${whole};`];
  // Each subgroup adds up what all of them found, so that nobody waits for one that does.
  const parts = run / subgroup;
  const [within, column] = apart === 1 ? ["", ""] : [` * ${apart}u`, ` + (lane & ${apart - 1}u)`];
  const first = `place + lane / ${run}u * ${parts * apart}u`;
  const several = parts <= subgroup / apart;
  const mine = apart === 1 ? `lane & ${parts - 1}u` : `(lane / ${apart}u) & ${parts - 1}u`;
  const own =
    apart === 1 ? [`let own = ${whole};`] : ["var own = value;", ...byShuffles(op, subgroup / apart, apart, "own")];
  return [
    ...own,
    `if ((lane & ${subgroup - 1}u) < ${apart}u) { ${all}[place + lane / ${subgroup}u${within}${column}] = own; }`,
    "workgroupBarrier();",
    `var result = ${all}[${first}${several ? ` + (${mine})${within}` : ""}${column}];`,
    ...(several
      ? byShuffles(op, parts, apart)
      : [
          `for (var part = 1u; part < ${parts}u; part++) { result = ${pairOf(op, "result", `${all}[${first} + part${within}${column}]`)}; }`,
        ]),
    ...(waits ? ["workgroupBarrier();"] : []),
    "return result;",
  ];
}

/** The variable `name` of `over` invocations, each `apart` from the next. */
function byShuffles(op: Combine["op"], over: number, apart: number, name = "result"): string[] {
  const lines: string[] = [];
  for (let half = over / 2; half >= 1; half /= 2) {
    lines.push(`${name} = ${pairOf(op, name, `subgroupShuffleXor(${name}, ${half * apart}u)`)};`);
  }
  return lines;
}
