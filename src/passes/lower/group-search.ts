/**
 * The search for the scale (and minimum) of a group with the least squared error, as `ops/groups.ts` defines it: in f32,
 * added up in four sums. Elements are worked on four at a time, in lanes or one after another, so that results have the
 * same bits either way.
 */
import {
  type Buf,
  type Expr,
  iadd,
  int,
  intrinsic,
  irem,
  load,
  num,
  op,
  ref,
  select,
  splat,
  sum,
} from "../../ir/kernel/kernel.ts";
import { assign, store, variable, when } from "../../ir/kernel/stmt.ts";
import { valueType } from "../../ir/kernel/value.ts";
import { codeRange, largestF16 } from "../../ir/ops/groups.ts";
import type { KernelWriter } from "./writer.ts";

export interface GroupParams {
  readonly scale: Expr;
  readonly minimum: Expr;
}

/** A group in scratch. */
export interface Run {
  readonly w: KernelWriter;
  readonly xs: Buf;
  readonly count: Expr;
  /** The number of elements where it is known and made of fours. */
  readonly size: number | null;
  /** Whether four are computed at once. */
  readonly lanes: boolean;
}

const zero = num("f32", 0);
/** As many elements are kept in registers. */
const mostUnrolled = 64;

export function bounded(x: Expr): Expr {
  return op("min", op("max", x, num("f32", -largestF16)), num("f32", largestF16));
}

/** Calls `body` with every four elements of a group whose lanes are computed at once. */
export function eachQuad({ w, xs, size }: Run, body: (x: Expr) => void): void {
  if (size! > mostUnrolled) w.loop("j", size!, (j) => body(w.bind("x", load(xs, j, 4))), "serial", 4);
  else for (let j = 0; j < size!; j += 4) body(w.bind("x", load(xs, int(j), 4)));
}

/** A sum over a group's elements, kept in four. */
interface FourSums {
  /** Adds to sum `j % 4`, which is a number where it is known; in lanes to all four. */
  readonly add: (j: Expr | number, value: Expr) => void;
  readonly total: () => Expr;
}

function fourSums({ w, size, lanes }: Run): FourSums {
  if (lanes) {
    const all = ref(w.unique("error"), valueType("f32", 4));
    w.emit(variable(all.name, splat(zero, 4)));
    return { add: (_, value) => w.emit(assign(all.name, op("add", all, value))), total: () => sum(all) };
  }
  const halves = (at: (i: number) => Expr) => op("add", op("add", at(0), at(2)), op("add", at(1), at(3)));
  if (size !== null) {
    const each = [0, 1, 2, 3].map(() => ref(w.unique("error"), "f32"));
    for (const { name } of each) w.emit(variable(name, zero));
    const add = (j: Expr | number, value: Expr) => {
      const own = each[Number(j)]!;
      w.emit(assign(own.name, op("add", own, value)));
    };
    return { add, total: () => halves((i) => each[i]!) };
  }
  const each = w.scratch("errors", "f32", 4);
  for (const i of [0, 1, 2, 3]) w.emit(store(each, int(i), zero));
  const add = (j: Expr | number, value: Expr) => {
    const at = w.bind("at", irem(typeof j === "number" ? int(j) : j, int(4)));
    w.emit(store(each, at, op("add", load(each, at), value)));
  };
  return { add, total: () => halves((i) => load(each, int(i))) };
}

/** Calls `body` with every element, or with every four of them; `j` as `FourSums` takes it. */
function eachElement(run: Run, body: (x: Expr, j: Expr | number) => void): void {
  const { w, xs, count, size, lanes } = run;
  if (lanes) eachQuad(run, (x) => body(x, 0));
  else if (size === null) w.loop("j", count, (j) => body(w.bind("x", load(xs, j)), j));
  else {
    const four = (j: Expr) => [0, 1, 2, 3].forEach((u) => void body(w.bind("x", load(xs, iadd(j, int(u)))), u));
    w.loop("j", size, four, "serial", 4);
  }
}

/** In lanes, the value in every lane. */
export function spread({ lanes }: Run, value: Expr): Expr {
  return lanes ? splat(value, 4) : value;
}

/** The number between two others; in lanes no NaN reaches it, and zeros may keep their sign. */
function clamped(run: Run, x: Expr, low: number, high: number): Expr {
  const [from, to] = [spread(run, num("f32", low)), spread(run, num("f32", high))];
  if (run.lanes) return intrinsic("pmin", to, intrinsic("pmax", from, x));
  return op("min", op("max", x, from), to);
}

/** By a scale of 0 every code stands for the minimum; the inverse of 1 instead keeps the quotient finite. */
function inverseOf({ w }: Run, scale: Expr): Expr {
  return w.bind("inverse", op("div", num("f32", 1), select(op("eq", scale, zero), num("f32", 1), scale)));
}

/** Numbers rounded to f16 by a place in scratch. */
function roundsToF16({ w }: Run): (x: Expr, at: number) => Expr {
  const place = w.scratch("candidate", "f16", 2);
  return (x, at) => {
    w.emit(store(place, int(at), bounded(x)));
    return load(place, int(at));
  };
}

/** What was best so far. */
class Best {
  readonly #w: KernelWriter;
  readonly #least: Expr & { readonly name: string };
  readonly #scale: Expr & { readonly name: string };
  readonly #minimum: Expr & { readonly name: string };

  constructor(w: KernelWriter) {
    this.#w = w;
    this.#least = ref(w.unique("least"), "f32");
    this.#scale = ref(w.unique("best"), "f32");
    this.#minimum = ref(w.unique("best_minimum"), "f32");
    w.emit(variable(this.#least.name, num("f32", Number.POSITIVE_INFINITY)));
    w.emit(variable(this.#scale.name, zero));
    w.emit(variable(this.#minimum.name, zero));
  }

  /** Takes a candidate of smaller error, and the first in any case: errors may be infinite. */
  try(error: Expr, { scale, minimum }: GroupParams, isFirst: Expr): void {
    const better = op("or", op("lt", error, this.#least), isFirst);
    this.#w.emit(
      when(better, [
        assign(this.#least.name, error),
        assign(this.#scale.name, scale),
        assign(this.#minimum.name, minimum),
      ]),
    );
  }

  get params(): GroupParams {
    return { scale: this.#scale, minimum: this.#minimum };
  }
}

/**
 * The best of `tries` scales for i4, each with both signs. By the negated scale codes are the negated ones, so the nearest
 * number is found once: clamp(-q, -8, 7) * -s = clamp(q, -7, 8) * s.
 */
export function searchSymmetric(run: Run, tries: number, candidate: (k: Expr) => Expr): GroupParams {
  const { w } = run;
  const toF16 = roundsToF16(run);
  const best = new Best(w);
  const { low, high } = codeRange("i4")!;
  w.loop("k", int(tries), (k) => {
    const scale = w.bind("s", toF16(candidate(k), 0));
    const [s, inverse] = [w.bind("s", spread(run, scale)), w.bind("inverse", spread(run, inverseOf(run, scale)))];
    const [plus, minus] = [fourSums(run), fourSums(run)];
    eachElement(run, (x, j) => {
      const near = w.bind("near", op("round", op("mul", x, inverse)));
      const off = (from: number, to: number) => w.bind("off", op("sub", x, op("mul", clamped(run, near, from, to), s)));
      const [a, b] = [off(low, high), off(-high, -low)];
      plus.add(j, op("mul", a, a));
      minus.add(j, op("mul", b, b));
    });
    best.try(w.bind("error", plus.total()), { scale, minimum: zero }, op("eq", k, int(0)));
    best.try(w.bind("error", minus.total()), { scale: op("neg", scale), minimum: zero }, num("bool", 0));
  });
  return best.params;
}

/** The best of `tries` scales and minimums for u4. */
export function searchAffine(run: Run, tries: number, candidate: (k: Expr) => GroupParams): GroupParams {
  const { w } = run;
  const toF16 = roundsToF16(run);
  const best = new Best(w);
  const { low, high } = codeRange("u4")!;
  w.loop("k", int(tries), (k) => {
    const exact = candidate(k);
    const [scale, minimum] = [w.bind("s", toF16(exact.scale, 0)), w.bind("m", toF16(exact.minimum, 1))];
    const [s, m] = [w.bind("s", spread(run, scale)), w.bind("m", spread(run, minimum))];
    const inverse = w.bind("inverse", spread(run, inverseOf(run, scale)));
    const error = fourSums(run);
    eachElement(run, (x, j) => {
      const near = w.bind("near", op("round", op("mul", op("sub", x, m), inverse)));
      const off = w.bind("off", op("sub", x, op("add", op("mul", clamped(run, near, low, high), s), m)));
      error.add(j, op("mul", off, off));
    });
    best.try(w.bind("error", error.total()), { scale, minimum }, op("eq", k, int(0)));
  });
  return best.params;
}
