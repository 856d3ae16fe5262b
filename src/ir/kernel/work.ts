/**
 * What a launch of a kernel costs at most, by counting: every loop runs as often as the ranges of its bounds allow. For
 * deciding what to divide over threads and for what a token reads; never for what is right.
 */
import type { Expr, Kernel, Stmt } from "./kernel.ts";
import { multiplyWork } from "./multiply.ts";
import { afterStmt, assume, type Facts, factsOf, insideLoop, rangeOf } from "./range.ts";
import { storageBits } from "./value.ts";
import { exprsOf, operandsOf } from "./walk.ts";

export interface Work {
  /** Operations, loads and stores; one on a vector counts once per four lanes. */
  readonly operations: number;
  /** Bytes read of each buffer: no more than it has. */
  readonly bytesRead: ReadonlyMap<string, number>;
  /** The same of what it writes. */
  readonly bytesWritten: ReadonlyMap<string, number>;
}

const known = new WeakMap<Kernel, Work>();

export function workOf(kernel: Kernel): Work {
  const found = known.get(kernel) ?? countWork(kernel);
  known.set(kernel, found);
  return found;
}

function countWork(kernel: Kernel): Work {
  const [read, written] = [new Map<string, number>(), new Map<string, number>()];
  const sizes = new Map(kernel.bufs.map(({ name, size, dtype }) => [name, (size * storageBits(dtype)) / 8]));
  const bits = new Map(kernel.bufs.map(({ name, dtype }) => [name, storageBits(dtype)]));
  let operations = 0;
  const pass = (totals: Map<string, number>, buf: string, elements: number): void => {
    const bytes = (totals.get(buf) ?? 0) + (elements * bits.get(buf)!) / 8;
    totals.set(buf, Math.min(bytes, sizes.get(buf)!));
  };
  const inExpr = (expr: Expr, times: number): void => {
    if (expr.k === "num" || expr.k === "ref") return;
    operations += times * Math.ceil(expr.type.lanes / 4);
    if (expr.k === "load") pass(read, expr.buf, times * expr.type.lanes);
    for (const operand of operandsOf(expr)) inExpr(operand, times);
  };
  const inBlock = (stmts: readonly Stmt[], outer: Facts, times: number): void => {
    let facts = outer;
    for (const stmt of stmts) {
      for (const expr of exprsOf(stmt)) inExpr(expr, times);
      if (stmt.k === "store") {
        operations += times;
        pass(written, stmt.buf, times * stmt.value.type.lanes);
      }
      if (stmt.k === "multiply") operations += times * multiplyWork(stmt);
      if (stmt.k === "for") {
        const span = rangeOf(stmt.to, facts).hi - rangeOf(stmt.from, facts).lo;
        inBlock(stmt.body, insideLoop(stmt, facts), times * Math.max(0, Math.ceil(span / stmt.step)));
      }
      if (stmt.k === "if") {
        inBlock(stmt.then, assume(stmt.cond, true, facts), times);
        inBlock(stmt.else, assume(stmt.cond, false, facts), times);
      }
      facts = afterStmt(stmt, facts);
    }
  };
  inBlock(kernel.body, factsOf(kernel), 1);
  return { operations, bytesRead: read, bytesWritten: written };
}
