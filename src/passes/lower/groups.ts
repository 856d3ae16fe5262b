/**
 * Lowering of group scales and minimums: a loop over groups, each copied to scratch and measured there, in lanes where
 * the target has four and groups are made of fours. The search of method `mse` is in group-search.ts.
 */
import { attrsOf, type Node } from "../../ir/graph.ts";
import {
  cast,
  type Expr,
  extract,
  iadd,
  idiv,
  imul,
  int,
  intrinsic,
  isub,
  load,
  num,
  op,
  ref,
  select,
} from "../../ir/kernel/kernel.ts";
import { assign, store, variable, when } from "../../ir/kernel/stmt.ts";
import { valueType } from "../../ir/kernel/value.ts";
import { largestF16, searchedScales, searchedShrink } from "../../ir/ops/groups.ts";
import type { DType } from "../../ir/types.ts";
import {
  bounded,
  eachQuad,
  type GroupParams,
  type Run,
  searchAffine,
  searchSymmetric,
  spread,
} from "./group-search.ts";
import { clampTo, flatten } from "./index-math.ts";
import { lowerScalesTogether } from "./scales-group.ts";
import type { KernelWriter } from "./writer.ts";

export const lowerGroupScales = (w: KernelWriter, anchor: Node): void => lowerGroups(w, anchor, "scale");
export const lowerGroupMinimums = (w: KernelWriter, anchor: Node): void => lowerGroups(w, anchor, "minimum");

const zero = num("f32", 0);

function lowerGroups(w: KernelWriter, anchor: Node, wanted: keyof GroupParams): void {
  const [x] = anchor.ins as [Node]; // the ops take one operand
  const attrs = attrsOf(anchor);
  const [size, to, method] = [Number(attrs.group), attrs.to as DType, String(attrs.method)]; // checked against the spec
  if (wanted === "scale" && to === "i8" && lowerScalesTogether(w, anchor, size)) return;
  const { shape } = anchor.type;
  const length = x.type.shape.at(-1)!;
  const xs = w.scratch("xs", "f32", Math.min(size, length));
  const whole = length % size === 0;
  // The outermost loop that is written; axes of size 1 have none.
  const outermost = shape.findIndex((dim) => dim > 1);
  const enter = (axis: number, idx: readonly Expr[]): void => {
    if (axis < shape.length) {
      const how = axis === outermost ? "grid" : w.independent(1);
      w.loop("ijkl"[axis] ?? "i", shape[axis]!, (i) => enter(axis + 1, [...idx, i]), how);
      return;
    }
    const first = imul(idx.at(-1)!, int(size));
    const count = whole ? int(size) : w.bind("count", op("min", int(size), isub(int(length), first)));
    w.loop("j", count, (j) => {
      // The clamp changes nothing; it shows the verifier that the cut group ends with the row.
      const at = whole ? iadd(first, j) : clampTo(iadd(first, j), length);
      const value = w.bind("x", w.value(x, idx.with(-1, at)));
      w.emit(store(xs, j, select(op("eq", value, value), value, zero)));
    });
    const fours = whole && size % 4 === 0;
    const run: Run = { w, xs, count, size: fours ? size : null, lanes: fours && w.target.lanes === 4 };
    const params = to === "u4" ? affine(run, method) : symmetric(run, to, method);
    w.emit(store(w.out, flatten(idx, shape), params[wanted]));
  };
  enter(0, []);
}

function symmetric(run: Run, to: DType, method: string): GroupParams {
  const { w } = run;
  if (to === "i8") return { scale: bounded(op("div", magnitude(run), num("f32", 127))), minimum: zero };
  const most = run.lanes ? largestOfLanes(run) : largest(run);
  const range = w.bind("range", op("div", most, num("f32", -8)));
  if (method === "range") return { scale: bounded(range), minimum: zero };
  const { from, to: last } = searchedScales;
  const ratio = (k: Expr) => op("mul", cast("f32", iadd(k, int(from))), num("f32", 1 / 16));
  return searchSymmetric(run, last - from + 1, (k) => op("mul", range, ratio(k)));
}

/** The largest magnitude. */
function magnitude(run: Run): Expr {
  const { w, xs, count, lanes } = run;
  const most = ref(w.unique("most"), valueType("f32", lanes ? 4 : 1));
  if (lanes) {
    w.emit(variable(most.name, spread(run, zero)));
    eachQuad(run, (x) => w.emit(assign(most.name, intrinsic("pmax", most, op("abs", x)))));
    return overLanes("max", most);
  }
  w.emit(variable(most.name, zero));
  w.loop("j", count, (j) => w.emit(assign(most.name, op("max", most, op("abs", load(xs, j))))));
  return most;
}

/** The element of largest magnitude, of equals the first. */
function largest({ w, xs, count }: Run): Expr {
  const most = ref(w.unique("most"), "f32");
  w.emit(variable(most.name, zero));
  w.loop("j", count, (j) => {
    const x = w.bind("x", load(xs, j));
    w.emit(assign(most.name, select(op("gt", op("abs", x), op("abs", most)), x, most)));
  });
  return most;
}

/** The same by the largest and the smallest; where both are as far from 0, which is rare, the first is looked for. */
function largestOfLanes(run: Run): Expr {
  const { w } = run;
  const [low, high] = ends(run, zero, zero, false);
  const up = w.bind("up", op("gt", high, op("neg", low)));
  const most = ref(w.unique("most"), "f32");
  w.emit(variable(most.name, select(up, high, low)));
  const both = op("and", op("eq", high, op("neg", low)), op("gt", high, zero));
  const first = w.nested(() => w.emit(assign(most.name, largest(run))));
  w.emit(when(both, first));
  return most;
}

/**
 * The smallest and the largest element, or `low` and `high` if these are beyond. No element is NaN. Where zeros are not
 * `ordered`, any of several is taken, which is faster.
 */
function ends(run: Run, low: Expr, high: Expr, ordered = true): [Expr, Expr] {
  const { w, xs, count, lanes } = run;
  const type = valueType("f32", lanes ? 4 : 1);
  const [least, most] = [ref(w.unique("low"), type), ref(w.unique("high"), type)];
  w.emit(variable(least.name, spread(run, low)));
  w.emit(variable(most.name, spread(run, high)));
  const take = (x: Expr): void => {
    const fast = lanes && !ordered;
    w.emit(assign(least.name, fast ? intrinsic("pmin", least, x) : op("min", least, x)));
    w.emit(assign(most.name, fast ? intrinsic("pmax", most, x) : op("max", most, x)));
  };
  if (!lanes) {
    w.loop("j", count, (j) => take(w.bind("x", load(xs, j))));
    return [least, most];
  }
  eachQuad(run, take);
  return [w.bind("lowest", overLanes("min", least)), w.bind("highest", overLanes("max", most))];
}

function overLanes(name: "min" | "max", value: Expr): Expr {
  return [1, 2, 3].reduce<Expr>((all, lane) => op(name, all, extract(value, lane)), extract(value, 0));
}

function affine(run: Run, method: string): GroupParams {
  const { w } = run;
  const [low, high] = ends(run, num("f32", largestF16), num("f32", -largestF16)).map((end) =>
    w.bind("end", bounded(end)),
  ) as [Expr, Expr]; // of two
  const shrunk = (end: Expr, by: Expr): Expr => op("add", end, op("mul", op("sub", middle, end), by));
  const width = (from: Expr, to: Expr) => op("div", op("sub", to, from), num("f32", 15));
  if (method === "range") return { scale: bounded(width(low, high)), minimum: low };
  const middle = w.bind("middle", op("mul", op("add", low, high), num("f32", 0.5)));
  const steps = searchedShrink + 1;
  return searchAffine(run, steps * steps, (k) => {
    const part = (step: Expr) => op("mul", cast("f32", step), num("f32", 1 / 16));
    const from = w.bind("from", shrunk(low, part(idiv(k, int(steps)))));
    const to = shrunk(high, part(op("rem", k, int(steps))));
    return { scale: width(from, to), minimum: from };
  });
}
