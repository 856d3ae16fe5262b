/**
 * Which part of a buffer each iteration of a loop touches. Iteration k of a loop *owns* block k of a buffer, an equal share
 * of its elements: [k * S, (k + 1) * S) where S is size / iterations. Iterations that touch only what they own are
 * independent, whatever order or thread they run in.
 */
import { type Buf, type Expr, type For, iadd, imul, int, isub, ref, type Stmt } from "./kernel.ts";
import { tightRange } from "./linear.ts";
import { matricesOf } from "./multiply.ts";
import { printExpr } from "./print.ts";
import { afterStmt, assume, type Facts, insideLoop } from "./range.ts";
import { blocksOf, exprsOf, isLazyOperand, operandsOf } from "./walk.ts";

/** A load or store of `lanes` elements from `index`, with what is known there. */
export interface Access {
  readonly buf: string;
  readonly index: Expr;
  readonly lanes: number;
  readonly stores: boolean;
  /** Of a matrix: elements from a row to the next; `lanes` are all from its first to its last. */
  readonly stride?: number;
  readonly facts: Facts;
}

/** Calls `visit` for every access in these statements; `facts` hold before them. */
export function eachAccess(stmts: readonly Stmt[], facts: Facts, visit: (access: Access) => void): void {
  let now = facts;
  const inExpr = (expr: Expr, known: Facts): void => {
    if (expr.k === "load")
      visit({ buf: expr.buf, index: expr.index, lanes: expr.type.lanes, stores: false, facts: known });
    for (const [i, operand] of operandsOf(expr).entries())
      inExpr(operand, isLazyOperand(expr, i) ? assume(operandsOf(expr)[0]!, i === 1, known) : known);
  };
  for (const stmt of stmts) {
    for (const expr of exprsOf(stmt)) inExpr(expr, now);
    if (stmt.k === "store")
      visit({ buf: stmt.buf, index: stmt.index, lanes: stmt.value.type.lanes, stores: true, facts: now });
    for (const { at, reach, stores } of stmt.k === "multiply" ? matricesOf(stmt) : [])
      visit({ buf: at.buf, index: at.index, lanes: reach, stores, stride: at.stride, facts: now });
    for (const [side, block] of blocksOf(stmt).entries()) {
      const inner =
        stmt.k === "for" ? insideLoop(stmt, now) : stmt.k === "if" ? assume(stmt.cond, side === 0, now) : now;
      eachAccess(block, inner, visit);
    }
    now = afterStmt(stmt, now);
  }
}

/** What the iterations of a loop do with one buffer. */
export interface Touched {
  readonly loaded: boolean;
  readonly stored: boolean;
  /** The first access that is not proved to stay in its iteration's own block, as text. */
  readonly outside: string | undefined;
}

/** Iterations of a loop with constant bounds. */
export function iterationsOf({ from, to, step }: For): number | undefined {
  if (from.k !== "num" || to.k !== "num") return undefined;
  return Math.max(0, Math.ceil((to.value - from.value) / step));
}

/** What a loop does with each of these buffers; `facts` hold before it. */
export function touchedBlocks(bufs: readonly Buf[], loop: For, facts: Facts): Map<string, Touched> {
  const touched = new Map<string, Touched>();
  if (bufs.length === 0) return touched;
  const byName = new Map(bufs.map((buf) => [buf.name, buf]));
  eachAccess(loop.body, insideLoop(loop, facts), (access) => {
    const buf = byName.get(access.buf);
    if (buf === undefined) return;
    const known = touched.get(buf.name) ?? { loaded: false, stored: false, outside: undefined };
    const outside = known.outside ?? (staysInBlock(access, buf, loop) ? undefined : shown(access));
    touched.set(buf.name, {
      loaded: known.loaded || !access.stores,
      stored: known.stored || access.stores,
      outside,
    });
  });
  return touched;
}

function shown({ buf, index }: Access): string {
  return `${buf}[${printExpr(index)}]`;
}

/** Whether an access inside a loop is proved to be to the block that its iteration owns. */
function staysInBlock({ index, lanes, facts }: Access, buf: Buf, loop: For): boolean {
  const count = iterationsOf(loop);
  if (facts.dead || count === 1) return true;
  if (count === undefined || count === 0 || buf.size % count !== 0) return false;
  const size = buf.size / count;
  if (size % loop.step !== 0) return false;
  // The variable grows by `step` per iteration.
  const first = imul(isub(ref(loop.name), loop.from), int(size / loop.step));
  const { lo, hi } = tightRange(iadd(index, imul(first, int(-1))), facts);
  return lo >= 0 && hi + lanes <= size;
}
