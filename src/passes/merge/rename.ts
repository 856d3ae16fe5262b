/** Two kernels in one scope: the second takes the first one's names for the values they share, and no other name of it. */
import type { Expr, Kernel, Stmt } from "../../ir/kernel/kernel.ts";
import { mapMatrices } from "../../ir/kernel/multiply.ts";
import { boundName, globalBufs, mapOperands, mapStmt, namesOf } from "../../ir/kernel/walk.ts";
import type { Candidate } from "./candidate.ts";
import { freshName, type Nest } from "./nest.ts";

/** The second kernel with the first one's names for the values they share, and no other name of it. */
export function renamed(a: Candidate, b: Candidate, taken: ReadonlySet<string>): Candidate {
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
  if (next.k === "multiply") return mapMatrices(next, (at) => ({ ...at, buf: to(at.buf) }));
  return boundName(next) !== undefined || next.k === "set"
    ? ({ ...next, name: to((next as { name: string }).name) } as Stmt)
    : next; // these have a name
}

function renameExpr(expr: Expr, to: (name: string) => string): Expr {
  const next = mapOperands(expr, (operand) => renameExpr(operand, to));
  if (next.k === "ref") return to(next.name) === next.name ? next : { ...next, name: to(next.name) };
  return next.k === "load" && to(next.buf) !== next.buf ? { ...next, buf: to(next.buf) } : next;
}
