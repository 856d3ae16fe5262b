/**
 * What a rank's program reads of the checkpoint: for each weight, the box that its slices lie in. A loader that reads no
 * more reads the rank's share; of experts it skips whole tensors.
 */
import { isOp, type Module, type Node, topoOrder, usersOf } from "../../ir/graph.ts";
import { byteSize, sizeOf, type TensorType } from "../../ir/types.ts";

export interface WeightRegion {
  /** With placeholders, as in the program. */
  readonly name: string;
  readonly type: TensorType;
  /** First element and the one after the last, of each dimension. */
  readonly box: readonly (readonly [start: number, stop: number])[];
}

/** By function; a weight that several functions read has a region in each. */
export function weightRegions(module: Module): ReadonlyMap<string, readonly WeightRegion[]> {
  const regions = [...module.funcs.values()].map((func) => {
    const order = topoOrder(func.outs);
    const users = usersOf(order);
    const outs = new Set<Node>(func.outs);
    const found = order.flatMap((node): WeightRegion[] => {
      if (!isOp(node, "weight")) return [];
      const box = boxOf(node, users, outs);
      return [{ name: node.attrs.name, type: node.type, box }];
    });
    return [func.name, found] as const;
  });
  return new Map(regions);
}

type Box = readonly (readonly [number, number])[];

/** The box of a value's elements that its users read. */
function boxOf(node: Node, users: ReadonlyMap<Node, readonly Node[]>, outs: ReadonlySet<Node>): Box {
  const whole = node.type.shape.map((size): [number, number] => [0, size]);
  const readers = users.get(node) ?? [];
  if (outs.has(node) || readers.length === 0) return whole;
  const boxes = readers.map((reader): Box => {
    if (!isOp(reader, "slice")) return whole;
    const { axis, start } = reader.attrs;
    return boxOf(reader, users, outs).map(([from, to], i) => (i === axis ? [from + start, to + start] : [from, to]));
  });
  return whole.map((_, i) => [
    Math.min(...boxes.map((box) => box[i]![0])),
    Math.max(...boxes.map((box) => box[i]![1])),
  ]);
}

/** Bytes of a region. */
export function regionBytes({ type, box }: WeightRegion): number {
  const size = sizeOf(box.map(([start, stop]) => stop - start));
  return byteSize({ dtype: type.dtype, shape: [size] });
}
