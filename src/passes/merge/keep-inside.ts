/** The buffers of a merged kernel, and which of the values that are passed on need not be in global memory. */
import type { Node } from "../../ir/graph.ts";
import { type Buf, type Expr, imul, int, isub, type Kernel, ref, type Stmt } from "../../ir/kernel/kernel.ts";
import { storageBits } from "../../ir/kernel/value.ts";
import { bufBytes, globalBufs, mapOperands, mapStmt } from "../../ir/kernel/walk.ts";
import type { Target } from "../../ir/target.ts";
import type { Candidate } from "./candidate.ts";

export interface MergeContext {
  readonly target: Target;
  /** Values that something other than the two kernels reads. */
  readonly needed: (node: Node, a: Candidate, b: Candidate) => boolean;
}

/** Shared memory left to what invocations put together. */
const combineBytes = 4096;

/** The buffers of both, those written first; what one stores and the other loads is read and written. */
export function buffersOf(a: Candidate, b: Candidate): { bufs: Buf[]; args: Node[] } {
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
  const scratch = [a, b].flatMap(({ nest }) => nest.kernel.bufs.filter(({ space }) => space !== "global"));
  return { bufs: [...entries.map(([, buf]) => buf), ...scratch], args: entries.map(([node]) => node) };
}

/** Bytes of shared memory that a kernel of these buffers leaves. */
export function sharedRoom(bufs: readonly Buf[], { workgroup }: Target): number {
  const used = bufs.filter(({ space }) => space === "shared").reduce((sum, buf) => sum + bufBytes(buf), 0);
  return (workgroup?.bytes ?? 0) - combineBytes - used;
}

/** Where a merged kernel keeps a value: what nothing outside needs is scratch, or shared where there is room for it. */
export function keeper(
  a: Candidate,
  b: Candidate,
  together: boolean,
  { bufs }: Kernel,
  extent: number,
  { target, needed }: MergeContext,
): (node: Node, buf: Buf) => Buf["space"] {
  let room = sharedRoom(bufs, target);
  return (node, buf) => {
    if (needed(node, a, b)) return "global";
    if (!together) return "scratch";
    // Shared memory holds whole words: smaller ones would not be rounded.
    const own = bufBytes(buf) / extent;
    if (storageBits(buf.dtype) !== 32 || own > room) return "global";
    room -= own;
    return "shared";
  };
}

/** Moves the values that nothing outside needs from global memory: each iteration keeps its own block. */
export function keepInside(
  kernel: Kernel,
  args: readonly Node[],
  extent: number,
  i: string,
  keeps: (node: Node, buf: Buf) => Buf["space"],
): { kernel: Kernel; args: readonly Node[] } {
  const kept = new Map<string, Pick<Buf, "size" | "space">>();
  for (const [at, node] of args.entries()) {
    const buf = kernel.bufs[at]!;
    // Whole elements of bytes, stored as a whole: a value of few bits shares bytes with its neighbours.
    if (buf.access !== "readwrite" || buf.size % extent !== 0 || storageBits(buf.dtype) < 8) continue;
    const space = keeps(node, buf);
    if (space !== "global") kept.set(buf.name, { size: buf.size / extent, space });
  }
  if (kept.size === 0) return { kernel, args };
  const shift = (name: string, index: Expr) =>
    extent === 1 ? index : isub(index, imul(ref(i), int(kept.get(name)!.size)));
  const inExpr = (expr: Expr): Expr => {
    const next = mapOperands(expr, inExpr);
    return next.k === "load" && kept.has(next.buf) ? { ...next, index: shift(next.buf, next.index) } : next;
  };
  const inStmt = (stmt: Stmt): Stmt => {
    const next = mapStmt(stmt, inExpr, (block) => block.map(inStmt));
    return next.k === "store" && kept.has(next.buf) ? { ...next, index: shift(next.buf, next.index) } : next;
  };
  const globals = kernel.bufs.filter((buf) => buf.space === "global" && !kept.has(buf.name));
  const own = kernel.bufs.flatMap((buf): Buf[] => {
    if (buf.space !== "global") return [buf];
    const inside = kept.get(buf.name);
    return inside === undefined ? [] : [{ name: buf.name, dtype: buf.dtype, access: "readwrite", ...inside }];
  });
  return {
    kernel: { ...kernel, bufs: [...globals, ...own], body: kernel.body.map(inStmt) },
    args: args.filter((_, at) => !kept.has(kernel.bufs[at]!.name)),
  };
}
