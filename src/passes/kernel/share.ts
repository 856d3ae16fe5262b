/**
 * Common subexpressions of a block, each computed once: the largest expressions first, a let before the first statement
 * that needs one. Exact, since expressions are pure; one that could change inside the block (its vars are set there, its
 * buffers stored to) is left alone, and a load is moved only where its first evaluation was certain anyway.
 */
import { type Expr, type Let, ref, type Stmt } from "../../ir/kernel/kernel.ts";
import { printExpr } from "../../ir/kernel/print.ts";
import { bind } from "../../ir/kernel/stmt.ts";
import {
  blocksOf,
  boundName,
  eachStmt,
  exprsOf,
  isLazyOperand,
  mapOperands,
  mapStmt,
  operandsOf,
  writesOf,
} from "../../ir/kernel/walk.ts";

interface Seen {
  readonly expr: Expr;
  /** Index in the block of the first statement that contains it. */
  readonly first: number;
  /** Whether that statement evaluates it whatever happens. */
  readonly certain: boolean;
  /** The buffer whose index it is part of. */
  readonly indexOf: string | undefined;
  count: number;
}

/** Makes a name that the kernel does not have yet, for a value that may be part of an index of a buffer. */
export type FreshName = (expr: Expr, indexOf?: string) => string;

export function shareBlock(block: readonly Stmt[], fresh: FreshName): readonly Stmt[] {
  let stmts = block;
  for (;;) {
    const next = shareLargest(stmts, fresh);
    if (next === stmts) return stmts;
    stmts = next;
  }
}

function shareLargest(stmts: readonly Stmt[], fresh: FreshName): readonly Stmt[] {
  const seen = countExprs(stmts);
  const repeated = [...seen].filter(([, { expr, count, certain }]) => count > 1 && (certain || !hasLoad(expr)));
  const size = Math.max(...repeated.map(([, { expr }]) => sizeOf(expr)));
  const chosen = repeated.filter(([, { expr }]) => sizeOf(expr) === size);
  if (chosen.length === 0) return stmts;
  const names = new Map<string, Expr>();
  const added = new Map<number, Let[]>();
  const existing = new Set<Stmt>();
  for (const [key, { expr, first, indexOf }] of chosen) {
    const stmt = stmts[first]!;
    if (stmt.k === "let" && printExpr(stmt.value) === key) {
      // Bound already: later occurrences take its name.
      names.set(key, ref(stmt.name, expr.type));
      existing.add(stmt);
      continue;
    }
    const name = fresh(expr, indexOf);
    names.set(key, ref(name, expr.type));
    added.set(first, [...(added.get(first) ?? []), bind(name, expr)]);
  }
  const replace = (expr: Expr): Expr =>
    sizeOf(expr) < size ? expr : (names.get(printExpr(expr)) ?? mapOperands(expr, replace));
  const replaced = stmts.flatMap((stmt, i) => [
    ...(added.get(i) ?? []),
    existing.has(stmt) ? stmt : mapExprs(stmt, replace),
  ]);
  return dropCopies(replaced);
}

/** How often each expression worth sharing occurs in a block and the blocks inside it. */
function countExprs(stmts: readonly Stmt[]): Map<string, Seen> {
  const { vars, bufs } = writesOf(stmts);
  const hidden = new Set<string>(vars);
  for (const stmt of stmts) {
    if (stmt.k === "for") hidden.add(stmt.name);
    for (const block of blocksOf(stmt)) eachStmt(block, (inner) => void hidden.add(boundName(inner) ?? ""));
  }
  const seen = new Map<string, Seen>();
  const visit = (expr: Expr, first: number, certain: boolean, indexOf?: string) => {
    if (sizeOf(expr) < 2) return;
    if (!mentions(expr, hidden, bufs)) {
      const key = printExpr(expr);
      const known = seen.get(key);
      if (known === undefined) seen.set(key, { expr, first, certain, indexOf, count: 1 });
      else known.count++;
    }
    const inside = expr.k === "load" ? expr.buf : indexOf;
    for (const [i, operand] of operandsOf(expr).entries()) {
      visit(operand, first, certain && !isLazyOperand(expr, i), inside);
    }
  };
  stmts.forEach((stmt, i) => {
    for (const expr of exprsOf(stmt)) visit(expr, i, true);
    for (const block of blocksOf(stmt)) {
      eachStmt(block, (inner) => {
        for (const expr of exprsOf(inner)) visit(expr, i, false);
      });
    }
  });
  return seen;
}

/** Removes lets that only rename another let or loop variable. */
function dropCopies(stmts: readonly Stmt[]): readonly Stmt[] {
  const vars = new Set(stmts.filter((stmt) => stmt.k === "var").map((stmt) => stmt.name));
  const lets = new Set(stmts.filter((stmt) => stmt.k === "let").map((stmt) => stmt.name));
  const copies = new Map<string, Expr>();
  const kept = stmts.filter((stmt) => {
    if (stmt.k !== "let" || stmt.value.k !== "ref" || vars.has(stmt.value.name) || !lets.has(stmt.value.name))
      return true;
    copies.set(stmt.name, copies.get(stmt.value.name) ?? stmt.value);
    return false;
  });
  return copies.size === 0 ? stmts : kept.map((stmt) => mapExprs(stmt, (expr) => substitute(expr, copies)));
}

export function substitute(expr: Expr, by: ReadonlyMap<string, Expr>): Expr {
  if (expr.k === "ref") return by.get(expr.name) ?? expr;
  return mapOperands(expr, (operand) => substitute(operand, by));
}

/** The statement with `f` applied to its expressions and to those of the statements inside it. */
export function mapExprs(stmt: Stmt, f: (expr: Expr) => Expr): Stmt {
  return mapStmt(stmt, f, (block) => {
    const next = block.map((inner) => mapExprs(inner, f));
    return next.every((inner, i) => inner === block[i]) ? block : next;
  });
}

/** Whether an expression mentions one of these names or loads from one of these buffers. */
export function mentions(expr: Expr, names: ReadonlySet<string>, bufs: ReadonlySet<string>): boolean {
  if (expr.k === "ref") return names.has(expr.name);
  if (expr.k === "load" && bufs.has(expr.buf)) return true;
  return operandsOf(expr).some((operand) => mentions(operand, names, bufs));
}

export function hasLoad(expr: Expr): boolean {
  return expr.k === "load" || operandsOf(expr).some(hasLoad);
}

/** What sharing saves: one for each op, two for a load. */
function sizeOf(expr: Expr): number {
  const own = expr.k === "load" ? 2 : expr.k === "op" || expr.k === "sum" || expr.k === "intrinsic" ? 1 : 0;
  return operandsOf(expr).reduce((total, operand) => total + sizeOf(operand), own);
}
