/**
 * Packs quantised contractions for targets with products of bytes. Where codes of weights meet codes of inputs,
 *
 *     contract(dequantizeGroups(x, xs), dequantizeGroups(w, ws))   ->   dotGroups(x, xs, xSum, packed w, packed ws)
 *
 * (or dequantizeGroups(w, ws, minimums), which are packed as scales are) with four rows of w interleaved so that one vector
 * holds four codes of each, or of each of eight where a byte holds two codes, and scales in the same order. Packing is
 * arithmetic on weight expressions, so the loader does it. Codes become unsigned by adding `zero`, whose share of the
 * products is `zero` times the sum of the input's codes. Chosen experts are chosen from packed experts. Groups are then
 * added up in integers first, which only changes rounding. An input whose scales serve more than 32 codes, such as one
 * calibrated scale, is read with the scale of each group's first code.
 *
 * Where weights are sparse, two of each four, the two are stored with their places: 5 bits a weight instead of 8.
 */
import { parseAxes } from "../ir/axes.ts";
import { type Maths, maths } from "../ir/build.ts";
import { isOp, type Node, named, nameOf, rebuild } from "../ir/graph.ts";
import { type DotOrder, dotBlock, dotGroup, pairBits } from "../ir/ops/dot.ts";
import { keepName } from "../ir/rewrite.ts";
import type { DType } from "../ir/types.ts";
import { stageOf } from "./constant.ts";
import { mapOuts, type Pass } from "./pass.ts";

export interface PackOptions {
  /** Which order the target's kernels read. */
  readonly order?: DotOrder;
  /** Whether codes of 8 bits are known to be 0 but for two of each four in a row, and to be stored so. */
  readonly arePairs?: (codes: Node) => boolean;
}

export const packDots = packDotsOf({});

export function packDotsOf({ order = "chunks", arePairs = () => false }: PackOptions): Pass {
  return {
    name: "pack-dots",
    level: "tensor",
    exact: false,
    run: (module, { builder }) => {
      const build = maths(builder);
      const change = (node: Node) =>
        isOp(node, "contract") ? keepName(node, packContract(node, build, { order, arePairs }) ?? node) : node;
      return mapOuts(module, (func) => rebuild(func.outs, builder, change).roots);
    },
  };
}

/** Codes and their scales, a weight's or an input's. */
interface Codes {
  readonly codes: Node;
  readonly scales: Node;
}

function packContract(
  node: Node<"contract">,
  build: Maths,
  { order, arePairs }: Required<PackOptions>,
): Node | undefined {
  const { ins, out } = parseAxes(node.attrs.axes);
  const side = node.ins.findIndex((x) => weightOf(x) !== undefined);
  if (side < 0) return undefined;
  const weight = weightOf(node.ins[side]!)!;
  const input = inputOf(node.ins[1 - side]!);
  const [w, x] = [ins[side]!, ins[1 - side]!];
  const [row, summed] = [w.at(-2)!, w.at(-1)!];
  const [wLead, xLead] = [w.slice(0, -2), x.slice(0, -1)];
  const lead = wLead.length > xLead.length ? wLead : xLead;
  const shorter = wLead.length > xLead.length ? xLead : wLead;
  // Experts may be summed over: the last axis of the lead, after the products.
  const kept = lead.filter((axis) => out.includes(axis));
  const overLast = kept.length === lead.length - 1 && !out.includes(lead.at(-1)!);
  const fits =
    input !== undefined &&
    x.at(-1) === summed &&
    shorter.every((axis, i) => axis === lead[i]) &&
    (kept.length === lead.length || overLast) &&
    [...kept, row].join(" ") === out.join(" ");
  const [rows, length] = node.ins[side]!.type.shape.slice(-2) as [number, number]; // of rank 2 or more
  if (!fits || rows % dotBlock(bitsOf(weight)) !== 0 || length % dotGroup !== 0) return undefined;
  const pairs = weight.codes.type.dtype === "i8" && arePairs(weight.codes);
  const dot = dotOf(weight, input, build, pairs ? packPairs : order === "rows" ? packRows : packCodes);
  if (!overLast) return dot;
  const rank = dot.type.shape.length;
  const turned = Array.from({ length: rank }, (_, i) => (i < rank - 2 ? i : i === rank - 2 ? rank - 1 : rank - 2));
  return build.reduceSum(build.transpose(dot, turned));
}

type Pack = (codes: Node, build: Maths) => Node;

function dotOf(weight: Weight, { codes, scales, group }: Input, build: Maths, pack: Pack): Node {
  const pairs = pack === packPairs;
  const { cast, reduceSum, reshape } = build;
  const groups = codes.type.shape.at(-1)! / dotGroup;
  const name = nameOf(codes) ?? "x";
  const grouped = reshape(cast(codes, "f32"), [...codes.type.shape.slice(0, -1), groups, dotGroup]);
  const sums = named(`${name}_sums`, reduceSum(grouped));
  const bits = pairs ? pairBits : bitsOf(weight);
  const label = nameOf(weight.codes) ?? "w";
  const choose = (table: Node) => (weight.index === undefined ? table : build.gather(table, weight.index));
  const packed = choose(named(`${label}_packed`, pack(weight.codes, build)));
  const packedParams = [weight.scales, ...weight.minimums].map((each, i) =>
    choose(named(`${label}_packed_${i === 0 ? "scales" : "minimums"}`, packScales(each, dotBlock(bits), build))),
  );
  const ins = [codes, scalesPerGroup(scales, groups, group / dotGroup, build), sums, packed, ...packedParams];
  const zero = pairs ? 0 : zeros[weight.codes.type.dtype]!;
  return build.builder.make("dotGroups", ins, { bits, zero });
}

const bitsOf = ({ codes }: Weight): number => (codes.type.dtype === "i8" ? 8 : 4);

/** What is added to codes to make them unsigned. */
const zeros: Partial<Record<DType, number>> = { i8: 128, i4: 8, u4: 0 };

interface Input extends Codes {
  /** Codes that share a scale. */
  readonly group: number;
}

interface Weight extends Codes {
  /** One, where codes are affine. */
  readonly minimums: readonly Node[];
  /** Which of stacked weights, where they are chosen. */
  readonly index: Node | undefined;
}

/** Codes of a weight with scales of 32, or rows chosen of stacked ones. */
function weightOf(node: Node): Weight | undefined {
  if (!isOp(node, "dequantizeGroups") || node.attrs.group !== dotGroup) return undefined;
  const [first, ...others] = node.ins;
  const index = isOp(first!, "gather") ? first.ins[1]! : undefined;
  const chosen = node.ins.every((each) => isOp(each, "gather") && each.ins[1] === index);
  const [codes, scales, ...minimums] = chosen ? node.ins.map((each) => each.ins[0]!) : [first!, ...others];
  if (stageOf(codes!) !== "weight" || zeros[codes!.type.dtype] === undefined) return undefined;
  return { codes: codes!, scales: scales!, minimums, index: chosen ? index : undefined };
}

/** Codes that this step computes of an input, whose scales serve whole groups of 32. */
function inputOf(node: Node): Input | undefined {
  if (!isOp(node, "dequantizeGroups") || node.ins.length !== 2) return undefined;
  const [codes, scales] = [node.ins[0]!, node.ins[1]!];
  const { group } = node.attrs;
  const length = node.type.shape.at(-1)!;
  const whole = length % dotGroup === 0 && (group % dotGroup === 0 || group >= length);
  return whole && codes.type.dtype === "i8" && stageOf(codes) === "runtime" ? { codes, scales, group } : undefined;
}

/** Scales [m.., s], each of them for `each` groups or for all, as [m.., groups]. */
function scalesPerGroup(scales: Node, groups: number, each: number, { broadcast, reshape, slice }: Maths): Node {
  const lead = scales.type.shape.slice(0, -1);
  const count = scales.type.shape.at(-1)!;
  if (count === groups) return scales;
  if (count === 1) return broadcast(scales, [...lead, groups]);
  // The last scale may serve fewer groups than the others.
  const repeated = broadcast(reshape(scales, [...lead, count, 1]), [...lead, count, each]);
  return slice(reshape(repeated, [...lead, count * each]), lead.length, 0, groups);
}

/** i8, i4 or u4 codes [m.., o, i] as `dotGroups` reads them row by row. */
function packRows(codes: Node, { add, cast, mul, reshape, slice, transpose }: Maths): Node {
  const lead = codes.type.shape.slice(0, -2);
  const [rows, length] = codes.type.shape.slice(-2) as [number, number]; // of rank 2 or more
  const wide = codes.type.dtype === "i8";
  const zero = zeros[codes.type.dtype]!;
  const block = dotBlock(wide ? 8 : 4);
  const [blocks, groups, at] = [rows / block, length / dotGroup, lead.length];
  const unsigned = zero === 0 ? cast(codes, "i32") : add(cast(codes, "i32"), zero);
  // [block, row, group, half, t]
  const split = reshape(unsigned, [...lead, blocks, block, groups, 2, 16]);
  const half = (i: number) => slice(split, at + 3, i, i + 1);
  const bytes = wide ? split : add(half(0), mul(half(1), 16));
  return cast(transpose(bytes, [...lead.keys(), at, at + 2, at + 3, at + 1, at + 4]), "u8");
}

/** The same, four of each row at a time. */
function packCodes(codes: Node, { add, cast, mul, reshape, slice, transpose }: Maths): Node {
  const lead = codes.type.shape.slice(0, -2);
  const [rows, length] = codes.type.shape.slice(-2) as [number, number]; // of rank 2 or more
  const wide = codes.type.dtype === "i8";
  const zero = zeros[codes.type.dtype]!;
  const [blocks, groups, at] = [rows / dotBlock(wide ? 8 : 4), length / dotGroup, lead.length];
  const unsigned = zero === 0 ? cast(codes, "i32") : add(cast(codes, "i32"), zero);
  const half = (i: number) => slice(reshape(unsigned, [...lead, blocks, 2, 4, groups, 8, 4]), at + 1, i, i + 1);
  const bytes = wide ? unsigned : add(half(0), mul(half(1), 16));
  // [block, row, group, chunk, t] -> [block, group, chunk, row, t]
  const split = reshape(bytes, [...lead, blocks, 4, groups, 8, 4]);
  const perm = [...lead.keys(), at, at + 2, at + 3, at + 1, at + 4];
  return cast(transpose(split, perm), "u8");
}

/** i8 codes [m.., o, i], two of each four other than 0, as `dotGroups` of 5 bits reads them. Of more, the first and the last. */
function packPairs(codes: Node, { add, cast, concat, mul, ne, reshape, slice, sub, transpose }: Maths): Node {
  const lead = codes.type.shape.slice(0, -2);
  const [rows, length] = codes.type.shape.slice(-2) as [number, number]; // of rank 2 or more
  const [blocks, groups, at] = [rows / 4, length / dotGroup, lead.length];
  const fours = reshape(cast(codes, "i32"), [...lead, rows, length / 4, 4]);
  const [a, b, c, d] = [0, 1, 2, 3].map((t) => slice(fours, at + 2, t, t + 1)) as [Node, Node, Node, Node]; // four
  /** 1 where a code is 0. */
  const gone = (x: Node) => sub(1, cast(ne(x, 0), "i32"));
  const walk = (next: Node, x: Node, rest: Node | number) => add(next, mul(gone(x), rest));
  const one = (x: Node) => add(gone(x), 1);
  const firstPlace = mul(gone(a), add(mul(gone(b), one(c)), 1));
  const lastPlace = sub(3, mul(gone(d), add(mul(gone(c), one(b)), 1)));
  const first = walk(a, a, walk(b, b, walk(c, c, d)));
  // Where both are the same one, the last is 0: they would add up.
  const other = cast(ne(firstPlace, lastPlace), "i32");
  const last = mul(other, walk(d, d, walk(c, c, walk(b, b, a))));
  // [block, row, group, vector, half, first or second] -> [block, group, vector, row, half, first or second]
  const perm = [...lead.keys(), at, at + 2, at + 3, at + 1, at + 4, at + 5];
  const packed = (one: Node, other: Node) =>
    transpose(reshape(concat(at + 2, one, other), [...lead, blocks, 4, groups, 4, 2, 2]), perm);
  const places = packed(firstPlace, lastPlace);
  const shifted = [0, 1, 2, 3].map((c) => mul(slice(places, at + 2, c, c + 1), 4 ** c));
  const all = shifted.reduce((sum, each) => add(sum, each));
  const bytes = concat(at + 2, packed(add(first, 128), add(last, 128)), all);
  return cast(reshape(bytes, [...lead, blocks, groups, 5, 4, 4]), "u8");
}

/** Scales [m.., o, g] as [m.., o/block, g, block]. */
function packScales(scales: Node, block: number, { reshape, transpose }: Maths): Node {
  const lead = scales.type.shape.slice(0, -2);
  const [rows, groups] = scales.type.shape.slice(-2) as [number, number]; // of rank 2 or more
  const split = reshape(scales, [...lead, rows / block, block, groups]);
  return transpose(split, [...lead.keys(), lead.length, lead.length + 2, lead.length + 1]);
}
