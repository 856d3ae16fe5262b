/**
 * Sections: the part of a weight expression inside a box of indices, as an expression on parts of its weights. So a large
 * expression is evaluated block by block, each from what it needs of the checkpoint and no more. A box is asked of the
 * root and passed down to the operands, each op saying which box of them it needs; what cannot be said as a box is
 * enlarged and cut. An op without a rule needs its operands whole, so sections are always right, and small where ops are
 * local.
 */
import type { Maths } from "../ir/build.ts";
import { attrsOf, isOp, type Node } from "../ir/graph.ts";
import { type OpName, opKind } from "../ir/ops/all.ts";
import { dtypeInfo, type Shape, sizeOf, stridesOf } from "../ir/types.ts";
import { matchAxes } from "./lower/index-math.ts";

/** Indices from `from` below `to`. */
export interface Span {
  readonly from: number;
  readonly to: number;
}

/** A span of each axis. */
export type Box = readonly Span[];

/** What stands for the elements of a weight inside a box, whose elements lie together in each tensor of the checkpoint. */
export type Leaf = (weight: Node<"weight">, box: Box) => Node;

export function wholeBox(shape: Shape): Box {
  return shape.map((to) => ({ from: 0, to }));
}

export function boxShape(box: Box): number[] {
  return box.map(({ from, to }) => to - from);
}

interface Context {
  readonly build: Maths;
  readonly leaf: Leaf;
  readonly section: (node: Node, box: Box) => Node;
}

/** The elements of `node` inside `box`, or of a larger box that is cut afterwards. */
type SectionRule = (context: Context, node: Node, box: Box) => Node;

/** A function that gives the section of a node inside a box; equal sections are one node. */
export function sections(build: Maths, leaf: Leaf): (node: Node, box: Box) => Node {
  const known = new Map<string, Node>();
  const section = (node: Node, box: Box): Node => {
    const key = `${node.id} ${box.map(({ from, to }) => `${from}:${to}`)}`;
    let found = known.get(key);
    if (found === undefined) {
      found = ruleOf(node)({ build, leaf, section }, node, box);
      known.set(key, found);
    }
    return found;
  };
  return section;
}

function ruleOf(node: Node): SectionRule {
  const own = rules[node.op];
  if (own !== undefined && sizeOf(node.type.shape) > 0) return own;
  if (opKind(node.op) === "elementwise") return (context, _, box) => withOperands(context, node, () => box);
  if (opKind(node.op) === "reduce") return reduced;
  return wholeThenCut;
}

/** The op on the sections of its operands, where its attributes do not speak of sizes. */
function withOperands({ build, section }: Context, node: Node, boxOf: (operand: Node, i: number) => Box): Node {
  return build.builder.make(
    node.op,
    node.ins.map((x, i) => section(x, boxOf(x, i))),
    node.attrs,
  );
}

const wholeThenCut: SectionRule = (context, node, box) => {
  const whole = withOperands(context, node, (x) => wholeBox(x.type.shape));
  return cut(context.build, whole, wholeBox(node.type.shape), box);
};

/** The reduced axis, which comes last, is needed whole. */
const reduced: SectionRule = (context, node, box) =>
  withOperands(context, node, (x) => [...box, { from: 0, to: x.type.shape.at(-1)! }]);

/** What `inner` has of a value that has the elements of `outer`. */
function cut({ slice }: Maths, node: Node, outer: Box, inner: Box): Node {
  return inner.reduce(
    (x, { from, to }, axis) => slice(x, axis, from - outer[axis]!.from, to - outer[axis]!.from),
    node,
  );
}

const ints = (node: Node, name: string) => attrsOf(node)[name] as readonly number[]; // checked against the op's spec
const intOf = (node: Node, name: string) => attrsOf(node)[name] as number; // as above

/** `span` with its ends moved outwards to multiples of `size`, inside an axis of `length`. */
function aligned({ from, to }: Span, size: number, length: number): Span {
  return { from: from - (from % size), to: Math.min(Math.ceil(to / size) * size, length) };
}

/** The indices of runs of `size` that hold an aligned span. */
function runsOf({ from, to }: Span, size: number): Span {
  return { from: from / size, to: Math.ceil(to / size) };
}

/** One number per run of the last axis. */
const ofGroups: SectionRule = (context, node, box) => {
  const group = intOf(node, "group");
  return withOperands(context, node, (x) => {
    const { from, to } = box.at(-1)!;
    return box.with(-1, { from: from * group, to: Math.min(to * group, x.type.shape.at(-1)!) });
  });
};

/** Elements beside a number per run of the last axis. */
const withGroups: SectionRule = (context, node, box) => {
  const group = intOf(node, "group");
  const last = aligned(box.at(-1)!, group, node.type.shape.at(-1)!);
  const outer = box.with(-1, last);
  const made = withOperands(context, node, (_, i) => (i === 0 ? outer : box.with(-1, runsOf(last, group))));
  return cut(context.build, made, outer, box);
};

const rules: Partial<Record<OpName, SectionRule>> = {
  weight: ({ build, leaf }, node, box) => {
    if (!isOp(node, "weight")) return node;
    const outer = readableBox(node, box);
    return cut(build, leaf(node, outer), outer, box);
  },
  full: ({ build }, node, box) => build.full(node.type.dtype, boxShape(box), intOf(node, "value")),
  transpose: (context, node, box) => {
    const perm = ints(node, "perm");
    return withOperands(context, node, () => perm.map((_, axis) => box[perm.indexOf(axis)]!));
  },
  slice: ({ section }, node, box) => {
    const [axis, start] = [intOf(node, "axis"), intOf(node, "start")];
    const { from, to } = box[axis]!;
    return section(node.ins[0]!, box.with(axis, { from: from + start, to: to + start }));
  },
  broadcast: ({ build, section }, node, box) => {
    const { shape } = node.ins[0]!.type;
    const own = box.slice(box.length - shape.length).map((span, i) => (shape[i] === 1 ? { from: 0, to: 1 } : span));
    return build.broadcast(section(node.ins[0]!, own), boxShape(box));
  },
  concat: ({ build, section }, node, box) => {
    const axis = intOf(node, "axis");
    const { from, to } = box[axis]!;
    let start = 0;
    const parts = node.ins.flatMap((x) => {
      const first = start;
      start += x.type.shape[axis]!;
      const span = { from: Math.max(from, first) - first, to: Math.min(to, start) - first };
      return span.to > span.from ? [section(x, box.with(axis, span))] : [];
    });
    return build.concat(axis, ...parts);
  },
  reshape: reshaped,
  groupScales: ofGroups,
  groupMinimums: ofGroups,
  quantizeGroups: withGroups,
  dequantizeGroups: withGroups,
  dequantizeBlocks: (context, node, box) => {
    const block = ints(node, "block");
    const sizes = [...new Array<number>(box.length - block.length).fill(1), ...block];
    const outer = box.map((span, axis) => aligned(span, sizes[axis]!, node.type.shape[axis]!));
    const runs = outer.map((span, axis) => runsOf(span, sizes[axis]!));
    const made = withOperands(context, node, (_, i) => (i === 0 ? outer : runs));
    return cut(context.build, made, outer, box);
  },
};

/**
 * Axes are matched in runs of equal size. Where a run is more than one axis to one, the box becomes a range of row-major
 * offsets there: the operand gives the smallest box that holds it, which is laid flat, cut, and folded again.
 */
function reshaped({ build, section }: Context, node: Node, box: Box): Node {
  const [x] = node.ins;
  const [to, from] = [node.type.shape, x!.type.shape];
  const inner: Span[] = []; // of the operand
  const outer: Span[] = []; // of the result: `box`, or more
  const flat: { readonly length: number; readonly span: Span }[] = [];
  for (const { a, endA, b, endB } of matchAxes(to, from)) {
    const spans = box.slice(a, endA);
    const sizes = [to.slice(a, endA), from.slice(b, endB)] as const;
    if (spans.length === 1 && endB - b === 1) {
      inner.push(spans[0]!);
      outer.push(spans[0]!);
      flat.push({ length: spans[0]!.to - spans[0]!.from, span: { from: 0, to: spans[0]!.to - spans[0]!.from } });
      continue;
    }
    const result = enclose(sizes[0], rangeOf(sizes[0], spans));
    const range = rangeOf(sizes[0], result);
    const operand = enclose(sizes[1], range);
    const given = rangeOf(sizes[1], operand);
    inner.push(...operand);
    outer.push(...result);
    flat.push({ length: given.to - given.from, span: { from: range.from - given.from, to: range.to - given.from } });
  }
  const laid = build.reshape(
    section(x!, inner),
    flat.map(({ length }) => length),
  );
  const kept = flat.reduce((value, { span }, axis) => build.slice(value, axis, span.from, span.to), laid);
  return cut(build, build.reshape(kept, boxShape(outer)), outer, box);
}

/** The row-major offsets from the first to the last index of a box. */
function rangeOf(shape: Shape, box: Box): Span {
  const strides = stridesOf(shape);
  const at = (index: (span: Span) => number) => box.reduce((sum, span, axis) => sum + index(span) * strides[axis]!, 0);
  return { from: at(({ from }) => from), to: at(({ to }) => to - 1) + 1 };
}

/** The smallest box that holds a range of offsets and has no others between its first and its last. */
function enclose(shape: Shape, { from, to }: Span): Box {
  const strides = stridesOf(shape);
  let [first, last] = [from, to - 1];
  let open = true;
  return shape.map((size, axis) => {
    if (!open) return { from: 0, to: size };
    const stride = strides[axis]!;
    const span = { from: Math.floor(first / stride), to: Math.floor(last / stride) + 1 };
    open = span.to - span.from === 1;
    [first, last] = [first % stride, last % stride];
    return span;
  });
}

/** What can be read of a weight in one piece of each of its tensors. */
function readableBox(weight: Node<"weight">, box: Box): Box {
  const { shape, dtype } = weight.type;
  const lead = weight.attrs.name.includes("{0}") ? 1 : 0;
  const own = shape.slice(lead);
  // Pieces of 4-bit elements may begin in the middle of a byte.
  const rest = dtypeInfo(dtype).bits < 8 ? wholeBox(own) : enclose(own, rangeOf(own, box.slice(lead)));
  return [...box.slice(0, lead), ...rest];
}
