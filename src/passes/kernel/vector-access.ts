/** Whether iterations of a loop can run together in lanes, by what they read and write. */
import type { Expr, For } from "../../ir/kernel/kernel.ts";
import { sumOf } from "../../ir/kernel/linear.ts";
import { printExpr } from "../../ir/kernel/print.ts";
import { afterStmt, type Facts, rangeOf } from "../../ir/kernel/range.ts";
import { exprsOf, operandsOf } from "../../ir/kernel/walk.ts";

/**
 * Four iterations at once may not change what one reads or writes: accesses to a buffer that the loop stores to are at
 * the same element in every iteration, or never meet because they are further apart than the loop is long. `facts` hold
 * inside the loop, `outer` around it; `lets` are parts of indices.
 */
export function canRunTogether(given: For, facts: Facts, outer: Facts, lets: ReadonlySet<string>): boolean {
  const length = rangeOf(given.to, outer).hi - rangeOf(given.from, outer).lo;
  const indices = new Map<string, { terms: string; constant: number; stores: boolean }[]>();
  let now = facts;
  const add = (buf: string, index: Expr, stores: boolean) => {
    const { terms, constant } = sumOf(index, now, lets);
    const text = terms.map(({ expr, times }) => `${printExpr(expr)}*${times}`).sort();
    indices.set(buf, [...(indices.get(buf) ?? []), { terms: text.join(), constant, stores }]);
  };
  const inExpr = (expr: Expr): void => {
    if (expr.k === "load") add(expr.buf, expr.index, false);
    for (const operand of operandsOf(expr)) inExpr(operand);
  };
  for (const stmt of given.body) {
    for (const expr of exprsOf(stmt)) inExpr(expr);
    if (stmt.k === "store") add(stmt.buf, stmt.index, true);
    now = afterStmt(stmt, now);
  }
  for (const accesses of indices.values()) {
    for (const { terms, constant } of accesses.filter(({ stores }) => stores)) {
      for (const other of accesses) {
        const gap = Math.abs(other.constant - constant);
        if (other.terms !== terms || (gap !== 0 && gap < length)) return false;
      }
    }
  }
  // A sum is read by nothing but itself, and set once.
  return given.body.every((stmt) => {
    if (stmt.k !== "set") return true;
    const named = (each: string) => each === stmt.name;
    const reads = given.body.flatMap(exprsOf).reduce((total, expr) => total + countOf(expr, named), 0);
    return reads === 1 && given.body.filter((other) => other.k === "set" && other.name === stmt.name).length === 1;
  });
}

function countOf(expr: Expr, named: (name: string) => boolean): number {
  const own = expr.k === "ref" && named(expr.name) ? 1 : 0;
  return operandsOf(expr).reduce((total, operand) => total + countOf(operand, named), own);
}
