/**
 * Integer expressions as sums: constant + coefficient * term + ..., where a term is whatever is not a sum itself.
 *
 * Addition, subtraction and multiplication wrap, so any regrouping of a sum is exact (modulo 2^32). Division and remainder
 * by a constant are not linear; they are taken apart only where ranges show that no sum inside them wraps:
 *     (c*L + r) / c = L + r / c   and   (c*L + r) % c = r % c     where r >= 0 and c*L + r >= 0
 *     x / b / c = x / (b*c)                                      where x >= 0
 *     c * (x / c) + x % c = x                                    always, also where x / c is written y / (b*c) for x = y / b
 */

import { combine } from "./interval.ts";
import { type Expr, iadd, idiv, imul, int, irem, num, op } from "./kernel.ts";
import { printExpr } from "./print.ts";
import { assume, depthOf, type Facts, fullRange, type Range, rangeOf } from "./range.ts";
import { isIndex } from "./value.ts";
import { isLazyOperand, mapOperands, operandsOf } from "./walk.ts";

/** `times` times the value of `expr`. */
export interface Term {
  readonly expr: Expr;
  readonly times: number;
}

/** A sum; terms by their text. */
interface Linear {
  readonly terms: ReadonlyMap<string, Term>;
  readonly constant: number;
}

const full = fullRange("i32");

/** Which lets to replace by what they stand for. */
type Expand = boolean | ReadonlySet<string>;

/** An i32 expression as a sum of terms, for code that computes addresses; the lets named in `expand` are seen through. */
export function sumOf(
  expr: Expr,
  facts: Facts,
  expand: ReadonlySet<string> = new Set(),
): { readonly terms: readonly Term[]; readonly constant: number } {
  const { terms, constant } = linearOf(expr, facts, expand.size > 0 && expand);
  return { terms: [...terms.values()], constant };
}

/**
 * An equal, simpler expression. Sums come out with the terms that change least often first, which is what loop-invariant
 * code motion wants. `expand` replaces lets by what they stand for, to find more; for analysis only.
 */
export function simplifyExpr(expr: Expr, facts: Facts, expand: Expand = false): Expr {
  const inner = mapOperands(expr, (operand, i) =>
    simplifyExpr(operand, isLazyOperand(expr, i) ? assume(operandsOf(expr)[0]!, i === 1, facts) : facts, expand),
  );
  const { dtype, lanes } = inner.type;
  if (inner.k === "num" || lanes !== 1 || (dtype !== "i32" && dtype !== "bool")) return inner;
  const { lo, hi } = rangeOf(inner, facts);
  if (lo === hi) return num(dtype, lo);
  if (dtype === "bool") return compareSums(inner, facts, expand);
  const simple = build(linearOf(inner, facts, expand), facts);
  return expand !== false || cost(simple) <= cost(inner) ? keep(inner, simple) : inner;
}

/**
 * How much an index grows when the variable does by one; NaN where that is not constant or not plain to see. Within a `run`
 * of values from a multiple of its length on, a quotient by a multiple of that length stays the same.
 */
export function strideIn(expr: Expr, name: string, run = 1): number {
  if (expr.k === "ref") return expr.name === name ? 1 : 0;
  const strides = operandsOf(expr).map((operand) => strideIn(operand, name, run));
  if (strides.every((stride) => stride === 0)) return 0;
  if (expr.k !== "op") return Number.NaN;
  const [a, b] = strides as [number, number]; // add, sub and mul take two operands
  const factor = expr.args[1];
  if (expr.op === "div" && run > 1 && expr.args[0]!.k === "ref" && factor?.k === "num" && factor.value % run === 0)
    return 0;
  if (expr.op === "add") return a + b;
  if (expr.op === "sub") return a - b;
  return expr.op === "mul" && factor?.k === "num" ? a * factor.value : Number.NaN;
}

/** A comparison of two sums, decided by the range of their difference if it can be. */
function compareSums(expr: Expr, facts: Facts, expand: Expand): Expr {
  if (expr.k !== "op" || expr.args.length !== 2 || !isIndex(expr.args[0]!.type)) return expr;
  const [a, b] = expr.args.map((arg) => linearOf(arg, facts, expand));
  if (exactRange(a!, facts) === undefined || exactRange(b!, facts) === undefined) return expr;
  const gap = exactRange(plus(a!, b!, -1), facts);
  if (gap === undefined) return expr;
  const { lo, hi } = combine(expr.op, gap, { lo: 0, hi: 0 });
  return lo === hi ? num("bool", lo) : expr;
}

/** The range of an index, using both its intervals and its normal form. */
export function tightRange(expr: Expr, facts: Facts): Range {
  const plain = rangeOf(expr, facts);
  const simple = rangeOf(simplifyExpr(expr, facts, true), facts);
  return { lo: Math.max(plain.lo, simple.lo), hi: Math.min(plain.hi, simple.hi) };
}

function keep(old: Expr, next: Expr): Expr {
  return printExpr(old) === printExpr(next) ? old : next;
}

function cost(expr: Expr): number {
  if (expr.k === "op") return expr.args.reduce((total, arg) => total + cost(arg), weights[expr.op] ?? 1);
  return expr.k === "load" ? 4 + cost(expr.index) : 0;
}

const weights: Readonly<Record<string, number>> = { add: 1, sub: 1, mul: 2, div: 4, rem: 4 };

function linearOf(expr: Expr, facts: Facts, expand: Expand): Linear {
  if (expr.k === "num") return { terms: new Map(), constant: expr.value };
  if (expr.k === "ref" && (expand === true || (expand !== false && expand.has(expr.name)))) {
    const def = facts.names.get(expr.name)?.def;
    if (def !== undefined) return linearOf(simplifyExpr(def, facts, expand), facts, expand);
  }
  if (expr.k !== "op") return single(expr);
  const [a, b] = expr.args;
  const part = (operand: Expr) => linearOf(operand, facts, expand);
  switch (expr.op) {
    case "add":
      return plus(part(a!), part(b!), 1);
    case "sub":
      return plus(part(a!), part(b!), -1);
    case "neg":
      return plus({ terms: new Map(), constant: 0 }, part(a!), -1);
    case "mul":
      return b!.k === "num" ? plus({ terms: new Map(), constant: 0 }, part(a!), b!.value) : single(expr);
    case "div":
    case "rem":
      return (b!.k === "num" && b!.value > 1 && divide(expr.op, part(a!), b!.value, facts)) || single(expr);
    default:
      return single(expr);
  }
}

function single(expr: Expr): Linear {
  return { terms: new Map([[printExpr(expr), { expr, times: 1 }]]), constant: 0 };
}

/** a + times * b, with quotients and remainders of the same thing put together again. */
function plus(a: Linear, b: Linear, times: number): Linear {
  const terms = new Map(a.terms);
  for (const [key, term] of b.terms) {
    const total = Math.imul(term.times, times) + (terms.get(key)?.times ?? 0);
    if ((total | 0) === 0) terms.delete(key);
    else terms.set(key, { expr: term.expr, times: total | 0 });
  }
  return rejoin({ terms, constant: (a.constant + Math.imul(b.constant, times)) | 0 });
}

function rejoin(sum: Linear): Linear {
  for (const [key, { expr, times }] of sum.terms) {
    if (expr.k !== "op" || expr.op !== "rem" || expr.args[1]!.k !== "num") continue;
    const [whole, divisor] = expr.args;
    const by = expr.args[1]!.value;
    const keys = [idiv(whole!, divisor!), quotientOf("div", whole!, by)].map((each) => printExpr(each));
    const quotient = keys.find((each) => sum.terms.get(each)?.times === Math.imul(times, by));
    if (quotient === undefined) continue;
    const terms = new Map(sum.terms);
    terms.delete(key);
    terms.delete(quotient);
    return plus({ terms, constant: sum.constant }, linearWhole(whole!), times);
  }
  return sum;
}

/** The sum that an already simplified expression is. */
function linearWhole(expr: Expr): Linear {
  if (expr.k === "num") return { terms: new Map(), constant: expr.value };
  if (expr.k !== "op") return single(expr);
  const [a, b] = expr.args;
  if (expr.op === "add") return plus(linearWhole(a!), linearWhole(b!), 1);
  if (expr.op === "mul" && b!.k === "num") return plus({ terms: new Map(), constant: 0 }, linearWhole(a!), b!.value);
  return single(expr);
}

/** The range of a sum before wrapping; undefined where it may wrap. */
function exactRange(sum: Linear, facts: Facts): Range | undefined {
  let { constant: lo, constant: hi } = sum;
  for (const { expr, times } of sum.terms.values()) {
    const range = rangeOf(expr, facts);
    lo += times * (times > 0 ? range.lo : range.hi);
    hi += times * (times > 0 ? range.hi : range.lo);
  }
  return lo >= full.lo && hi <= full.hi ? { lo, hi } : undefined;
}

function divide(name: "div" | "rem", sum: Linear, by: number, facts: Facts): Linear | undefined {
  const range = exactRange(sum, facts);
  if (range === undefined || range.lo < 0) return undefined;
  const whole = new Map<string, Term>();
  const rest = new Map<string, Term>();
  for (const [key, term] of sum.terms) {
    if (term.times % by === 0) whole.set(key, { expr: term.expr, times: term.times / by });
    else rest.set(key, term);
  }
  const quotient = { terms: whole, constant: Math.floor(sum.constant / by) };
  const remainder = { terms: rest, constant: sum.constant - quotient.constant * by };
  const left = exactRange(remainder, facts);
  const apart = left !== undefined && left.lo >= 0 && exactRange(quotient, facts) !== undefined;
  if (!apart) return single(quotientOf(name, build(sum, facts), by));
  if (left.hi < by) return name === "div" ? quotient : remainder;
  const small = single(quotientOf(name, build(remainder, facts), by));
  return name === "div" ? plus(quotient, small, 1) : small;
}

/** x / by or x % by of an x that is not negative. */
function quotientOf(name: "div" | "rem", x: Expr, by: number): Expr {
  if (name === "rem") {
    // x % (a * by) % by = x % by
    const nested = x.k === "op" && x.op === "rem" && x.args[1]!.k === "num" && x.args[1]!.value % by === 0;
    return irem(nested ? x.args[0]! : x, int(by));
  }
  if (x.k === "op" && x.op === "div" && x.args[1]!.k === "num" && x.args[1]!.value * by <= full.hi) {
    return idiv(x.args[0]!, int(x.args[1]!.value * by));
  }
  return idiv(x, int(by));
}

/** The sum as an expression: terms that change in outer loops first, the constant last. */
function build(sum: Linear, facts: Facts): Expr {
  const terms = [...sum.terms.entries()].map(([key, term]) => ({ key, ...term, depth: depthOf(term.expr, facts) }));
  terms.sort(
    (a, b) =>
      a.depth - b.depth ||
      Number(a.times < 0) - Number(b.times < 0) ||
      Math.abs(b.times) - Math.abs(a.times) ||
      compareText(a.key, b.key),
  );
  let total: Expr = int(0);
  for (const { expr, times } of terms) {
    if (times < 0 && times !== full.lo && !(total.k === "num" && total.value === 0)) {
      total = op("sub", total, imul(expr, int(-times)));
    } else total = iadd(total, imul(expr, int(times)));
  }
  return iadd(total, int(sum.constant));
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
