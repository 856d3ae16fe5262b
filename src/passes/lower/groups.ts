/**
 * Lowering of group scales and minimums: a loop over groups, each copied to scratch and measured there. The search of
 * method `mse` is a loop over candidates that keeps the one of least squared error.
 */
import { attrsOf, type Node } from "../../ir/graph.ts";
import {
  type Buf,
  cast,
  type Expr,
  iadd,
  idiv,
  imul,
  int,
  isub,
  load,
  num,
  op,
  ref,
  select,
} from "../../ir/kernel/kernel.ts";
import { assign, store, variable, when } from "../../ir/kernel/stmt.ts";
import { codeRange, largestF16, searchedScales, searchedShrink } from "../../ir/ops/groups.ts";
import type { DType } from "../../ir/types.ts";
import { clampTo, flatten } from "./index-math.ts";
import { nearestCode } from "./values.ts";
import type { KernelWriter } from "./writer.ts";

export const lowerGroupScales = (w: KernelWriter, anchor: Node): void => lowerGroups(w, anchor, "scale");
export const lowerGroupMinimums = (w: KernelWriter, anchor: Node): void => lowerGroups(w, anchor, "minimum");

interface GroupParams {
  readonly scale: Expr;
  readonly minimum: Expr;
}

const zero = num("f32", 0);

function lowerGroups(w: KernelWriter, anchor: Node, wanted: keyof GroupParams): void {
  const [x] = anchor.ins as [Node]; // the ops take one operand
  const attrs = attrsOf(anchor);
  const [size, to, method] = [Number(attrs.group), attrs.to as DType, String(attrs.method)]; // checked against the spec
  const { shape } = anchor.type;
  const length = x.type.shape.at(-1)!;
  const xs = w.scratch("xs", "f32", Math.min(size, length));
  // The outermost loop that is written; axes of size 1 have none.
  const outermost = shape.findIndex((dim) => dim > 1);
  const enter = (axis: number, idx: readonly Expr[]): void => {
    if (axis < shape.length) {
      const how = axis === outermost ? "grid" : "serial";
      w.loop("ijkl"[axis] ?? "i", shape[axis]!, (i) => enter(axis + 1, [...idx, i]), how);
      return;
    }
    const first = imul(idx.at(-1)!, int(size));
    const whole = length % size === 0;
    const count = whole ? int(size) : w.bind("count", op("min", int(size), isub(int(length), first)));
    w.loop("j", count, (j) => {
      // The clamp changes nothing; it shows the verifier that the cut group ends with the row.
      const at = whole ? iadd(first, j) : clampTo(iadd(first, j), length);
      const value = w.bind("x", w.value(x, idx.with(-1, at)));
      w.emit(store(xs, j, select(op("eq", value, value), value, zero)));
    });
    const params = to === "u4" ? affine(w, xs, count, method) : symmetric(w, xs, count, to, method);
    w.emit(store(w.out, flatten(idx, shape), params[wanted]));
  };
  enter(0, []);
}

function symmetric(w: KernelWriter, xs: Buf, count: Expr, to: DType, method: string): GroupParams {
  const most = ref(w.unique("most"), "f32");
  w.emit(variable(most.name, zero));
  if (to === "i8") {
    // The sign does not matter, and a plain maximum is found in lanes.
    w.loop("j", count, (j) => w.emit(assign(most.name, op("max", most, op("abs", load(xs, j))))));
    return { scale: bounded(op("div", most, num("f32", 127))), minimum: zero };
  }
  w.loop("j", count, (j) => {
    const x = w.bind("x", load(xs, j));
    w.emit(assign(most.name, select(op("gt", op("abs", x), op("abs", most)), x, most)));
  });
  const range = w.bind("range", op("div", most, num("f32", -8)));
  if (method === "range") return { scale: bounded(range), minimum: zero };
  const { from, to: last } = searchedScales;
  return search(w, xs, count, to, 2 * (last - from + 1), (k) => {
    const ratio = op("mul", cast("f32", iadd(idiv(k, int(2)), int(from))), num("f32", 1 / 16));
    const odd = op("eq", op("rem", k, int(2)), int(1));
    return { scale: op("mul", range, select(odd, op("neg", ratio), ratio)), minimum: zero };
  });
}

function affine(w: KernelWriter, xs: Buf, count: Expr, method: string): GroupParams {
  const [low, high] = [ref(w.unique("low"), "f32"), ref(w.unique("high"), "f32")];
  w.emit(variable(low.name, num("f32", largestF16)));
  w.emit(variable(high.name, num("f32", -largestF16)));
  w.loop("j", count, (j) => {
    const x = w.bind("x", bounded(load(xs, j)));
    w.emit(assign(low.name, op("min", low, x)));
    w.emit(assign(high.name, op("max", high, x)));
  });
  const shrunk = (end: Expr, by: Expr): Expr => op("add", end, op("mul", op("sub", middle, end), by));
  const width = (from: Expr, to: Expr) => op("div", op("sub", to, from), num("f32", 15));
  if (method === "range") return { scale: bounded(width(low, high)), minimum: low };
  const middle = w.bind("middle", op("mul", op("add", low, high), num("f32", 0.5)));
  const steps = searchedShrink + 1;
  return search(w, xs, count, "u4", steps * steps, (k) => {
    const part = (step: Expr) => op("mul", cast("f32", step), num("f32", 1 / 16));
    const from = w.bind("from", shrunk(low, part(idiv(k, int(steps)))));
    const to = shrunk(high, part(op("rem", k, int(steps))));
    return { scale: width(from, to), minimum: from };
  });
}

/** The first of `tries` candidates with the least squared error. */
function search(
  w: KernelWriter,
  xs: Buf,
  count: Expr,
  to: DType,
  tries: number,
  candidate: (k: Expr) => GroupParams,
): GroupParams {
  const { accumulator } = w.target;
  const [least, best, bestMinimum] = [
    ref(w.unique("least"), accumulator),
    ref(w.unique("best"), "f32"),
    ref(w.unique("best_minimum"), "f32"),
  ];
  w.emit(variable(least.name, num(accumulator, Number.POSITIVE_INFINITY)));
  w.emit(variable(best.name, zero));
  w.emit(variable(bestMinimum.name, zero));
  // Stored and loaded to round to f16.
  const rounded = w.scratch("candidate", "f16", 2);
  const toF16 = (x: Expr, at: number): Expr => {
    if (x.k === "num") return x;
    w.emit(store(rounded, int(at), bounded(x)));
    return load(rounded, int(at));
  };
  w.loop("k", int(tries), (k) => {
    const { scale, minimum } = candidate(k);
    const [s, m] = [w.bind("s", toF16(scale, 0)), w.bind("m", toF16(minimum, 1))];
    // By a scale of 0 every code stands for the minimum; dividing by 1 instead keeps the quotient finite.
    const divisor = w.bind("divisor", select(op("eq", s, zero), num("f32", 1), s));
    const error = ref(w.unique("error"), accumulator);
    w.emit(variable(error.name, num(accumulator, 0)));
    w.loop("j", count, (j) => {
      const x = w.bind("x", load(xs, j));
      const code = nearestCode(op("sub", x, m), divisor, codeRange(to)!);
      const near = op("mul", code, s);
      const off = w.bind("off", cast(accumulator, op("sub", x, m.k === "num" ? near : op("add", near, m))));
      w.emit(assign(error.name, op("add", error, op("mul", off, off))));
    });
    // The first candidate is taken even where the error is infinite or NaN.
    const better = op("or", op("lt", error, least), op("eq", k, int(0)));
    w.emit(when(better, [assign(least.name, error), assign(best.name, s), assign(bestMinimum.name, m)]));
  });
  return { scale: best, minimum: bestMinimum };
}

function bounded(x: Expr): Expr {
  return op("min", op("max", x, num("f32", -largestF16)), num("f32", largestF16));
}
