/**
 * Two kernels as one: for each iteration the first one's statements, then the second's. That computes the same, by the same
 * operations in the same order, if what the second reads of the first one's results was stored by the same iteration, which
 * is proved on the blocks that iterations own (`ir/kernel/blocks.ts`). A value that nothing else needs becomes scratch of
 * one block.
 */
import { IrError } from "../../ir/errors.ts";
import type { Node } from "../../ir/graph.ts";
import { touchedBlocks } from "../../ir/kernel/blocks.ts";
import { type Buf, int, type Kernel, ref, type Stmt } from "../../ir/kernel/kernel.ts";
import { reservedWords } from "../../ir/kernel/print.ts";
import { looseFactsOf } from "../../ir/kernel/range.ts";
import { barrier, loop } from "../../ir/kernel/stmt.ts";
import { verifyKernel } from "../../ir/kernel/verify.ts";
import { bufBytes, eachStmt, globalBufs, gridLoop, namesOf } from "../../ir/kernel/walk.ts";
import { bindingsOf, type Target } from "../../ir/target.ts";
import { sizeOf } from "../../ir/types.ts";
import type { LoweredKernel } from "../lower/lower.ts";
import { workgroupFor } from "../lower/rows.ts";
import { type Candidate, candidateOf } from "./candidate.ts";
import { atOnce, paysOff, paysOffTogether } from "./cost.ts";
import { buffersOf, keeper, keepInside, type MergeContext, sharedRoom } from "./keep-inside.ts";
import { extentOf, extentsOf, freshName, iterationOf } from "./nest.ts";
import { renamed } from "./rename.ts";
import { areGrids, runTogether } from "./together.ts";

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

/** Larger kernels are hard to read, and slow to compile. */
const maxStatements = 400;
/** Extents that are tried; what cannot be proved for the largest few is seldom true of smaller ones, but for 1. */
const mostTries = 6;
/** Invocations that each worked alone and may become one workgroup, where one waits for what another computes. */
const mostAlone = 256;
/** Bytes of an operand that fills a good part of a second-level cache. */
export const largeOperand = 1 << 17;
/** Global buffers of a merged kernel, where the target does not limit them. */
const maxBuffers = 16;

/** The two kernels as one, `a` first, at the largest of `extents` that is proved right and pays off; else why not. */
export function mergePair(a: Candidate, b: Candidate, context: MergeContext): Candidate | string {
  const shared = sharedProblem(a, b);
  const replaced = shared === undefined || context.target.workgroup === null ? none : replacedAfter(a, b);
  if (shared !== undefined && replaced.size === 0) return shared;
  const size = context.target.workgroup === null ? 0 : workgroupOf(a, b);
  if (typeof size === "string")
    return areGrids(a.nest.kernel) && areGrids(b.nest.kernel) && replaced.size === 0
      ? mergeInTurn(a, b, context)
      : size;
  // Where each invocation works alone, several workgroups of them are one grid.
  const alone = [a, b].every(({ team }) => team.kind === "alone") && size > 0;
  const args = a.lowered.args.map((node) => replaced.get(node) ?? node);
  const first = replaced.size === 0 ? a : { ...a, lowered: { ...a.lowered, args } };
  const inB = alone || replaced.size > 0 ? new Set([1]) : new Set(extentsOf(b.nest));
  const extents = extentsOf(a.nest).filter((extent) => inB.has(extent));
  let tries = mostTries;
  let why: string | undefined;
  // Only an extent that divides what is passed on can have blocks of it.
  const passed = a.results.filter((node) => b.lowered.args.includes(node)).map(({ type }) => sizeOf(type.shape));
  for (const extent of extents) {
    if (passed.some((size) => size % extent !== 0)) continue;
    const repeated = (a.repeated + b.repeated) * (extent - 1);
    if (size > 0 ? !paysOffTogether(a, b, extent, size, reads(a, b)) : !paysOff(a, b, extent, repeated)) {
      why ??= `${a.work + b.work + repeated} operations in ${extent} ${extent === 1 ? "iteration" : "iterations"} would cost more than the launch that is saved`;
      continue;
    }
    if (tries === 0 && extent > 1) continue;
    const merged = mergeAt(first, b, { extent, size, meet: replaced.size > 0 }, context);
    if (typeof merged !== "string") return merged;
    why ??= merged;
    tries--;
  }
  return why ?? "no extent in common";
}

/** What forbids a merge whatever the loops are: memory that one writes in place and the other reads. */
export function sharedProblem(a: Candidate, b: Candidate): string | undefined {
  const problem = (one: Candidate, other: Candidate) =>
    [...one.lowered.replaces.values()].some((old) => other.operands.includes(old) || other.results.includes(old));
  return problem(a, b) || problem(b, a) ? "one updates in place what the other reads or writes" : undefined;
}

const none: ReadonlyMap<Node, Node> = new Map();

/** Of what `b` updates in place: rows that `a` reads, by what takes their place. One workgroup does one after the other. */
function replacedAfter(a: Candidate, b: Candidate): ReadonlyMap<Node, Node> {
  const old = new Map([...b.lowered.replaces].map(([next, before]) => [before, next] as const));
  const changed = [...a.results, ...a.lowered.replaces.values(), ...b.lowered.args];
  const fits =
    changed.every((node) => !old.has(node)) &&
    ![...a.lowered.replaces.values()].some((each) => b.operands.includes(each));
  return fits ? old : none;
}

/** Invocations of the workgroups that would run both, or why there are none. */
export function workgroupOf(a: Candidate, b: Candidate): number | string {
  const sizes = [a, b].map(({ team }) => (team.kind === "together" ? team.lanes : 0));
  if ([a, b].some(({ team }) => team.kind === "parts")) return "one is no single grid";
  const size = Math.max(...sizes);
  if (size > 0) return size;
  const most = Math.max(...[a, b].map(({ nest }) => extentOf(nest)));
  return most <= mostAlone && reads(a, b) ? workgroupFor(most, { invocations: mostAlone }) : "no workgroup runs either";
}

function reads(a: Candidate, b: Candidate): boolean {
  return a.results.some((node) => b.lowered.args.includes(node));
}

/** Grids that have nothing to do with each other, one after another in one launch. */
function mergeInTurn(a: Candidate, b: Candidate, context: MergeContext): Candidate | string {
  if (reads(a, b)) return "one reads the other's result";
  const second = renamed(a, b, new Set([...namesOf(a.nest.kernel), ...reservedWords]));
  return sideBySide(a, second, second.nest.kernel.body, context);
}

function sideBySide(a: Candidate, b: Candidate, stmts: readonly Stmt[], context: MergeContext): Candidate | string {
  const { bufs, args } = buffersOf(a, b);
  const body = [...a.nest.kernel.body, ...stmts];
  const large = tooLarge({ bufs, body }, context.target);
  if (large !== undefined) return large;
  const replaces = new Map([...a.lowered.replaces, ...b.lowered.replaces]);
  return candidateOf({ kernel: { ...headOf(a, b), bufs, body }, args, replaces });
}

/**
 * What one workgroup does, run beside a launch by a further workgroup of it, or of its size: it need have nothing to do with
 * it, and takes no time of its own.
 */
export function mergeBeside(a: Candidate, b: Candidate, context: MergeContext): Candidate | string {
  const shared = sharedProblem(a, b);
  if (shared !== undefined) return shared;
  const lanes = ({ team }: Candidate) => (team.kind === "together" ? team.lanes : 0);
  const size = Math.max(lanes(a), lanes(b));
  const fits = a.team.kind !== "parts" && b.team.kind === "together" && extentOf(b.nest) === 1;
  if (!fits || (lanes(a) > 0 && lanes(a) < size)) return "workgroups of other sizes";
  const names = new Set([...namesOf(a.nest.kernel), ...reservedWords]);
  const second = renamed(a, b, names);
  for (const name of namesOf(second.nest.kernel)) names.add(name);
  const lane = freshName(names, "lane");
  names.add(lane);
  const stmts = runTogether(second.nest, second.team, { index: int(0), extent: 1, lane: ref(lane), size, names });
  return sideBySide(a, second, [loop(lane, 0, size, stmts, "workgroup")], context);
}

/**
 * Two grids of workgroups of one size that have nothing to do with each other, in one launch: some workgroups run the one, others
 * the other, where all of them fit on a large GPU at once.
 */
export function mergeTeams(a: Candidate, b: Candidate, context: MergeContext): Candidate | string {
  const shared = sharedProblem(a, b) ?? (reads(a, b) ? "one reads the other's result" : undefined);
  if (shared !== undefined) return shared;
  const [first, second] = [a, b].map(({ team }) => (team.kind === "together" ? team.lanes : 0)) as [number, number]; // of two
  if (first === 0 || first !== second) return "workgroups of other sizes";
  if ((extentOf(a.nest) + extentOf(b.nest)) * first > atOnce) return "more workgroups than run at once";
  const other = renamed(a, b, new Set([...namesOf(a.nest.kernel), ...reservedWords]));
  const merged = sideBySide(a, other, other.nest.kernel.body, context);
  if (typeof merged === "string") return merged;
  const { kernel } = merged.lowered;
  return sharedRoom(kernel.bufs, context.target) < 0 ? "too little shared memory" : (problemOf(kernel) ?? merged);
}

/** Whether a kernel of these buffers needs more bindings than the target has. */
export function tooManyBuffers(bufs: readonly Buf[], { buffers, binding }: Target): boolean {
  const globals = bufs.filter(({ space }) => space === "global");
  const count = globals.reduce((sum, buf) => sum + bindingsOf(bufBytes(buf), binding), 0);
  return count > Math.min(buffers, maxBuffers);
}

export function headOf(
  { nest: { kernel: first } }: Candidate,
  { nest: { kernel: last } }: Candidate,
): Pick<Kernel, "name" | "origin"> {
  const name = `${first.name.replace(/_to_.*/, "")}_to_${last.name.replace(/.*_to_/, "")}`;
  return { name, origin: [...first.origin, ...last.origin] };
}

interface Form {
  readonly extent: number;
  /** Invocations of the workgroup that runs an iteration; 0 where one thread does. */
  readonly size: number;
  /** Whether the second waits for the first although it reads none of its results. */
  readonly meet: boolean;
}

function mergeAt(a: Candidate, b: Candidate, { extent, size, meet }: Form, context: MergeContext): Candidate | string {
  const names = new Set([...namesOf(a.nest.kernel), ...reservedWords]);
  const second = renamed(a, b, names);
  for (const name of namesOf(second.nest.kernel)) names.add(name);
  const i = freshName(names, "i");
  const { bufs, args } = buffersOf(a, second);
  const linked = meet || b.operands.some((node) => a.results.includes(node));
  const stmts =
    size > 0
      ? groupStmts(a, second, { extent, size, i, linked, names })
      : [a, second].flatMap(({ nest }) => iterationOf(nest, extent, ref(i)));
  const whole = { ...headOf(a, b), bufs, body: extent === 1 ? stmts : [loop(i, 0, extent, stmts, "grid")] };
  const passed = bufs.filter((_, at) => a.results.includes(args[at]!) && b.lowered.args.includes(args[at]!));
  const problem = extent === 1 ? undefined : outsideOwn(whole, passed);
  if (problem !== undefined) return problem;
  if (extent > 1 && bothStream(whole, a, second)) return "each iteration would pass over two large operands";
  const kept = keepInside(whole, args, extent, i, keeper(a, b, size > 0, whole, extent, context));
  const large = tooLarge(kept.kernel, context.target);
  if (large !== undefined) return large;
  if (scratchOf(kept.kernel) > context.target.scratchBytes) return "too much scratch";
  // An index loaded from a buffer may be known to be in bounds only where nothing stores to that buffer.
  const outOfBounds = size > 0 || passed.some(({ dtype }) => dtype === "i32") ? problemOf(kept.kernel) : undefined;
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
  return outside && `an iteration would need what another computes: ${outside}`;
}

/**
 * Whether every iteration would pass over large operands of both, such as the weights of two matrix products on rows of
 * tokens: a cache that holds one of them from iteration to iteration does not hold both.
 */
function bothStream(kernel: Kernel, a: Candidate, b: Candidate): boolean {
  const large = (each: Candidate) =>
    globalBufs(each.nest.kernel).filter((buf) => buf.access === "read" && bufBytes(buf) > largeOperand);
  const [grid] = kernel.body;
  if (grid?.k !== "for" || large(a).length === 0 || large(b).length === 0) return false;
  const facts = looseFactsOf(kernel);
  return [a, b].every((each) => [...touchedBlocks(large(each), grid, facts).values()].some(({ outside }) => outside));
}

export function problemOf(kernel: Kernel): string | undefined {
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
  return scratch.reduce((sum, buf) => sum + bufBytes(buf), 0);
}

/** What of a kernel is more than a target has, or than is readable. */
export function tooLarge({ bufs, body }: Pick<Kernel, "bufs" | "body">, target: Target): string | undefined {
  if (tooManyBuffers(bufs, target)) return "too many buffers";
  return countStmts(body) > maxStatements ? `more than ${maxStatements} statements` : undefined;
}

function countStmts(stmts: readonly Stmt[]): number {
  let count = 0;
  eachStmt(stmts, () => count++);
  return count;
}

interface GroupForm extends Omit<Form, "meet"> {
  readonly i: string;
  readonly linked: boolean;
  readonly names: Set<string>;
}

/** What a workgroup runs: the first's part, a barrier if the second reads of it, and the second's part. */
function groupStmts(a: Candidate, b: Candidate, { extent, size, i, linked, names }: GroupForm): readonly Stmt[] {
  names.add(i);
  const lane = freshName(names, "lane");
  names.add(lane);
  const part = ({ nest, team }: Candidate) =>
    runTogether(nest, team, { index: ref(i), extent, lane: ref(lane), size, names });
  return [loop(lane, 0, size, [...part(a), ...(linked ? [barrier] : []), ...part(b)], "workgroup")];
}
