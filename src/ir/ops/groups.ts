/**
 * Group quantisation: runs of `group` elements along the last axis share an f16 scale and, where affine, an f16 minimum;
 * the last run of a row may be shorter. Scales, codes and `dequantizeGroups` are nodes of their own, so that passes can
 * pack codes and scales as a kernel wants them.
 */
import type { AttrsFor } from "../attrs.ts";
import { type AxisRule, blockedNames, names } from "../axis-rule.ts";
import { f16ToF32, f32ToF16 } from "../half.ts";
import { defineOp, typeError } from "../op.ts";
import { nearestEven } from "../scalar.ts";
import { reader, type Tensor, writer, zeros } from "../tensor.ts";
import { type DType, isFloat, type Shape, sameShape, sizeOf, type TensorType, tensorType } from "../types.ts";

/** Codes from `low` to `high`; i8 leaves -128 out, so that its range is even. */
const codes = {
  i8: { low: -127, high: 127 },
  i4: { low: -8, high: 7 },
  u4: { low: 0, high: 15 },
} as const satisfies { [D in DType]?: { low: number; high: number } };
export type CodeDType = keyof typeof codes;

/** `range` covers the group; `mse` searches for the least squared error around that. */
export type ScaleMethod = "range" | "mse";
const methods: readonly string[] = ["range", "mse"];

/**
 * The scales that `mse` tries for i4, in sixteenths of that of `range` and each with both signs: below 16 the largest
 * element is cut off, above it code 7 reaches further. Finer steps gain less than 1 % of the error.
 */
export const searchedScales = { from: 15, to: 22 } as const;
/** How far `mse` moves each end of the range of u4 towards its middle at most, in sixteenths of the way. */
export const searchedShrink = 3;

/** The largest of f16: a scale is never infinite, and a code times a scale is finite. */
export const largestF16 = 65504;

export function codeRange(dtype: DType): { readonly low: number; readonly high: number } | undefined {
  return Object.hasOwn(codes, dtype) ? codes[dtype as CodeDType] : undefined; // checked by the line
}

/** The shape of the scales of a value of shape `shape`. */
export function groupsShape(shape: Shape, group: number): Shape {
  return shape.with(-1, Math.ceil(shape.at(-1)! / group));
}

/** Codes with scales (and minimums) of their groups: cut between groups only. */
function groupedRule(
  shape: Shape,
  group: number,
  params: number,
): { all: string[]; params: string[][]; whole: string[] } {
  const lead = names("a", shape).slice(0, -1);
  const { all, blocks, whole } = blockedNames("g", shape.at(-1)!, group);
  return { all: [...lead, all], params: new Array<string[]>(params).fill([...lead, blocks]), whole };
}

function scalesRule(shape: Shape, group: number): AxisRule {
  const { all, params, whole } = groupedRule(shape, group, 1);
  return { ins: [all], out: params[0]!, whole };
}

const scaleAttrs = { group: "int", to: "dtype", method: "string" } as const;

export const groupOps = {
  groupScales: defineOp({
    arity: 1,
    kind: "opaque",
    attrs: scaleAttrs,
    doc: "The f16 scale of each group of `group` elements along the last axis, for codes of dtype `to`. Method `range`: i8 amax / 127; i4 the element of largest magnitude (the first of equals) / -8, so that it is code -8 whatever its sign; u4 (max - min) / 15. Method `mse`: for i4 and u4, of several scales near that one (of either sign for i4; for u4 with minimums) that with the least squared error. NaN counts as 0; elements of u4 and scales stop at 65504.",
    axes: ([x], { group }) => scalesRule(x!.shape, group),
    infer: (ins, attrs) =>
      inferScales("groupScales", ins, attrs, attrs.method === "mse" ? ["i4", "u4"] : ["i8", "i4", "u4"]),
    evaluate: ([x], attrs, type) => mapGroups(x!, attrs.group, type, (xs) => groupParams(xs, attrs).scale),
  }),
  groupMinimums: defineOp({
    arity: 1,
    kind: "opaque",
    attrs: scaleAttrs,
    doc: "The f16 minimum of each group of `group` elements along the last axis, for affine codes (`to` is u4) beside the scale that `groupScales` gives for the same attributes.",
    axes: ([x], { group }) => scalesRule(x!.shape, group),
    infer: (ins, attrs) => inferScales("groupMinimums", ins, attrs, ["u4"]),
    evaluate: ([x], attrs, type) => mapGroups(x!, attrs.group, type, (xs) => groupParams(xs, attrs).minimum),
  }),
  quantizeGroups: defineOp({
    arity: "variadic",
    kind: "injective",
    attrs: { dtype: "dtype", group: "int" },
    doc: "Codes of x by scales, or by scales and minimums (u4): `x / scale`, or `(x - minimum) / scale`, to the nearest integer, ties to even, clamped to the codes of the dtype (i8 -127 .. 127, i4 -8 .. 7, u4 0 .. 15). A scale of 0 and NaN give code 0. A device may divide less exactly and give the neighbouring code where two are as near.",
    axes: ([x, ...params], { group }) => {
      const rule = groupedRule(x!.shape, group, params.length);
      return { ins: [rule.all, ...rule.params], out: rule.all, whole: rule.whole };
    },
    infer: ([x, ...params], { dtype, group }) => {
      const fits = x !== undefined && isFloat(x.dtype) && codeRange(dtype) !== undefined;
      if (!fits || !groupParamsFit(x.shape, params, group, dtype)) {
        throw typeError("quantizeGroups", `float x[.., i] and ${paramsOf(dtype, group)}`, x ? [x, ...params] : []);
      }
      return tensorType(dtype, x.shape);
    },
    evaluate: ([x, ...params], { group, dtype }, type) => {
      const out = zeros(dtype, type.shape);
      const [read, write, param] = [reader(x!), writer(out), groupReader(params, type.shape, group)];
      const { low, high } = codeRange(dtype)!;
      for (let i = 0; i < sizeOf(type.shape); i++) {
        const { scale, minimum } = param(i);
        const shifted = params.length > 1 ? Math.fround(read(i) - minimum) : read(i);
        const code = scale === 0 ? 0 : nearestEven(Math.fround(shifted / scale));
        write(i, Math.min(Math.max(code, low), high));
      }
      return out;
    },
  }),
  dequantizeGroups: defineOp({
    arity: "variadic",
    kind: "injective",
    attrs: { group: "int" },
    unpacks: true,
    doc: "`q * scale`, or `q * scale + minimum` where minimums are given: codes i8, i4 or u4 q[.., i] with scales (and minimums) [.., ceil(i/group)] of any float dtype -> f32. Of weights it stays in the program: what is stored is codes and scales.",
    axes: ([x, ...params], { group }) => {
      const rule = groupedRule(x!.shape, group, params.length);
      return { ins: [rule.all, ...rule.params], out: rule.all, whole: rule.whole };
    },
    infer: ([q, ...params], { group }) => {
      if (q === undefined || codeRange(q.dtype) === undefined || !groupParamsFit(q.shape, params, group, q.dtype)) {
        const what = `codes q[.., i] (i8, i4, u4) and ${paramsOf(q?.dtype ?? "i8", group)}`;
        throw typeError("dequantizeGroups", what, q ? [q, ...params] : []);
      }
      return tensorType("f32", q.shape);
    },
    evaluate: ([q, ...params], { group }, type) => {
      const out = zeros("f32", type.shape);
      const [read, write, param] = [reader(q!), writer(out), groupReader(params, type.shape, group)];
      for (let i = 0; i < sizeOf(type.shape); i++) {
        const { scale, minimum } = param(i);
        const product = Math.fround(read(i) * scale);
        write(i, params.length > 1 ? Math.fround(product + minimum) : product);
      }
      return out;
    },
  }),
} as const;

type ScaleAttrs = AttrsFor<typeof scaleAttrs>;

function inferScales(op: string, ins: readonly TensorType[], attrs: ScaleAttrs, to: readonly DType[]): TensorType {
  const [x] = ins;
  const fits = attrs.group > 0 && to.includes(attrs.to) && methods.includes(attrs.method);
  if (!fits || !isFloat(x!.dtype) || x!.shape.length === 0) {
    const what = `float x[.., i], group above 0, to ${to.join(" or ")}, method ${methods.join(" or ")}`;
    throw typeError(op, what, ins);
  }
  return tensorType("f16", groupsShape(x!.shape, attrs.group));
}

/** Scales, for u4 followed by minimums. i4 and i8 have no minimums. */
function groupParamsFit(shape: Shape, params: readonly TensorType[], group: number, dtype: DType): boolean {
  if (shape.length === 0 || group < 1 || params.length !== (dtype === "u4" ? 2 : 1)) return false;
  const expected = groupsShape(shape, group);
  return params.every((param) => isFloat(param.dtype) && sameShape(param.shape, expected));
}

function paramsOf(dtype: DType, group: number): string {
  return `float scales${dtype === "u4" ? " and minimums" : ""}[.., ceil(i/${group})]`;
}

/** Scale and minimum of element i. */
function groupReader(params: readonly Tensor[], shape: Shape, group: number) {
  const length = shape.at(-1)!;
  const perRow = Math.ceil(length / group);
  const [scale, minimum] = params.map(reader);
  return (i: number) => {
    const at = Math.floor(i / length) * perRow + Math.floor((i % length) / group);
    return { scale: scale!(at), minimum: minimum?.(at) ?? 0 };
  };
}

/** One number per group. */
function mapGroups(x: Tensor, group: number, type: TensorType, of: (xs: readonly number[]) => number): Tensor {
  const out = zeros("f16", type.shape);
  const [read, write] = [reader(x), writer(out)];
  const length = x.type.shape.at(-1)!;
  const perRow = Math.ceil(length / group);
  for (let i = 0; i < sizeOf(type.shape); i++) {
    const [row, first] = [Math.floor(i / perRow) * length, (i % perRow) * group];
    const count = Math.min(group, length - first);
    write(i, of(Array.from({ length: count }, (_, j) => finite(read(row + first + j)))));
  }
  return out;
}

function finite(x: number): number {
  return Number.isNaN(x) ? 0 : x;
}

/** The f16 nearest to a number, not beyond the largest. */
function toF16(value: number): number {
  return f16ToF32(f32ToF16(Math.min(Math.max(Math.fround(value), -largestF16), largestF16)));
}

interface GroupParams {
  readonly scale: number;
  readonly minimum: number;
}

function groupParams(xs: readonly number[], { to, method }: ScaleAttrs): GroupParams {
  const [first, ...others] = to === "u4" ? affineParams(xs, method) : symmetricParams(xs, to, method);
  let best = first!;
  let least = squaredError(xs, best, to);
  for (const params of others) {
    const error = squaredError(xs, params, to);
    if (error < least) [best, least] = [params, error];
  }
  return best;
}

/** The scales to choose from, in order; of equals the first is taken. */
function symmetricParams(xs: readonly number[], to: DType, method: string): GroupParams[] {
  const most = xs.reduce((a, b) => (Math.abs(b) > Math.abs(a) ? b : a), 0);
  if (to === "i8") return [{ scale: toF16(Math.abs(most) / 127), minimum: 0 }];
  if (method === "range") return [{ scale: toF16(most / -8), minimum: 0 }];
  const { from, to: last } = searchedScales;
  return Array.from({ length: last - from + 1 }, (_, i) => (from + i) / 16)
    .flatMap((ratio) => [ratio, -ratio])
    .map((ratio) => ({ scale: toF16(Math.fround(most / -8) * ratio), minimum: 0 }));
}

/** Scales and minimums to choose from. */
function affineParams(xs: readonly number[], method: string): GroupParams[] {
  const inside = xs.map((x) => Math.min(Math.max(x, -largestF16), largestF16));
  const [low, high] = [Math.min(...inside), Math.max(...inside)];
  const params = (from: number, to: number) => ({ scale: toF16(Math.fround(to - from) / 15), minimum: toF16(from) });
  if (method === "range") return [params(low, high)];
  const middle = Math.fround(Math.fround(low + high) * 0.5);
  const shrinks = Array.from({ length: searchedShrink + 1 }, (_, i) => i / 16);
  const shrunk = (end: number, by: number) => Math.fround(end + Math.fround(Math.fround(middle - end) * by));
  return shrinks.flatMap((below) => shrinks.map((above) => params(shrunk(low, below), shrunk(high, above))));
}

/**
 * In f32, added up in four sums of every fourth element each, which end as (0 + 2) + (1 + 3): what four lanes do, so that
 * every device chooses the same scale. Codes are found by the inverse of the scale, one division for all elements.
 */
function squaredError(xs: readonly number[], { scale, minimum }: GroupParams, to: DType): number {
  const { low, high } = codeRange(to)!;
  const inverse = Math.fround(1 / (scale === 0 ? 1 : scale));
  const sums = [0, 0, 0, 0];
  for (const [j, x] of xs.entries()) {
    const code = nearestEven(Math.fround(Math.fround(x - minimum) * inverse));
    const near = Math.fround(Math.fround(Math.min(Math.max(code, low), high) * scale) + minimum);
    const off = Math.fround(x - near);
    sums[j % 4] = Math.fround(sums[j % 4]! + Math.fround(off * off));
  }
  return Math.fround(Math.fround(sums[0]! + sums[2]!) + Math.fround(sums[1]! + sums[3]!));
}
