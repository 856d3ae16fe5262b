/**
 * Loop-invariant code motion. From the innermost loop outwards: each largest expression of a loop's body that nothing in
 * the body changes becomes a let before the loop, and lets of such values move there whole; then expressions that occur
 * more than once in the block are shared (`share.ts`).
 *
 * Expressions are pure and arithmetic does not fail, so only loads need care: a load leaves a loop only if it is evaluated
 * in every iteration and the loop certainly runs; a load in a branch of a select or an if stays behind its condition.
 * Exact: every value is computed by the same operations.
 */
import { type Expr, type For, type Kernel, type Let, ref, type Stmt } from "../../ir/kernel/kernel.ts";
import { printExpr, reservedWords } from "../../ir/kernel/print.ts";
import { afterStmt, assume, type Facts, factsOf, insideLoop, rangeOf } from "../../ir/kernel/range.ts";
import { bind } from "../../ir/kernel/stmt.ts";
import { isIndex } from "../../ir/kernel/value.ts";
import { boundName, eachStmt, isLazyOperand, mapOperands, mapStmt, namesOf, writesOf } from "../../ir/kernel/walk.ts";
import { type FreshName, hasLoad, mapExprs, mentions, shareBlock, substitute } from "./share.ts";

interface Names {
  readonly fresh: FreshName;
  /** Names that more than one statement binds; a let of such a name is renamed where it moves. */
  readonly reused: ReadonlySet<string>;
}

export function hoistInvariants(kernel: Kernel): Kernel {
  const body = hoistBlock(kernel.body, factsOf(kernel), namesFor(kernel));
  return body === kernel.body ? kernel : { ...kernel, body };
}

function namesFor(kernel: Kernel): Names {
  const used = namesOf(kernel);
  const once = new Set<string>();
  const reused = new Set<string>();
  eachStmt(kernel.body, (stmt) => {
    const name = boundName(stmt);
    if (name !== undefined) (once.has(name) ? reused : once).add(name);
  });
  const fresh: FreshName = (expr, indexOf) => {
    const base = baseName(expr, indexOf);
    let name = base;
    for (let i = 2; used.has(name) || reservedWords.has(name); i++) name = `${base}${i}`;
    used.add(name);
    return name;
  };
  return { fresh, reused };
}

/** A name that says what a value is: after the buffer it is loaded from or is an index of, otherwise after its type. */
function baseName(expr: Expr, indexOf: string | undefined): string {
  if (expr.k === "load") return `${expr.buf}_at`;
  if (expr.k === "cast") return baseName(expr.value, indexOf);
  if (expr.type.dtype === "bool") return "holds";
  if (expr.type.dtype !== "i32") return "value";
  return indexOf === undefined ? "offset" : `${indexOf}_base`;
}

function hoistBlock(stmts: readonly Stmt[], outer: Facts, names: Names): readonly Stmt[] {
  let facts = outer;
  const result: Stmt[] = [];
  for (const stmt of stmts) {
    if (stmt.k === "for") result.push(...hoistLoop(stmt, facts, names));
    else {
      let side = false;
      const inner = (block: readonly Stmt[]) => {
        side = !side;
        return hoistBlock(block, stmt.k === "if" ? assume(stmt.cond, side, facts) : facts, names);
      };
      result.push(mapStmt(stmt, (expr) => expr, inner));
    }
    facts = afterStmt(stmt, facts);
  }
  const same = result.length === stmts.length && result.every((stmt, i) => stmt === stmts[i]);
  return shareBlock(same ? stmts : result, names.fresh);
}

/** The lets that leave the loop, and the loop. */
function hoistLoop(loop: For, facts: Facts, names: Names): readonly Stmt[] {
  const inside = insideLoop(loop, facts);
  const body = hoistBlock(loop.body, inside, names);
  const { vars, bufs } = writesOf(body);
  const changing = new Set([loop.name, ...vars]);
  eachStmt(body, (stmt) => changing.add(boundName(stmt) ?? loop.name));
  const runs = certainlyRuns(loop, facts);
  const moved: Let[] = [];
  const known = new Map<string, Expr>();
  const renamed = new Map<string, Expr>();

  /** `certain`: evaluated whenever the loop runs. `indexOf`: the buffer it is part of an index of. */
  const extract = (expr: Expr, certain: boolean, indexOf?: string): Expr => {
    if (isTrivial(expr)) return expr;
    if (!mentions(expr, changing, bufs) && (certain || !hasLoad(expr))) {
      const key = printExpr(expr);
      const found = known.get(key);
      if (found !== undefined) return found;
      const name = names.fresh(expr, indexOf);
      moved.push(bind(name, expr));
      const made = ref(name, expr.type);
      known.set(key, made);
      return made;
    }
    return mapOperands(expr, (operand, i) =>
      extract(operand, certain && !isLazyOperand(expr, i), expr.k === "load" ? expr.buf : indexOf),
    );
  };
  const visit = (stmt: Stmt, certain: boolean): Stmt =>
    mapStmt(
      stmt,
      (expr) => extract(expr, certain, stmt.k === "store" && expr === stmt.index ? stmt.buf : undefined),
      (block) => {
        const next = block.map((inner) => visit(inner, false));
        return next.every((inner, i) => inner === block[i]) ? block : next;
      },
    );

  const rest: Stmt[] = [];
  for (const old of body) {
    const stmt = renamed.size === 0 ? old : mapExprs(old, (expr) => substitute(expr, renamed));
    const leaves = stmt.k === "let" && !mentions(stmt.value, changing, bufs) && (runs || !hasLoad(stmt.value));
    if (!leaves) {
      rest.push(visit(stmt, runs));
      continue;
    }
    const name = names.reused.has(stmt.name) ? names.fresh(stmt.value) : stmt.name;
    if (name === stmt.name) changing.delete(name);
    else renamed.set(stmt.name, ref(name, stmt.value.type));
    moved.push(name === stmt.name ? stmt : bind(name, stmt.value));
    known.set(printExpr(stmt.value), ref(name, stmt.value.type));
  }
  if (moved.length === 0 && body === loop.body) return [loop];
  return [...moved, { ...loop, body: rest }];
}

/** Names, constants, and an index a fixed distance from a name: not worth a let. */
function isTrivial(expr: Expr): boolean {
  if (expr.k === "num" || expr.k === "ref") return true;
  return (
    expr.k === "op" && expr.op === "add" && expr.args[0]!.k === "ref" && isIndex(expr.type) && expr.args[1]!.k === "num"
  );
}

function certainlyRuns(loop: For, facts: Facts): boolean {
  return rangeOf(loop.from, facts).hi < rangeOf(loop.to, facts).lo;
}
