/**
 * Weights that TensorFlow reads itself, out of the checkpoint's files: what only moves elements, or widens them, of tensors
 * that lie in a file as TensorFlow has them in memory. Their bytes never are in memory of JavaScript.
 *
 * `ImmutableConst` maps a file into memory from its first byte on; a slice of that is a copy of the tensor, which becomes the
 * variable's. Two things are done against TensorFlow's folding of constants, which would compute slices when it prepares a
 * graph, and keep them beside the variables: the map carries an attribute that folding leaves alone (that of ops which
 * allocate together; an empty list means nothing else), and nothing else of it is constant. Weights are read one after
 * another, so that what is made in between is of one of them.
 */
import { InputError } from "../../ir/errors.ts";
import { isOp, type Node, topoOrder } from "../../ir/graph.ts";
import { opKind } from "../../ir/ops/all.ts";
import type { TensorData } from "../../ir/tensor.ts";
import { type DType, dtypeInfo, sizeOf } from "../../ir/types.ts";
import type { StoredTensor } from "../../ir/weight.ts";
import { bytesOf, type GraphBuilder, type GraphTensor, shapeAttr, textAttr, typeAttr } from "./graph.ts";
import { type GraphEngine, type GraphValue, graphEngine } from "./graph-engine.ts";
import { formOf } from "./graph-forms.ts";
import { lowerNode } from "./ops.ts";
import { type Part, wholeOf } from "./row.ts";
import { tfTypes } from "./saved-model.ts";

/** A weight expression and the tensors of its leaves. */
export interface FileWeight {
  readonly expr: Node;
  readonly stored: ReadonlyMap<Node, readonly StoredTensor[]>;
}

/** What is in files as TensorFlow has it: others are carried in another form, or checked when they are read. */
const asStored: readonly DType[] = ["f32", "f16", "bf16", "i32", "i8", "u8"];

/** The weight, if TensorFlow can compute it from files to the bit. */
export function fileWeight(
  expr: Node,
  find: (weight: Node<"weight">) => readonly StoredTensor[] | null,
): FileWeight | null {
  const stored = new Map<Node, readonly StoredTensor[]>();
  for (const node of topoOrder([expr])) {
    if (isOp(node, "weight")) {
      const found = find(node);
      if (found === null || found.length === 0 || !found.every(isReadable)) return null;
      stored.set(node, found);
    } else if (!movesOnly(node)) return null;
  }
  return stored.size === 0 ? null : { expr, stored };
}

function movesOnly(node: Node): boolean {
  const widens = isOp(node, "cast") && node.type.dtype === "f32" && asStored.includes(node.ins[0]!.type.dtype);
  return widens || (opKind(node.op) === "injective" && asStored.includes(node.type.dtype));
}

function isReadable({ type: { dtype }, offset }: StoredTensor): boolean {
  return asStored.includes(dtype) && offset % (dtypeInfo(dtype).bits / 8) === 0;
}

/**
 * Of files as they are now: what is mapped of a file and is not there ends the process when it is read, and no error says so.
 * @throws InputError
 */
export function checkFiles(weights: readonly FileWeight[]): void {
  const { statSync } = process.getBuiltinModule("node:fs");
  const all = weights.flatMap(({ stored }) => [...stored.values()].flat());
  for (const [path, expected] of new Map(all.map((each) => [each.path, each.fileBytes]))) {
    const size = statSync(path, { throwIfNoEntry: false })?.size;
    if (size === expected) continue;
    const found = size === undefined ? "no file" : size;
    throw new InputError(path, `expected ${expected} bytes, as before, got ${found}: it changed while in use`);
  }
}

/** The value, read after the nodes `after`. */
export function readFileWeight(graph: GraphBuilder, weight: FileWeight, after: readonly string[]): GraphTensor {
  const engine = graphEngine(graph);
  const values = new Map<Node, Part<GraphValue>>();
  for (const node of topoOrder([weight.expr])) {
    const stored = weight.stored.get(node);
    const part =
      stored === undefined
        ? lowerNode(
            engine,
            node,
            node.ins.map((operand) => values.get(operand)!),
          )
        : { at: stackOf(graph, engine, stored, node, after), shape: node.type.shape };
    values.set(node, part);
  }
  return engine.read(wholeOf(engine, values.get(weight.expr)!, weight.expr.type.shape));
}

function stackOf(
  graph: GraphBuilder,
  engine: GraphEngine,
  stored: readonly StoredTensor[],
  { type }: Node,
  after: readonly string[],
): GraphValue {
  const parts = stored.map((each) => elementsOf(graph, each, after));
  return engine.reshape(parts.length === 1 ? parts[0]! : engine.concat(parts, 0), type.shape);
}

/** The elements of a tensor of a file, in a row. */
function elementsOf(graph: GraphBuilder, stored: StoredTensor, after: readonly string[]): GraphTensor {
  const { type } = formOf(stored.type);
  const { bytes } = tfTypes[type];
  const whole = [Math.floor(stored.fileBytes / bytes)];
  const attrs = {
    dtype: typeAttr(type),
    shape: shapeAttr(whole),
    memory_region_name: textAttr(stored.path),
    _scoped_allocator: { kind: "none" },
  } as const;
  const map = graph.one("ImmutableConst", [], attrs, { type, shape: whole });
  const count = sizeOf(stored.type.shape);
  const index = (value: number) =>
    graph.constant({ type: "int64", shape: [1] }, bytesOf(BigInt64Array.of(BigInt(value))));
  const slice = { T: typeAttr(type), Index: typeAttr("int64") };
  return graph.one("Slice", [map, index(stored.offset / bytes), index(count)], slice, { type, shape: [count] }, after);
}

/** Arrays that stand for such weights. */
export type FileWeights = Map<TensorData, FileWeight>;
