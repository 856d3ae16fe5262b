/**
 * How a kernel's grid becomes invocations. The body of a kernel is a sequence of *parts*: perfectly nested grid loops are
 * one index that is taken apart into the loops' variables; a part with a workgroup loop inside takes a workgroup for each
 * index, others an invocation. What only binds names is done by every invocation, and what writes without a grid loop by
 * the first alone. One launch runs all parts beside each other, so no part may read what another writes: by the same invocations
 * where each works alone, by further workgroups where some work together.
 */
import { InternalError } from "../../ir/errors.ts";
import type { For, Kernel, Stmt } from "../../ir/kernel/kernel.ts";
import { eachStmt, exprsOf, operandsOf, writesOf } from "../../ir/kernel/walk.ts";

export interface Axis {
  readonly loop: For;
  readonly from: number;
  readonly count: number;
  /** Lets before the next axis. */
  readonly lets: readonly Stmt[];
}

export type Part =
  /** Done by every invocation. */
  | { readonly kind: "all"; readonly stmt: Stmt }
  /** `body` for each index below `count`; `workgroup` invocations together, or one alone (0). */
  | {
      readonly kind: "grid";
      readonly axes: readonly Axis[];
      readonly count: number;
      readonly workgroup: number;
      readonly body: readonly Stmt[];
      /** The first workgroup that runs it. */
      readonly first: number;
    };

export interface Schedule {
  readonly parts: readonly Part[];
  /** Invocations of a workgroup. */
  readonly invocations: number;
  readonly workgroups: number;
}

/** Invocations of a workgroup where each works alone: two subgroups of 32. */
const alone = 64;

export function scheduleOf(kernel: Kernel): Schedule {
  const globals = new Set(kernel.bufs.filter(({ space }) => space === "global").map(({ name }) => name));
  const parts = kernel.body.map((stmt) => partOf(stmt, globals));
  checkApart(kernel, parts, globals);
  const grids = parts.filter((part) => part.kind === "grid");
  const together = Math.max(0, ...grids.map(({ workgroup }) => workgroup));
  const most = Math.max(1, ...grids.map(({ count }) => count));
  const invocations = together || Math.min(alone, 2 ** Math.ceil(Math.log2(most)));
  const sizeOf = ({ count, workgroup }: Grid) => (workgroup > 0 ? count : Math.ceil(count / invocations));
  if (together === 0) return { parts, invocations, workgroups: Math.max(1, ...grids.map(sizeOf)) };
  let workgroups = 0;
  const placed = parts.map((part) => {
    if (part.kind === "all") return part;
    const first = workgroups;
    workgroups += sizeOf(part);
    return { ...part, first };
  });
  return { parts: placed, invocations, workgroups: Math.max(1, workgroups) };
}

type Grid = Extract<Part, { kind: "grid" }>;

function partOf(stmt: Stmt, globals: ReadonlySet<string>): Part {
  const axes: Axis[] = [];
  let block: readonly Stmt[] = [stmt];
  for (;;) {
    const next = block.at(-1);
    const lets = block.slice(0, -1);
    if (next?.k !== "for" || next.how !== "grid" || next.from.k !== "num" || next.to.k !== "num") break;
    if (axes.length > 0 && !lets.every(({ k }) => k === "let" || k === "note")) break;
    if (axes.length > 0) axes[axes.length - 1] = { ...axes.at(-1)!, lets };
    const count = Math.max(Math.ceil((next.to.value - next.from.value) / next.step), 0);
    axes.push({ loop: next, from: next.from.value, count, lets: [] });
    block = next.body;
  }
  const workgroup = workgroupOf(block);
  const writes = [...writesOf([stmt]).bufs].some((name) => globals.has(name));
  if (axes.length === 0 && workgroup === 0 && !writes) return { kind: "all", stmt };
  const count = axes.reduce((product, axis) => product * axis.count, 1);
  return { kind: "grid", axes, count, workgroup, body: block, first: 0 };
}

/** Iterations of the workgroup loops in a block, at most one number. */
function workgroupOf(block: readonly Stmt[]): number {
  let size = 0;
  for (const stmt of block) {
    if (stmt.k === "for" && stmt.how === "workgroup" && stmt.to.k === "num") size = Math.max(size, stmt.to.value);
  }
  return size;
}

/** Parts run at the same time. */
function checkApart(kernel: Kernel, parts: readonly Part[], globals: ReadonlySet<string>): void {
  const written = new Map<string, Part>();
  const stmtsOf = (part: Part) => (part.kind === "all" ? [part.stmt] : part.body);
  for (const part of parts) for (const name of writesOf(stmtsOf(part)).bufs) written.set(name, part);
  for (const part of parts) {
    for (const name of loadsOf(stmtsOf(part))) {
      const writer = written.get(name);
      if (writer === undefined || writer === part || !globals.has(name)) continue;
      throw new InternalError(`kernel ${kernel.name}`, `one part reads ${name}, which another writes beside it`);
    }
  }
}

function loadsOf(stmts: readonly Stmt[]): Set<string> {
  const loads = new Set<string>();
  const visit = (expr: Parameters<typeof operandsOf>[0]): void => {
    if (expr.k === "load") loads.add(expr.buf);
    operandsOf(expr).forEach(visit);
  };
  eachStmt(stmts, (stmt) => exprsOf(stmt).forEach(visit));
  return loads;
}
