/**
 * Integer ranges of kernel expressions, by interval arithmetic over loop bounds, storage types and enclosing conditions.
 * A condition refines the range of an expression (found by its text) only where that cannot change while it is in force: no
 * var, no load from a buffer that the kernel stores to. A let of such a value is transparent to later conditions.
 */
import { gcd } from "../gcd.ts";
import { dtypeInfo } from "../types.ts";
import { anything, bit, combine, type Range } from "./interval.ts";
import type { Buf, Expr, For, Kernel, Stmt, Var } from "./kernel.ts";
import { printExpr } from "./print.ts";
import { isIntValue, isPackedValue, type PackedDType, type VDType } from "./value.ts";
import { noVersions, type Versions } from "./versions.ts";
import { eachStmt, operandsOf, writesOf } from "./walk.ts";

export type { Range } from "./interval.ts";

type Names = Versions<NameFacts>;

export interface NameFacts {
  readonly range: Range;
  /** What a let stands for, where that cannot change. */
  readonly def?: Expr;
  /** The loops a value depends on: 0 for none, otherwise the depth of the innermost. */
  readonly depth: number;
  readonly variable?: Var;
  /** Of a loop's variable: a number that divides it. */
  readonly divisor?: number;
}

export interface Facts {
  readonly bufs: ReadonlyMap<string, Buf>;
  /** Vars, and buffers stored to: what may change while a kernel runs. */
  readonly mutable: ReadonlySet<string>;
  readonly names: Names;
  /** Ranges that enclosing conditions give, by the expression's text. */
  readonly held: ReadonlyMap<string, Range>;
  /** Loops entered. */
  readonly depth: number;
  readonly vars: ReadonlyMap<Var, Range>;
  /** Whether the conditions exclude each other, so that the place is never reached. */
  readonly dead: boolean;
}

const packedRanges: Record<PackedDType, Range> = {
  i8: { lo: -128, hi: 127 },
  u8: { lo: 0, hi: 255 },
  i16: { lo: -32768, hi: 32767 },
};

export function fullRange(dtype: VDType): Range {
  if (dtype === "bool") return bit;
  if (isPackedValue(dtype)) return packedRanges[dtype];
  if (!isIntValue(dtype)) return anything;
  return dtype === "i32" ? { lo: -2147483648, hi: 2147483647 } : { lo: 0, hi: 4294967295 };
}

/** The facts at the start of a kernel's body. */
export function factsOf(kernel: Kernel): Facts {
  const start = looseFactsOf(kernel);
  return { ...start, vars: varRanges(kernel.body, start) };
}

/** The same with every var unknown, which takes less time to find. */
export function looseFactsOf(kernel: Kernel): Facts {
  const { vars, bufs } = writesOf(kernel.body);
  eachStmt(kernel.body, (stmt) => stmt.k === "var" && vars.add(stmt.name));
  return {
    bufs: new Map(kernel.bufs.map((buf) => [buf.name, buf])),
    mutable: new Set([...vars, ...bufs]),
    names: noVersions(),
    held: new Map(),
    depth: 0,
    vars: new Map(),
    dead: false,
  };
}

/** A var holds what it starts with or is set to; the values are bounded with every var unknown. */
function varRanges(body: readonly Stmt[], start: Facts): Map<Var, Range> {
  const ranges = new Map<Var, Range>();
  const widen = (variable: Var | undefined, value: Expr, facts: Facts) => {
    if (variable === undefined) return;
    const range = rangeOf(value, facts);
    const old = ranges.get(variable) ?? range;
    ranges.set(variable, { lo: Math.min(old.lo, range.lo), hi: Math.max(old.hi, range.hi) });
  };
  const walk = (stmts: readonly Stmt[], outer: Facts) => {
    let facts = outer;
    for (const stmt of stmts) {
      if (stmt.k === "var") widen(stmt, stmt.init, facts);
      if (stmt.k === "set") widen(facts.names.get(stmt.name)?.variable, stmt.value, facts);
      if (stmt.k === "for") walk(stmt.body, insideLoop(stmt, facts));
      if (stmt.k === "if") {
        walk(stmt.then, assume(stmt.cond, true, facts));
        walk(stmt.else, assume(stmt.cond, false, facts));
      }
      facts = afterStmt(stmt, facts);
    }
  };
  walk(body, start);
  return ranges;
}

/** The facts for the statements that follow `stmt` in its block. */
export function afterStmt(stmt: Stmt, facts: Facts): Facts {
  if (stmt.k === "let") {
    const known = { range: rangeOf(stmt.value, facts), depth: depthOf(stmt.value, facts) };
    return withName(facts, stmt.name, isStable(stmt.value, facts) ? { ...known, def: stmt.value } : known);
  }
  if (stmt.k === "var") {
    const range = facts.vars.get(stmt) ?? fullRange(stmt.type.dtype);
    return withName(facts, stmt.name, { range, depth: facts.depth, variable: stmt });
  }
  if (stmt.k === "combine") {
    return withName(facts, stmt.name, { range: fullRange(stmt.value.type.dtype), depth: facts.depth });
  }
  return facts;
}

export function insideLoop(loop: For, facts: Facts): Facts {
  const from = rangeOf(loop.from, facts);
  const to = rangeOf(loop.to, facts);
  const steps = from.lo === from.hi ? Math.floor(Math.max(to.hi - 1 - from.lo, 0) / loop.step) * loop.step : undefined;
  const hi = steps === undefined ? Math.max(to.hi - 1, from.lo) : from.lo + steps;
  const depth = facts.depth + 1;
  const divisor = loop.from.k === "num" ? gcd(loop.from.value, loop.step) : 1;
  return withName({ ...facts, depth }, loop.name, { range: { lo: from.lo, hi }, depth, divisor });
}

function withName(facts: Facts, name: string, known: NameFacts): Facts {
  return { ...facts, names: facts.names.with(name, known) };
}

/** The facts where `cond` is known to be `truth`. */
export function assume(cond: Expr, truth: boolean, facts: Facts): Facts {
  if (cond.k === "ref") {
    const def = facts.names.get(cond.name)?.def;
    return def === undefined ? facts : assume(def, truth, facts);
  }
  if (cond.k === "num") return (cond.value !== 0) === truth ? facts : { ...facts, dead: true };
  if (cond.k !== "op") return facts;
  const [a, b] = cond.args;
  switch (cond.op) {
    case "not":
      return assume(a!, !truth, facts);
    case "and":
      return truth ? assume(b!, true, assume(a!, true, facts)) : facts;
    case "or":
      return truth ? facts : assume(b!, false, assume(a!, false, facts));
    case "lt":
      return truth ? below(a!, b!, 1, facts) : below(b!, a!, 0, facts);
    case "le":
      return truth ? below(a!, b!, 0, facts) : below(b!, a!, 1, facts);
    case "gt":
      return truth ? below(b!, a!, 1, facts) : below(a!, b!, 0, facts);
    case "ge":
      return truth ? below(b!, a!, 0, facts) : below(a!, b!, 1, facts);
    case "eq":
      return truth ? below(a!, b!, 0, below(b!, a!, 0, facts)) : facts;
    default:
      return facts;
  }
}

/** The facts where a + gap <= b. */
function below(a: Expr, b: Expr, gap: number, facts: Facts): Facts {
  if (!isIntValue(a.type.dtype) || a.type.lanes !== 1) return facts;
  const [ra, rb] = [rangeOf(a, facts), rangeOf(b, facts)];
  if (ra.lo + gap > rb.hi) return { ...facts, dead: true };
  const held = new Map(facts.held);
  narrow(held, a, { lo: ra.lo, hi: Math.min(ra.hi, rb.hi - gap) }, facts);
  narrow(held, b, { lo: Math.max(rb.lo, ra.lo + gap), hi: rb.hi }, facts);
  return { ...facts, held };
}

function narrow(held: Map<string, Range>, expr: Expr, range: Range, facts: Facts): void {
  if (expr.k === "num" || !isStable(expr, facts)) return;
  held.set(printExpr(expr), range);
}

/** Whether an expression's value cannot change while the names it mentions are in scope. */
export function isStable(expr: Expr, facts: Facts): boolean {
  if (expr.k === "ref") return !facts.mutable.has(expr.name);
  if (expr.k === "load" && facts.mutable.has(expr.buf)) return false;
  return operandsOf(expr).every((operand) => isStable(operand, facts));
}

/** The depth of the innermost loop an expression's value depends on. */
export function depthOf(expr: Expr, facts: Facts): number {
  if (expr.k === "ref") return facts.names.get(expr.name)?.depth ?? facts.depth;
  if (expr.k === "load" && facts.mutable.has(expr.buf)) return facts.depth;
  return Math.max(0, ...operandsOf(expr).map((operand) => depthOf(operand, facts)));
}

/** The range of an integer or bool expression's value (of each lane); floats are unbounded. */
export function rangeOf(expr: Expr, facts: Facts): Range {
  const full = fullRange(expr.type.dtype);
  if (full === anything) return anything;
  const plain = within(plainRange(expr, facts), full);
  if (facts.held.size === 0 || expr.k === "num" || expr.type.lanes !== 1) return plain;
  const held = facts.held.get(printExpr(expr));
  return held === undefined ? plain : meet(plain, held);
}

function meet(a: Range, b: Range): Range {
  const [lo, hi] = [Math.max(a.lo, b.lo), Math.min(a.hi, b.hi)];
  return lo <= hi ? { lo, hi } : a;
}

/** A range that overflows its type wraps, so it says nothing. */
export function within(range: Range, full: Range): Range {
  return range.lo >= full.lo && range.hi <= full.hi ? range : full;
}

function plainRange(expr: Expr, facts: Facts): Range {
  switch (expr.k) {
    case "num":
      return { lo: expr.value, hi: expr.value };
    case "ref": {
      const known = facts.names.get(expr.name);
      if (known === undefined) return fullRange(expr.type.dtype);
      return known.def === undefined || facts.held.size === 0
        ? known.range
        : meet(known.range, rangeOf(known.def, facts));
    }
    case "load": {
      const dtype = facts.bufs.get(expr.buf)?.dtype;
      const range = dtype === undefined || dtype === "f64" ? undefined : dtypeInfo(dtype).range;
      return range === undefined ? anything : { lo: range[0], hi: range[1] };
    }
    case "cast": {
      const full = fullRange(expr.type.dtype);
      const { lo, hi } = rangeOf(expr.value, facts);
      if (expr.type.dtype === "bool") return lo > 0 || hi < 0 ? { lo: 1, hi: 1 } : bit;
      return { lo: Math.min(Math.max(lo, full.lo), full.hi), hi: Math.max(Math.min(hi, full.hi), full.lo) };
    }
    case "splat":
    case "extract":
      return rangeOf(expr.value, facts);
    case "sum": {
      const { lo, hi } = rangeOf(expr.value, facts);
      return { lo: lo * expr.value.type.lanes, hi: hi * expr.value.type.lanes };
    }
    case "intrinsic":
      return fullRange(expr.type.dtype);
    case "op":
      return opRange(expr, facts);
  }
}

function opRange(expr: Extract<Expr, { k: "op" }>, facts: Facts): Range {
  if (expr.op === "select") {
    const [condition, x, y] = expr.args;
    const [a, b] = [rangeOf(x!, assume(condition!, true, facts)), rangeOf(y!, assume(condition!, false, facts))];
    return { lo: Math.min(a.lo, b.lo), hi: Math.max(a.hi, b.hi) };
  }
  const [a, b = a] = expr.args.map((arg) => rangeOf(arg, facts));
  const floats = expr.args.some((arg) => fullRange(arg.type.dtype) === anything);
  return floats ? fullRange(expr.type.dtype) : combine(expr.op, a!, b!);
}
