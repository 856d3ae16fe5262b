/**
 * Scales and minimums of groups, as ir/ops/groups.ts defines them, for all groups at once: candidates are values of a
 * whole tensor, and the first with the least squared error is chosen per group.
 */
import { codeRange, largestF16, searchedScales, searchedShrink } from "../../ir/ops/groups.ts";
import type { DType, Shape } from "../../ir/types.ts";
import { floatMath, splitLast } from "./build.ts";
import type { TensorEngine } from "./engine.ts";

export interface ScaleAttrs {
  readonly group: number;
  readonly to: DType;
  readonly method: string;
}

interface GroupParams<T> {
  /** [.., groups, 1] each, of f16 values. */
  readonly scale: T;
  readonly minimum: T;
}

/** x f32[.., d] -> f32 [.., groups], values of f16. */
export function groupScales<T>(engine: TensorEngine<T>, x: T, shape: Shape, attrs: ScaleAttrs): T {
  return perGroup(engine, best(engine, x, shape, attrs).scale, shape, attrs);
}

/** The same for minimums. */
export function groupMinimums<T>(engine: TensorEngine<T>, x: T, shape: Shape, attrs: ScaleAttrs): T {
  return perGroup(engine, best(engine, x, shape, attrs).minimum, shape, attrs);
}

function perGroup<T>(engine: TensorEngine<T>, x: T, shape: Shape, { group }: ScaleAttrs): T {
  return engine.reshape(x, shape.with(-1, Math.ceil(shape.at(-1)! / group)));
}

function best<T>(engine: TensorEngine<T>, x: T, shape: Shape, attrs: ScaleAttrs): GroupParams<T> {
  const { eq, lt, select } = floatMath(engine);
  const numbers = select(eq(x, x), x, 0); // NaN counts as 0
  const candidates =
    attrs.to === "u4" ? affine(engine, numbers, shape, attrs) : symmetric(engine, numbers, shape, attrs);
  let chosen = candidates[0]!;
  if (candidates.length === 1) return chosen;
  let least = squaredError(engine, numbers, shape, attrs, chosen);
  for (const params of candidates.slice(1)) {
    const error = squaredError(engine, numbers, shape, attrs, params);
    const better = lt(error, least);
    chosen = {
      scale: select(better, params.scale, chosen.scale),
      minimum: select(better, params.minimum, chosen.minimum),
    };
    least = select(better, error, least);
  }
  return chosen;
}

/** The f16 nearest to each value, not beyond the largest. */
function toF16<T>(engine: TensorEngine<T>, x: T): T {
  const { max, min } = floatMath(engine);
  return engine.cast(engine.cast(min(max(x, -largestF16), largestF16), "f32", "f16"), "f16", "f32");
}

function symmetric<T>(
  engine: TensorEngine<T>,
  x: T,
  shape: Shape,
  { group, to, method }: ScaleAttrs,
): GroupParams<T>[] {
  const { abs, div, mul } = floatMath(engine);
  const groups = splitLast(engine, x, shape, group, 0);
  const counted = [...shape.slice(0, -1), Math.ceil(shape.at(-1)! / group)];
  const minimum = engine.broadcastTo(engine.fill("f32", 0), [...counted, 1]);
  const of = (scale: T): GroupParams<T> => ({ scale: toF16(engine, scale), minimum });
  if (to === "i8") {
    const most = engine.reshape(engine.reduceMax(abs(groups)), [...counted, 1]);
    return [of(div(most, 127))];
  }
  // The element of largest magnitude with its sign, the first of equals.
  const rows = counted.reduce((a, b) => a * b, 1);
  const at = engine.reshape(engine.argMax(abs(groups)), [rows, 1]);
  const most = engine.reshape(engine.gather(engine.reshape(groups, [rows, group]), at, 1), [...counted, 1]);
  const scale = div(most, -8);
  if (method === "range") return [of(scale)];
  const { from, to: last } = searchedScales;
  return Array.from({ length: last - from + 1 }, (_, i) => (from + i) / 16)
    .flatMap((ratio) => [ratio, -ratio])
    .map((ratio) => of(mul(scale, ratio)));
}

function affine<T>(engine: TensorEngine<T>, x: T, shape: Shape, { group, method }: ScaleAttrs): GroupParams<T>[] {
  const { add, div, max, min, mul, neg, sub } = floatMath(engine);
  const counted = [...shape.slice(0, -1), Math.ceil(shape.at(-1)! / group), 1];
  const inside = min(max(x, -largestF16), largestF16);
  const most = (value: T) =>
    engine.reshape(engine.reduceMax(splitLast(engine, value, shape, group, Number.NEGATIVE_INFINITY)), counted);
  const [low, high] = [neg(most(neg(inside))), most(inside)];
  const params = (from: T, to: T): GroupParams<T> => ({
    scale: toF16(engine, div(sub(to, from), 15)),
    minimum: toF16(engine, from),
  });
  if (method === "range") return [params(low, high)];
  const middle = mul(add(low, high), 0.5);
  const shrinks = Array.from({ length: searchedShrink + 1 }, (_, i) => i / 16);
  const shrunk = (end: T, by: number) => add(end, mul(sub(middle, end), by));
  return shrinks.flatMap((below) => shrinks.map((above) => params(shrunk(low, below), shrunk(high, above))));
}

/** [.., groups, 1]: added up in the order of ir/ops/groups.ts, four sums of every fourth element. */
function squaredError<T>(
  engine: TensorEngine<T>,
  x: T,
  shape: Shape,
  { group, to }: ScaleAttrs,
  { scale, minimum }: GroupParams<T>,
): T {
  const { add, div, eq, max, min, mul, round, select, sub } = floatMath(engine);
  const { low, high } = codeRange(to)!; // of the dtypes that have scales
  const length = shape.at(-1)!;
  const counted = [...shape.slice(0, -1), Math.ceil(length / group)];
  const groups = splitLast(engine, x, shape, group, 0);
  const inverse = div(1, select(eq(scale, 0), 1, scale));
  const code = round(mul(sub(groups, minimum), inverse));
  const near = add(mul(min(max(code, low), high), scale), minimum);
  const off = sub(groups, near);
  // What a cut group lacks adds nothing.
  const ones = engine.broadcastTo(engine.fill("f32", 1), [length]);
  const mask = splitLast(engine, ones, [length], group, 0);
  const squares = select(eq(mask, 1), mul(off, off), 0);
  const fours = splitLast(engine, squares, [...counted, group], 4, 0);
  const steps = Math.ceil(group / 4);
  const step = (i: number) =>
    engine.reshape(engine.slice(fours, [...counted.map(() => 0), i, 0], [...counted, 1, 4]), [...counted, 4]);
  let sums = step(0);
  for (let i = 1; i < steps; i++) sums = add(sums, step(i));
  const lane = (i: number) => engine.slice(sums, [...counted.map(() => 0), i], [...counted, 1]);
  return add(add(lane(0), lane(2)), add(lane(1), lane(3)));
}
