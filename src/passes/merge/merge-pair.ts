/**
 * Two kernels as one: for each iteration the first one's statements, then the second's. That computes the same, by the same
 * operations in the same order, if what the second reads of the first one's results was stored by the same iteration, which
 * is proved on the blocks that iterations own (`ir/kernel/blocks.ts`). A value that nothing else needs becomes scratch of
 * one block.
 */
import { IrError } from "../../ir/errors.ts";
import type { Node } from "../../ir/graph.ts";
import { touchedBlocks } from "../../ir/kernel/blocks.ts";
import { type Buf, type Expr, imul, int, isub, type Kernel, ref, type Stmt } from "../../ir/kernel/kernel.ts";
import { reservedWords } from "../../ir/kernel/print.ts";
import { looseFactsOf } from "../../ir/kernel/range.ts";
import { loop } from "../../ir/kernel/stmt.ts";
import { storageBits } from "../../ir/kernel/value.ts";
import { verifyKernel } from "../../ir/kernel/verify.ts";
import { boundName, eachStmt, globalBufs, gridLoop, mapOperands, mapStmt, namesOf } from "../../ir/kernel/walk.ts";
import type { Target } from "../../ir/target.ts";
import { sizeOf } from "../../ir/types.ts";
import { type LoweredKernel, operandsOf, resultsOf } from "../lower/lower.ts";
import { paysOff, workOf } from "./cost.ts";
import { extentOf, extentsOf, freshName, iterationOf, type Nest, nestOf } from "./nest.ts";

/** A kernel that may be merged, with what was found out about it. */
export interface Candidate {
  readonly lowered: LoweredKernel;
  readonly nest: Nest;
  readonly work: number;
  /** The part of it that every iteration would repeat. */
  readonly repeated: number;
  /** Iterations that can run on different threads as it is. */
  readonly extent: number;
  readonly results: readonly Node[];
  readonly operands: readonly Node[];
}

export function candidateOf(lowered: LoweredKernel): Candidate {
  const { kernel } = lowered;
  const nest = nestOf(kernel);
  const plain = nest.prologue.length === 0 || gridLoop(kernel) !== undefined;
  return {
    lowered,
    nest,
    work: workOf(kernel),
    repeated: nest.prologue.length === 0 ? 0 : workOf({ ...kernel, body: nest.prologue }),
    extent: plain ? extentOf(nest) : 1,
    results: resultsOf(lowered),
    operands: operandsOf(lowered),
  };
}

/** The kernel with its outermost loop as a grid, where that was proved to be one and lowering did not know. */
export function withGrid({ lowered, nest }: Candidate, target: Target): LoweredKernel {
  const { kernel, dims, prologue } = nest;
  const outermost = kernel.body.at(-1);
  if (outermost?.k !== "for" || dims.length === 0 || prologue.length > 0 || gridLoop(kernel) !== undefined)
    return lowered;
  // A grid has no loop for the elements left over by vectors.
  if (dims.length === 1 && dims[0]!.count % target.lanes !== 0) return lowered;
  return { ...lowered, kernel: { ...kernel, body: kernel.body.with(-1, { ...outermost, how: "grid" }) } };
}

export interface MergeContext {
  readonly target: Target;
  /** Values that something other than the two kernels reads. */
  readonly needed: (node: Node, a: Candidate, b: Candidate) => boolean;
}

/** Larger kernels are hard to read, and slow to compile. */
const maxStatements = 400;
/** Extents that are tried; what cannot be proved for the largest few is seldom true of smaller ones, but for 1. */
const mostTries = 6;
/** Bytes of an operand that fills a good part of a second-level cache. */
const largeOperand = 1 << 17;
/** Global buffers of a merged kernel. */
const maxBuffers = 16;

/** The two kernels as one, `a` first, at the largest of `extents` that is proved right and pays off; else why not. */
export function mergePair(a: Candidate, b: Candidate, context: MergeContext): Candidate | string {
  const shared = sharedProblem(a, b);
  if (shared !== undefined) return shared;
  const inB = new Set(extentsOf(b.nest));
  const extents = extentsOf(a.nest).filter((extent) => inB.has(extent));
  let tries = mostTries;
  let why: string | undefined;
  // Only an extent that divides what is passed on can have blocks of it.
  const passed = a.results.filter((node) => b.lowered.args.includes(node)).map(({ type }) => sizeOf(type.shape));
  for (const extent of extents) {
    if (passed.some((size) => size % extent !== 0)) continue;
    const repeated = (a.repeated + b.repeated) * (extent - 1);
    if (!paysOff(a, b, extent, repeated)) {
      why ??= `${a.work + b.work + repeated} ops are too many for ${extent} iterations`;
      continue;
    }
    if (tries === 0 && extent > 1) continue;
    const merged = mergeAt(a, b, extent, context);
    if (typeof merged !== "string") return merged;
    why ??= merged;
    tries--;
  }
  return why ?? "no extent in common";
}

/** What forbids a merge whatever the loops are: memory that one writes in place and the other reads. */
function sharedProblem(a: Candidate, b: Candidate): string | undefined {
  const problem = (one: Candidate, other: Candidate) =>
    [...one.lowered.replaces.values()].some((old) => other.operands.includes(old) || other.results.includes(old));
  return problem(a, b) || problem(b, a) ? "one updates in place what the other reads or writes" : undefined;
}

function mergeAt(a: Candidate, b: Candidate, extent: number, context: MergeContext): Candidate | string {
  const names = new Set([...namesOf(a.nest.kernel), ...reservedWords]);
  const second = renamed(a, b, names);
  const i = freshName(new Set([...names, ...namesOf(second.nest.kernel)]), "i");
  const stmts = [a, second].flatMap(({ nest }) => iterationOf(nest, extent, ref(i)));
  const { bufs, args } = buffersOf(a, second);
  const globals = bufs.filter(({ space }) => space === "global").length;
  const [first, last] = [a.nest.kernel, b.nest.kernel];
  const name = `${first.name.replace(/_to_.*/, "")}_to_${last.name.replace(/.*_to_/, "")}`;
  const origin = [...first.origin, ...last.origin];
  const whole = { name, origin, bufs, body: extent === 1 ? stmts : [loop(i, 0, extent, stmts, "grid")] };
  const passed = bufs.filter((_, at) => a.results.includes(args[at]!) && b.lowered.args.includes(args[at]!));
  const problem = extent === 1 ? undefined : outsideOwn(whole, passed);
  if (problem !== undefined) return problem;
  if (extent > 1 && bothStream(whole, a, second)) return "each iteration would pass over two large operands";
  const kept = keepInside(whole, args, extent, i, (node) => context.needed(node, a, b));
  if (globals - (args.length - kept.args.length) > maxBuffers) return `more than ${maxBuffers} buffers`;
  if (countStmts(kept.kernel.body) > maxStatements) return `more than ${maxStatements} statements`;
  if (scratchOf(kept.kernel) > context.target.scratchBytes) return "too much scratch";
  // An index loaded from a buffer may be known to be in bounds only where nothing stores to that buffer.
  const outOfBounds = passed.some(({ dtype }) => dtype === "i32") ? problemOf(kept.kernel) : undefined;
  if (outOfBounds !== undefined) return outOfBounds;
  const replaces = new Map([...a.lowered.replaces, ...b.lowered.replaces]);
  return candidateOf({ kernel: kept.kernel, args: kept.args, replaces });
}

/** Why iterations of the grid loop would depend on each other by what the first kernel passes on to the second. */
function outsideOwn(kernel: Kernel, passed: readonly Buf[]): string | undefined {
  const [grid] = kernel.body;
  if (grid?.k !== "for" || passed.length === 0) return undefined;
  const touched = touchedBlocks(passed, grid, looseFactsOf(kernel));
  const outside = [...touched.values()].find((each) => each.outside !== undefined)?.outside;
  return outside && `iterations would meet at ${outside}`;
}

/**
 * Whether every iteration would pass over large operands of both, such as the weights of two matrix products on rows of
 * tokens: a cache that holds one of them from iteration to iteration does not hold both.
 */
function bothStream(kernel: Kernel, a: Candidate, b: Candidate): boolean {
  const bytes = ({ size, dtype }: Buf) => (size * storageBits(dtype)) / 8;
  const large = (each: Candidate) =>
    globalBufs(each.nest.kernel).filter((buf) => buf.access === "read" && bytes(buf) > largeOperand);
  const [grid] = kernel.body;
  if (grid?.k !== "for" || large(a).length === 0 || large(b).length === 0) return false;
  const facts = looseFactsOf(kernel);
  return [a, b].every((each) => [...touchedBlocks(large(each), grid, facts).values()].some(({ outside }) => outside));
}

function problemOf(kernel: Kernel): string | undefined {
  try {
    verifyKernel(kernel);
    return undefined;
  } catch (error) {
    if (error instanceof IrError) return error.message;
    throw error;
  }
}

function scratchOf({ bufs }: Kernel): number {
  const scratch = bufs.filter(({ space }) => space === "scratch");
  return scratch.reduce((sum, { size, dtype }) => sum + Math.ceil((size * storageBits(dtype)) / 8), 0);
}

/** The second kernel with the first one's names for the values they share, and no other name of it. */
function renamed(a: Candidate, b: Candidate, taken: ReadonlySet<string>): Candidate {
  const mine = globalBufs(b.nest.kernel);
  const shared = new Map<string, string>();
  for (const [i, node] of b.lowered.args.entries()) {
    const known = a.lowered.args.indexOf(node);
    if (known >= 0) shared.set(mine[i]!.name, globalBufs(a.nest.kernel)[known]!.name);
  }
  const used = new Set(taken);
  for (const name of namesOf(b.nest.kernel)) if (!shared.has(name)) used.add(name);
  const by = new Map(shared);
  for (const name of namesOf(b.nest.kernel)) {
    if (shared.has(name) || !taken.has(name)) continue;
    const fresh = freshName(used, name.replace(/\d+$/, "") || name);
    used.add(fresh);
    by.set(name, fresh);
  }
  if (by.size === 0) return b;
  const to = (name: string) => by.get(name) ?? name;
  const kernel: Kernel = {
    ...b.nest.kernel,
    bufs: b.nest.kernel.bufs.map((buf) => ({ ...buf, name: to(buf.name) })),
    body: b.nest.kernel.body.map((stmt) => renameStmt(stmt, to)),
  };
  const nest: Nest = {
    kernel,
    dims: b.nest.dims.map((dim) => ({ ...dim, name: to(dim.name) })),
    prologue: b.nest.prologue.map((stmt) => renameStmt(stmt, to)),
    body: b.nest.body.map((stmt) => renameStmt(stmt, to)),
  };
  return { ...b, nest };
}

function renameStmt(stmt: Stmt, to: (name: string) => string): Stmt {
  const next = mapStmt(
    stmt,
    (expr) => renameExpr(expr, to),
    (block) => block.map((inner) => renameStmt(inner, to)),
  );
  if (next.k === "store") return { ...next, buf: to(next.buf) };
  return boundName(next) !== undefined || next.k === "set"
    ? ({ ...next, name: to((next as { name: string }).name) } as Stmt)
    : next; // these have a name
}

function renameExpr(expr: Expr, to: (name: string) => string): Expr {
  const next = mapOperands(expr, (operand) => renameExpr(operand, to));
  if (next.k === "ref") return to(next.name) === next.name ? next : { ...next, name: to(next.name) };
  return next.k === "load" && to(next.buf) !== next.buf ? { ...next, buf: to(next.buf) } : next;
}

/** The buffers of both, those written first; what one stores and the other loads is read and written. */
function buffersOf(a: Candidate, b: Candidate): { bufs: Buf[]; args: Node[] } {
  const found = new Map<Node, Buf>();
  for (const { nest, lowered } of [a, b]) {
    const bufs = globalBufs(nest.kernel);
    for (const [i, node] of lowered.args.entries()) {
      const known = found.get(node);
      const access = known === undefined || known.access === bufs[i]!.access ? bufs[i]!.access : "readwrite";
      found.set(node, { ...(known ?? bufs[i]!), access });
    }
  }
  const entries = [...found].sort(([, x], [, y]) => Number(x.access === "read") - Number(y.access === "read"));
  const scratch = [a, b].flatMap(({ nest }) => nest.kernel.bufs.filter(({ space }) => space === "scratch"));
  return { bufs: [...entries.map(([, buf]) => buf), ...scratch], args: entries.map(([node]) => node) };
}

/** Makes scratch of the values that nothing outside needs: each iteration keeps its own block. */
function keepInside(
  kernel: Kernel,
  args: readonly Node[],
  extent: number,
  i: string,
  needed: (node: Node) => boolean,
): { kernel: Kernel; args: readonly Node[] } {
  const sizes = new Map<string, number>();
  for (const [at, node] of args.entries()) {
    const buf = kernel.bufs[at]!;
    // Whole elements of bytes, stored as a whole: a value of few bits shares bytes with its neighbours.
    if (buf.access === "readwrite" && buf.size % extent === 0 && storageBits(buf.dtype) >= 8 && !needed(node))
      sizes.set(buf.name, buf.size / extent);
  }
  if (sizes.size === 0) return { kernel, args };
  const shift = (name: string, index: Expr) =>
    extent === 1 ? index : isub(index, imul(ref(i), int(sizes.get(name)!)));
  const inExpr = (expr: Expr): Expr => {
    const next = mapOperands(expr, inExpr);
    return next.k === "load" && sizes.has(next.buf) ? { ...next, index: shift(next.buf, next.index) } : next;
  };
  const inStmt = (stmt: Stmt): Stmt => {
    const next = mapStmt(stmt, inExpr, (block) => block.map(inStmt));
    return next.k === "store" && sizes.has(next.buf) ? { ...next, index: shift(next.buf, next.index) } : next;
  };
  const globals = kernel.bufs.filter((buf) => buf.space === "global" && !sizes.has(buf.name));
  const scratch = kernel.bufs.flatMap((buf): Buf[] => {
    if (buf.space === "scratch") return [buf];
    const size = sizes.get(buf.name);
    return size === undefined
      ? []
      : [{ name: buf.name, dtype: buf.dtype, size, access: "readwrite", space: "scratch" }];
  });
  return {
    kernel: { ...kernel, bufs: [...globals, ...scratch], body: kernel.body.map(inStmt) },
    args: args.filter((_, at) => !sizes.has(kernel.bufs[at]!.name)),
  };
}

function countStmts(stmts: readonly Stmt[]): number {
  let count = 0;
  eachStmt(stmts, () => count++);
  return count;
}
