/**
 * Blocks of weight expressions: which to evaluate together (codes and their scales, which read the same weights and share
 * the search), and box by box, so that temporaries stay small whatever the size. A block is a function of parts of
 * weights; blocks of equal sizes are equal functions, so few are compiled.
 */
import { type Maths, maths } from "../ir/build.ts";
import { attrsOf, Builder, type Func, isOp, type Node, topoOrder } from "../ir/graph.ts";
import { opKind } from "../ir/ops/all.ts";
import { dtypeInfo, type Shape, sizeOf, stridesOf, type TensorType, tensorType } from "../ir/types.ts";
import { weightParts } from "../ir/weight.ts";
import { type Box, boxShape, type Span, sections, wholeBox } from "./section.ts";

/** A part of a weight: the elements of a box. */
export interface WeightPart {
  readonly weight: Node<"weight">;
  readonly box: Box;
}

/** What to read of the tensors of a checkpoint for a part of a weight. */
export interface PartPieces {
  /** The tensors, in order, each with the same range of row-major offsets. */
  readonly names: readonly string[];
  readonly own: TensorType;
  readonly range: Span;
  /** The type of the part. */
  readonly type: TensorType;
}

export function piecesOf({ weight, box }: WeightPart, layer: number | undefined): PartPieces {
  const { name, dtype } = weight.attrs;
  const { names, shape, stacked } = weightParts(name, weight.type.shape, layer);
  return {
    names: stacked ? names.slice(box[0]!.from, box[0]!.to) : names,
    own: tensorType(dtype, shape),
    range: offsetsOf(shape, stacked ? box.slice(1) : box),
    type: tensorType(dtype, boxShape(box)),
  };
}

/** The row-major offsets of a box whose elements lie together. */
export function offsetsOf(shape: Shape, box: Box): Span {
  const from = stridesOf(shape).reduce((sum, stride, axis) => sum + box[axis]!.from * stride, 0);
  return { from, to: from + sizeOf(boxShape(box)) };
}

export interface FoldBlock {
  /** From parts of weights to parts of the expressions' values. */
  readonly func: Func;
  /** One for each parameter. */
  readonly reads: readonly WeightPart[];
  /** Where in its expression each result belongs: elements that lie together. */
  readonly boxes: readonly Box[];
}

/** Reading more of the weights than so many times what there is does not pay; then all is done at once. */
const mostReread = 1.5;

/** Expressions that can be evaluated together: those of the same weights and as many rows. */
export function groupsOf(exprs: readonly Node[]): Node[][] {
  const groups = new Map<string, Node[]>();
  for (const expr of exprs) {
    const weights = weightsOf([expr]).map(({ id }) => id);
    const alone = isOp(expr, "weight");
    const key = alone ? `${expr.id}` : `${weights.sort((a, b) => a - b).join()} of ${expr.type.shape[0]}`;
    groups.set(key, [...(groups.get(key) ?? []), expr]);
  }
  return [...groups.values()];
}

/** The blocks that make up the expressions, each of at most about `limit` elements of weights where that is possible. */
export function blocksOf(exprs: readonly Node[], limit: number): FoldBlock[] {
  const total = weightsOf(exprs).reduce((sum, { type }) => sum + sizeOf(type.shape), 0);
  const whole = exprs.map(({ type }) => wholeBox(type.shape));
  if (total <= limit) return [blockOf(exprs, whole)];
  for (const { lead, spans } of waysToCut(exprs, total, limit)) {
    const boxesAt = (leading: Box, span: Span) => whole.map((box) => [...leading, span, ...box.slice(lead.length + 1)]);
    const [first] = everyIndex(lead);
    if (first === undefined || spans.length === 0) break;
    const sample = blockOf(exprs, boxesAt(first, spans[0]!));
    const read = sample.reads.reduce((sum, { box }) => sum + sizeOf(boxShape(box)), 0);
    const all = spans.reduce((sum, { from, to }) => sum + to - from, 0) * sizeOf(lead);
    if (read > (mostReread * total * (spans[0]!.to - spans[0]!.from)) / all) continue;
    return [...everyIndex(lead)].flatMap((leading) => spans.map((span) => blockOf(exprs, boxesAt(leading, span))));
  }
  return [blockOf(exprs, whole)];
}

interface Cutting {
  /** Axes that are walked one index at a time. */
  readonly lead: readonly number[];
  /** The spans of the axis after them. */
  readonly spans: readonly Span[];
}

/** Ways to cut, from the smallest blocks that are worth it: at a later axis, then in runs of rows that share a scale. */
function* waysToCut(exprs: readonly Node[], total: number, limit: number): Generator<Cutting> {
  const { shape } = exprs[0]!.type;
  for (let axis = axisOf(exprs, total, limit); axis >= 0; axis--) {
    const [lead, size] = [shape.slice(0, axis), shape[axis]!];
    const most = Math.max(Math.floor(limit / (total / sizeOf(lead) / size)), 1);
    const cuts = cutsOf(exprs, axis);
    for (const least of [1, 32, 128]) {
      yield { lead, spans: spansOf(size, Math.max(Math.floor(most / least), 1) * least, cuts, exprs.some(isNibbles)) };
    }
  }
}

function weightsOf(exprs: readonly Node[]): Node<"weight">[] {
  return topoOrder(exprs).filter((node) => isOp(node, "weight"));
}

function isNibbles({ type }: Node): boolean {
  return dtypeInfo(type.dtype).bits === 4;
}

/** The first axis along which a block of one index is small enough, or the last that all have; -1 where none is. */
function axisOf(exprs: readonly Node[], total: number, limit: number): number {
  const [first, ...others] = exprs.map(({ type }) => type.shape);
  let found = -1;
  for (const [axis, size] of first!.entries()) {
    if (others.some((shape) => shape[axis] !== size)) break;
    found = axis;
    if (total / sizeOf(first!.slice(0, axis + 1)) <= limit) break;
  }
  return found;
}

/** Spans of at most about `most` indices that end at the cuts, of one length between two cuts: the last may overlap. */
function spansOf(size: number, most: number, cuts: readonly number[], disjoint: boolean): Span[] {
  const align = [128, 32, 16, 4, 2].find((each) => most >= 4 * each || (each > 16 && most % each === 0)) ?? 1;
  const ends = [...new Set([0, ...cuts, size])].sort((a, b) => a - b);
  return ends.slice(1).flatMap((end, i) => {
    const start = ends[i]!;
    const count = Math.ceil((end - start) / most);
    const length = Math.min(Math.ceil(Math.ceil((end - start) / count) / align) * align, end - start);
    return Array.from({ length: Math.ceil((end - start) / length) }, (_, j) => {
      const from = disjoint ? start + j * length : Math.min(start + j * length, end - length);
      return { from, to: Math.min(from + length, end) };
    });
  });
}

/** Where concatenations along the axis change from one part to the next: a block should not need two. */
function cutsOf(exprs: readonly Node[], axis: number): number[] {
  const size = exprs[0]!.type.shape[axis]!;
  return topoOrder(exprs).flatMap((node) => {
    if (!isOp(node, "concat") || node.attrs.axis !== axis) return [];
    const rows = size / node.type.shape[axis]!;
    let end = 0;
    const ends = node.ins.map((x) => {
      end += x.type.shape[axis]!;
      return end * rows;
    });
    return ends.filter((each) => Number.isInteger(each) && each < size);
  });
}

/** Boxes of one index each, in row-major order. */
function* everyIndex(shape: readonly number[]): Generator<Box> {
  const [size, ...rest] = shape;
  if (size === undefined) yield [];
  else for (let i = 0; i < size; i++) for (const box of everyIndex(rest)) yield [{ from: i, to: i + 1 }, ...box];
}

function blockOf(exprs: readonly Node[], boxes: readonly Box[]): FoldBlock {
  const build = maths(new Builder());
  const reads: WeightPart[] = [];
  const params = new Map<string, Node<"param">>();
  const section = sections(build, (weight, box) => {
    const key = `${weight.id} ${box.map(({ from, to }) => `${from}:${to}`)}`;
    let param = params.get(key);
    if (param === undefined) {
      param = build.builder.param(`w${params.size}`, weight.type.dtype, boxShape(box));
      params.set(key, param);
      reads.push({ weight, box });
    }
    return param;
  });
  const outs = exprs.map((expr, i) => byGroups(section(expr, boxes[i]!), build));
  return { func: { name: "fold", params: [...params.values()], outs }, reads, boxes };
}

/** Elements of a group as an axis of their own, in the same order: so loops over groups know their scale. */
function byGroups(out: Node, build: Maths): Node {
  const { group } = attrsOf(out);
  const length = out.type.shape.at(-1) ?? 0;
  const splits = opKind(out.op) === "injective" && typeof group === "number" && length > group && length % group === 0;
  return splits ? build.reshape(out, [...out.type.shape.slice(0, -1), length / group, group]) : out;
}
