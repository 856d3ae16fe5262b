/**
 * Simplifies index arithmetic: quotients and remainders that loop bounds decide ((i*64 + j) / 64 is i for j below 64),
 * conditions that are always true or false, sums in normal form. Exact: integers only, floats are left as they are.
 *
 * Works down the loop nest with the ranges of `ir/kernel/range.ts`. A branch that is never taken disappears with its if;
 * so does a loop that never runs.
 */
import { type Kernel, num, type Stmt } from "../../ir/kernel/kernel.ts";
import { simplifyExpr } from "../../ir/kernel/linear.ts";
import { afterStmt, assume, type Facts, factsOf, insideLoop } from "../../ir/kernel/range.ts";
import { when } from "../../ir/kernel/stmt.ts";
import { mapStmt } from "../../ir/kernel/walk.ts";

export function simplifyIndices(kernel: Kernel): Kernel {
  const body = simplifyBlock(kernel.body, factsOf(kernel));
  return body === kernel.body ? kernel : { ...kernel, body };
}

function simplifyBlock(stmts: readonly Stmt[], outer: Facts): readonly Stmt[] {
  let facts = outer;
  const result = stmts.flatMap((stmt) => {
    const next = simplifyStmt(stmt, facts);
    // By the old statement: the ranges of vars were found for its objects.
    facts = afterStmt(stmt, facts);
    return next;
  });
  return result.length === stmts.length && result.every((stmt, i) => stmt === stmts[i]) ? stmts : result;
}

function simplifyStmt(stmt: Stmt, facts: Facts): readonly Stmt[] {
  let side = false;
  const next = mapStmt(
    stmt,
    (expr) => simplifyExpr(expr, facts),
    (block) => {
      if (stmt.k === "for") return simplifyBlock(block, insideLoop(stmt, facts));
      if (stmt.k !== "if") return block;
      side = !side;
      return simplifyBlock(block, assume(stmt.cond, side, facts));
    },
  );
  if (next.k === "for" && next.from.k === "num" && next.to.k === "num" && next.from.value >= next.to.value) return [];
  if (next.k !== "if") return [next];
  if (next.then.length + next.else.length === 0) return [];
  if (next.cond.k !== "num") return [next];
  // The branch taken keeps its own scope where it binds names.
  const taken = next.cond.value !== 0 ? next.then : next.else;
  const binds = taken.some((inner) => inner.k === "let" || inner.k === "var");
  if (!binds) return taken;
  return next.cond.value !== 0 && next.else.length === 0 ? [next] : [when(num("bool", 1), taken)];
}
