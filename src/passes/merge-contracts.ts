/**
 * Sibling contractions of one value become one: q, k and v; q_a and kv_a; gate and up; router and shared expert. One
 * wide contraction reads its input once and fills a device better than several narrow ones.
 *
 * Siblings have the same input, the same axis signature up to letters, and weights that differ in size along one axis
 * at most, the first axis that the weight alone brings into the result. The weights are concatenated along it, which
 * the loader does once because they depend on weights only, and each sibling becomes a slice of the wide result.
 * The form with a weight per token, `gather(w, experts)`, is merged likewise: the tables are concatenated and gathered
 * by the common index. Each element is still the same sum in the same order, so nothing is rounded differently.
 */
import { parseAxes, showAxes } from "../ir/axes.ts";
import { type Maths, maths } from "../ir/build.ts";
import { type Builder, type Func, isOp, type Node, named, nameOf, rebuild, topoOrder, usersOf } from "../ir/graph.ts";
import { keepName } from "../ir/rewrite.ts";
import type { Target } from "../ir/target.ts";
import { stageOf } from "./constant.ts";
import { mapOuts, type Pass } from "./pass.ts";

/** Weights of equal class may be merged: what a later pass treats differently must stay apart. */
export type ClassOfWeight = (weight: Node) => string;

export const mergeContracts: Pass = mergeContractsBy(() => "");

export function mergeContractsBy(classOf: ClassOfWeight): Pass {
  return {
    name: "merge-contracts",
    level: "tensor",
    exact: true,
    run: (module, { builder, target }) => mapOuts(module, (func) => mergeInFunc(func, builder, target, classOf)),
  };
}

interface Sibling {
  readonly node: Node<"contract">;
  /** Which operand is the weight: 0 or 1. */
  readonly side: number;
  /** The weight expression; the table where rows of it are gathered. */
  readonly weight: Node;
  /** The merged axis in the weight, and in the contraction's result. */
  readonly axis: number;
  readonly axisOut: number;
  /** Equal for contractions that can be merged. */
  readonly key: string;
}

function mergeInFunc(func: Func, builder: Builder, target: Target, classOf: ClassOfWeight): readonly Node[] {
  const build = maths(builder);
  const order = topoOrder(func.outs);
  const users = usersOf(order);
  const groups = new Map<string, Sibling[]>();
  for (const node of order) {
    const sibling = isOp(node, "contract") ? siblingOf(node, users, classOf) : undefined;
    if (sibling !== undefined) groups.set(sibling.key, [...(groups.get(sibling.key) ?? []), sibling]);
  }
  const groupOf = new Map<Node, Sibling[]>();
  for (const group of groups.values()) {
    if (group.length > 1) for (const { node } of group) groupOf.set(node, group);
  }
  if (groupOf.size === 0) return func.outs;
  const wide = new Map<Sibling[], Node>();
  return rebuild(func.outs, builder, (node, original) => {
    const group = groupOf.get(original);
    if (group === undefined || !isOp(node, "contract")) return node;
    const mixed = target.workgroup !== null && canMix(group);
    const merged = wide.get(group) ?? merge(group, node, build, mixed);
    wide.set(group, merged);
    const at = group.findIndex((sibling) => sibling.node === original);
    if (mixed) return keepName(original, partOfMix(merged, group[at]!.axisOut, at, build));
    const size = ({ weight, axis }: Sibling) => weight.type.shape[axis]!;
    const start = group.slice(0, at).reduce((sum, sibling) => sum + size(sibling), 0);
    const { axisOut } = group[at]!;
    return keepName(original, build.slice(merged, axisOut, start, start + size(group[at]!)));
  }).roots;
}

/** The contraction of the whole group; `node` is one of the group, with operands already rebuilt. */
function merge(group: readonly Sibling[], node: Node<"contract">, build: Maths, mixed: boolean): Node {
  const { axis, side } = group[0]!;
  const ofWeights = group.map(({ weight }) => weight);
  const { dtype } = ofWeights[0]!.type;
  // The cast is left outermost, so that what is stored is one narrow tensor.
  const parts = ofWeights.map(withoutCast);
  const table = build.cast(mixed ? mix(axis, parts, build) : build.concat(axis, ...parts), dtype);
  const index = indexOf(node.ins[side]!);
  const weight = index === undefined ? table : build.cast(build.gather(table, index), "f32");
  const names = group.map((sibling) => nameOf(sibling.node));
  const result = build.builder.make("contract", node.ins.with(side, weight), node.attrs);
  return names.includes(undefined) ? result : named(names.join("_"), result);
}

/** Rows of one weight that lie beside each other where two are mixed: those of a group of codes. */
const mixedRows = 32;

/**
 * Whether the rows of two weights are mixed, 32 of one and 32 of the other in turn: a workgroup of a GPU that computes
 * both results of some rows (gate and up) can then go on with them.
 */
function canMix(group: readonly Sibling[]): boolean {
  const [first, second] = group.map(({ weight, axis }) => weight.type.shape[axis]!);
  return group.length === 2 && first === second && first! % mixedRows === 0;
}

function mix(axis: number, weights: readonly Node[], { concat, reshape }: Maths): Node {
  const { shape } = weights[0]!.type;
  const rows = shape[axis]!;
  const runs = weights.map((each) => reshape(each, shape.toSpliced(axis, 1, rows / mixedRows, mixedRows)));
  return reshape(concat(axis + 1, ...runs), shape.with(axis, 2 * rows));
}

/** The result of weight `which` of two mixed ones. */
function partOfMix(merged: Node, axis: number, which: number, { reshape, slice }: Maths): Node {
  const { shape } = merged.type;
  const rows = shape[axis]! / 2;
  const runs = reshape(merged, shape.toSpliced(axis, 1, rows / mixedRows, 2, mixedRows));
  return reshape(slice(runs, axis + 1, which, which + 1), shape.with(axis, rows));
}

/** How a contraction can be merged with others; undefined where it has no weight of its own. */
function siblingOf(
  node: Node<"contract">,
  users: ReadonlyMap<Node, readonly Node[]>,
  classOf: ClassOfWeight,
): Sibling | undefined {
  const side = node.ins.findIndex((operand) => tableOf(operand) !== undefined);
  if (side < 0 || stageOf(node) !== "runtime" || node.ins.every((operand) => tableOf(operand))) return undefined;
  const [operand, input] = [node.ins[side]!, node.ins[1 - side]!];
  const [weight, index] = [tableOf(operand)!, indexOf(operand)];
  // A weight that something else reads too would be stored twice.
  const read = [operand, withoutCast(operand), weight, withoutCast(weight)];
  const shared = read.some((each) => users.get(each)!.length > 1);
  const { ins, out } = parseAxes(node.attrs.axes);
  const lead = index?.type.shape.length ?? 0;
  // Axis `lead - 1` of a gathered weight comes from axis 0 of the table, which the indices choose from.
  const own = ins[side]!.findIndex((name, at) => at >= lead && !ins[1 - side]!.includes(name) && out.includes(name));
  if (shared || own < 0) return undefined;
  const axis = index === undefined ? own : own - lead + 1;
  const shape = weight.type.shape.with(axis, 0);
  const key = [input.id, index?.id, side, canonical(node.attrs.axes), shape, storedDTypes(weight), classOf(weight)];
  return { node, side, weight, axis, axisOut: out.indexOf(ins[side]![own]!), key: key.join("|") };
}

/** The weight expression an operand is, or whose rows it gathers (and casts). */
function tableOf(operand: Node): Node | undefined {
  if (stageOf(operand) === "weight") return operand;
  const rows = withoutCast(operand);
  return isOp(rows, "gather") && stageOf(rows.ins[0]!) === "weight" ? rows.ins[0] : undefined;
}

/** The indices by which a step gathers rows of a weight; undefined for a weight read whole. */
function indexOf(operand: Node): Node | undefined {
  return stageOf(operand) === "weight" ? undefined : withoutCast(operand).ins[1];
}

function withoutCast(node: Node): Node {
  return node.op === "cast" ? node.ins[0]! : node;
}

/** Dtypes of the checkpoint tensors below, and of the expression without its cast: alike, or not merged. */
function storedDTypes(weight: Node): string {
  const stored = topoOrder([weight]).filter((node) => node.op === "weight");
  return [withoutCast(weight), ...stored.slice(0, 1)].map(({ type }) => type.dtype).join(" ");
}

/** The signature with axes named in order of appearance. */
function canonical(axes: string): string {
  const { ins, out } = parseAxes(axes);
  const letters = [...new Set(ins.flat())];
  const rename = (list: readonly string[]) => list.map((name) => `a${letters.indexOf(name)}`);
  return showAxes({ ins: ins.map(rename), out: rename(out) });
}
