/**
 * Innermost loops in steps of four lanes. A loop qualifies if its statements are lets, stores and sums, and every access
 * either runs along memory (its index grows by one per iteration) or does not vary. The loop becomes
 *
 *     for i in from .. middle step 4 { four lanes }      middle = from + (to - from) / 4 * 4
 *     for i in middle .. to { as before }
 *
 * A sum (or maximum) gets a vector of partial ones, added up between the two loops. That reassociates, so the pass is not
 * exact; products added to a sum become `fma`, which may or may not round the product. Everything else is computed by
 * the same operations, but exp and sigmoid of lanes have their own error on a device.
 */

import { divisorOf } from "../../ir/kernel/divisor.ts";
import {
  type Expr,
  extract,
  type For,
  iadd,
  idiv,
  imul,
  int,
  intrinsic,
  isub,
  type Kernel,
  load,
  num,
  op,
  ref,
  type Set_,
  type Stmt,
  splat,
  sum,
} from "../../ir/kernel/kernel.ts";
import { sumOf } from "../../ir/kernel/linear.ts";
import { reservedWords } from "../../ir/kernel/print.ts";
import { afterStmt, assume, type Facts, factsOf, insideLoop, rangeOf } from "../../ir/kernel/range.ts";
import { assign, bind, loop, store, variable } from "../../ir/kernel/stmt.ts";
import { isPackedValue, valueType } from "../../ir/kernel/value.ts";
import { mapStmt, namesOf, operandsOf } from "../../ir/kernel/walk.ts";
import { hasLoad } from "./share.ts";
import { canRunTogether } from "./vector-access.ts";

const lanes = 4;

export function vectorizeLoops(kernel: Kernel): Kernel {
  const used = namesOf(kernel);
  const fresh = (base: string): string => {
    let name = base;
    for (let i = 2; used.has(name) || reservedWords.has(name); i++) name = `${base}${i}`;
    used.add(name);
    return name;
  };
  const body = vectorizeBlock(kernel.body, factsOf(kernel), fresh);
  return body === kernel.body ? kernel : { ...kernel, body };
}

type Fresh = (base: string) => string;

function vectorizeBlock(stmts: readonly Stmt[], outer: Facts, fresh: Fresh): readonly Stmt[] {
  let facts = outer;
  const result = stmts.flatMap((stmt): readonly Stmt[] => {
    const here = facts;
    facts = afterStmt(stmt, facts);
    if (stmt.k === "for" && isInnermost(stmt)) return vectorizeLoop(stmt, here, fresh) ?? [stmt];
    let side = false;
    return [
      mapStmt(
        stmt,
        (expr) => expr,
        (block) => {
          if (stmt.k === "for") return vectorizeBlock(block, insideLoop(stmt, here), fresh);
          side = !side;
          return stmt.k === "if" ? vectorizeBlock(block, assume(stmt.cond, side, here), fresh) : block;
        },
      ),
    ];
  });
  return result.length === stmts.length && result.every((stmt, i) => stmt === stmts[i]) ? stmts : result;
}

function isInnermost(stmt: For): boolean {
  return stmt.step === 1 && stmt.body.every(({ k }) => k === "let" || k === "set" || k === "store" || k === "note");
}

/** A sum over the iterations of a loop: `name = name op value`. */
interface Reduction {
  readonly stmt: Set_;
  readonly op: "add" | "max" | "min";
  readonly value: Expr;
}

interface Loop {
  readonly loop: For;
  readonly facts: Facts;
  /** Names of the body's lets. */
  readonly lets: ReadonlySet<string>;
  /** Those that are parts of indices: they stay scalars. */
  readonly indices: ReadonlySet<string>;
  readonly reductions: ReadonlyMap<string, Reduction>;
}

/** What a loop that cannot be done in lanes throws. */
class NotVector extends Error {}

function refuse(): never {
  throw new NotVector();
}

function vectorizeLoop(given: For, outer: Facts, fresh: Fresh): readonly Stmt[] | undefined {
  const { from, to } = given;
  const constant = from.k === "num" && to.k === "num";
  const count = constant ? to.value - from.value : Number.NaN;
  if (rangeOf(to, outer).hi - rangeOf(from, outer).lo < lanes) return undefined;
  // A divided grid loop must stay one loop.
  if ((given.how === "grid" && count % lanes !== 0) || (given.how === "grid" && !constant)) return undefined;
  if (given.how !== "serial" && given.how !== "grid" && given.how !== "unroll") return undefined;
  let facts = insideLoop(given, outer);
  const lets = new Set<string>();
  const indices = new Set<string>();
  const reductions = new Map<string, Reduction>();
  for (const stmt of given.body) {
    if (stmt.k === "let") lets.add(stmt.name);
    if (stmt.k === "let" && stmt.value.type.dtype === "i32" && !hasLoad(stmt.value)) indices.add(stmt.name);
    if (stmt.k === "set") reductions.set(stmt.name, reductionOf(stmt) ?? { stmt, op: "add", value: stmt.value });
  }
  const partial = new Map([...reductions].map(([name]) => [name, fresh(`${name}_lanes`)]));
  try {
    if (!canRunTogether(given, facts, outer, indices)) refuse();
    const body: Stmt[] = [];
    for (const stmt of given.body) {
      const context: Loop = { loop: given, facts, lets, indices, reductions };
      body.push(vectorStmt(context, stmt, partial));
      facts = afterStmt(stmt, facts);
    }
    const middle = constant ? int(from.value + Math.floor(count / lanes) * lanes) : undefined;
    const span = op("max", isub(to, from), int(0));
    const bound = middle === undefined ? fresh("middle") : "";
    const end = middle ?? ref(bound);
    const sums = [...reductions.values()];
    return [
      ...(middle === undefined ? [bind(bound, iadd(from, imul(idiv(span, int(lanes)), int(lanes))))] : []),
      ...sums.map(({ stmt, op: name }) => variable(partial.get(stmt.name)!, splat(identity(name, stmt), lanes))),
      loop(given.name, from, end, body, given.how, lanes),
      ...sums.map(({ stmt, op: name }) =>
        assign(stmt.name, op(name, ref(stmt.name, stmt.value.type), combined(name, partial.get(stmt.name)!, stmt))),
      ),
      ...(constant && count % lanes === 0 ? [] : [{ ...given, from: end }]),
    ];
  } catch (error) {
    if (error instanceof NotVector) return undefined;
    throw error;
  }
}

function identity(name: Reduction["op"], { value }: Set_): Expr {
  const { dtype } = value.type;
  if (name === "add") return num(dtype, 0);
  return num(dtype, name === "max" ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY);
}

function combined(name: Reduction["op"], vector: string, { value }: Set_): Expr {
  const all = ref(vector, valueType(value.type.dtype, lanes));
  if (name === "add") return sum(all);
  return [1, 2, 3].reduce<Expr>((most, lane) => op(name, most, extract(all, lane)), extract(all, 0));
}

/** `s = s + x`, `x + s`, and the same with max and min, of f32 or i32. */
function reductionOf(stmt: Set_): Reduction | undefined {
  const { value, name } = stmt;
  if (value.k !== "op" || (value.type.dtype !== "f32" && value.type.dtype !== "i32")) return undefined;
  if (value.op !== "add" && value.op !== "max" && value.op !== "min") return undefined;
  const own = value.args.findIndex((arg) => arg.k === "ref" && arg.name === name);
  if (own === -1) return undefined;
  return { stmt, op: value.op, value: value.args[1 - own]! };
}

function vectorStmt(context: Loop, stmt: Stmt, partial: ReadonlyMap<string, string>): Stmt {
  switch (stmt.k) {
    case "let":
      if (context.indices.has(stmt.name)) return stmt;
      return bind(stmt.name, vectorExpr(context, stmt.value));
    case "set": {
      const found = reductionOf(stmt);
      if (found === undefined) return refuse();
      const name = partial.get(stmt.name)!;
      const own = ref(name, valueType(stmt.value.type.dtype, lanes));
      const { value } = found;
      if (found.op === "add" && value.k === "op" && value.op === "mul" && value.type.dtype === "f32") {
        const [a, b] = value.args.map((arg) => vectorExpr(context, arg));
        return assign(name, intrinsic("fma", a!, b!, own));
      }
      return assign(name, op(found.op, own, vectorExpr(context, value)));
    }
    case "store": {
      const buf = context.facts.bufs.get(stmt.buf)!;
      if (strideOf(context, stmt.index) !== 1 || buf.dtype === "f64" || buf.dtype === "i4" || buf.dtype === "u4")
        return refuse();
      return store(buf, stmt.index, vectorExpr(context, stmt.value));
    }
    default:
      return stmt;
  }
}

/** How far the index moves per iteration: 1 or 0; anything else is refused. */
function strideOf({ loop: own, lets, indices, facts, reductions }: Loop, index: Expr): 0 | 1 {
  const { terms } = sumOf(index, facts, indices);
  let stride = 0;
  for (const { expr, times } of terms) {
    if (expr.k === "ref" && expr.name === own.name) stride = times;
    else if (mentions(expr, (name) => name === own.name || lets.has(name) || reductions.has(name))) return refuse();
  }
  return stride === 0 || stride === 1 ? stride : refuse();
}

/** Whether the index is even whenever the loop has done a multiple of four iterations. */
function beginsEven({ loop: own, facts, indices }: Loop, index: Expr): boolean {
  const { terms, constant } = sumOf(index, facts, indices);
  const others = terms.filter(({ expr }) => !(expr.k === "ref" && expr.name === own.name));
  return [own.from, int(constant), ...others.map(({ expr, times }) => imul(expr, int(times)))].every(
    (part) => divisorOf(part, facts) % 2 === 0,
  );
}

function mentions(expr: Expr, named: (name: string) => boolean): boolean {
  return (expr.k === "ref" && named(expr.name)) || operandsOf(expr).some((operand) => mentions(operand, named));
}

/** The expression for four iterations. */
function vectorExpr(context: Loop, expr: Expr): Expr {
  const { lets, loop: own, facts, reductions } = context;
  if (expr.type.lanes !== 1 || expr.type.dtype === "f64" || isPackedValue(expr.type.dtype)) return refuse();
  const varying = (name: string) => name === own.name || lets.has(name) || reductions.has(name);
  if (!mentions(expr, varying) && !hasLoad(expr)) return splat(expr, lanes);
  switch (expr.k) {
    case "ref":
      return lets.has(expr.name) && !context.indices.has(expr.name)
        ? ref(expr.name, valueType(expr.type.dtype, lanes))
        : refuse();
    case "load": {
      const buf = facts.bufs.get(expr.buf)!;
      if (strideOf(context, expr.index) === 0) return splat(expr, lanes);
      // Four codes of 4 bits are two whole bytes.
      const halves = buf.dtype === "i4" || buf.dtype === "u4";
      const slow = buf.dtype === "f64" || (halves && !beginsEven(context, expr.index));
      return slow ? refuse() : load(buf, expr.index, lanes);
    }
    case "cast":
      return { k: "cast", type: valueType(expr.type.dtype, lanes), value: vectorExpr(context, expr.value) };
    case "op": {
      const [condition, ...branches] = expr.args;
      if (expr.op === "select" && !mentions(condition!, varying) && !hasLoad(condition!)) {
        return op("select", condition!, ...branches.map((branch) => vectorExpr(context, branch)));
      }
      // Both branches of a select in lanes are evaluated.
      if (expr.op === "select" && branches.some(hasLoad)) return refuse();
      if ((expr.op === "div" || expr.op === "rem") && expr.type.dtype !== "f32") return refuse();
      return op(expr.op, ...expr.args.map((arg) => vectorExpr(context, arg)));
    }
    default:
      return refuse();
  }
}
