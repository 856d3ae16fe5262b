/**
 * A TensorFlow graph as data, and as the bytes of a `saved_model.pb`, the file that tfjs-node loads. Field numbers are
 * those of TensorFlow's public .proto files (saved_model, meta_graph, graph, node_def, attr_value, tensor, tensor_shape,
 * types). A graph of many *signatures* keeps its variables between runs, whichever signature runs.
 */
import type { Shape } from "../../ir/types.ts";
import { bool, bytes, type Field, finish, float, int, map, message, text } from "./proto.ts";

/** Element types, with their numbers in types.proto and their sizes (0: none). */
export const tfTypes = {
  float: { number: 1, bytes: 4 },
  int32: { number: 3, bytes: 4 },
  uint8: { number: 4, bytes: 1 },
  int8: { number: 6, bytes: 1 },
  int64: { number: 9, bytes: 8 },
  string: { number: 7, bytes: 0 },
  bool: { number: 10, bytes: 1 },
  bfloat16: { number: 14, bytes: 2 },
  half: { number: 19, bytes: 2 },
  resource: { number: 20, bytes: 0 },
} as const satisfies Record<string, { readonly number: number; readonly bytes: number }>;
export type TfType = keyof typeof tfTypes;

export interface ConstantTensor {
  readonly type: TfType;
  readonly shape: Shape;
  /** Elements in row-major order, little-endian. */
  readonly content: Uint8Array;
}

/** What a node is parameterised with. */
export type Attr =
  | { readonly kind: "type"; readonly type: TfType }
  | { readonly kind: "int"; readonly value: number }
  | { readonly kind: "bool"; readonly value: boolean }
  | { readonly kind: "float"; readonly value: number }
  | { readonly kind: "text"; readonly value: string }
  | { readonly kind: "shape"; readonly shape: Shape }
  /** An empty list. */
  | { readonly kind: "none" }
  | { readonly kind: "tensor"; readonly tensor: ConstantTensor };

export interface GraphNode {
  readonly name: string;
  readonly op: string;
  /** `node`, `node:1` for a further result, `^node` to run after it. */
  readonly inputs: readonly string[];
  readonly attrs: Readonly<Record<string, Attr>>;
}

/** A tensor that is fed or fetched. */
export interface TensorInfo {
  /** `node:0` */
  readonly name: string;
  readonly type: TfType;
  readonly shape: Shape;
}

export interface Signature {
  readonly inputs: Readonly<Record<string, TensorInfo>>;
  readonly outputs: Readonly<Record<string, TensorInfo>>;
}

export interface SavedModel {
  readonly nodes: readonly GraphNode[];
  readonly signatures: Readonly<Record<string, Signature>>;
}

/** What a reader asks for. */
export const servingTag = "serve";

/** The version of op definitions that graphs are written for: TensorFlow 2.9 (graph_def_versions), the oldest that runs them. */
const producer = 1087;

/** The content of `saved_model.pb`. @throws UnsupportedError for more than 2 GiB */
export function encodeSavedModel({ nodes, signatures }: SavedModel): Uint8Array<ArrayBuffer> {
  const graph = [...nodes.map((node) => message(1, nodeFields(node))), message(4, [int(1, producer)])];
  const metaGraph = [
    message(1, [text(4, servingTag), text(5, "2.9.1")]),
    message(2, graph),
    ...map(5, signatures, signatureFields),
  ];
  return finish([int(1, 1), message(2, metaGraph)], "saved model");
}

function nodeFields({ name, op, inputs, attrs }: GraphNode): readonly Field[] {
  return [
    text(1, name),
    text(2, op),
    ...inputs.map((input) => text(3, input)),
    ...map(5, attrs, (attr) => [attrField(attr)]),
  ];
}

function attrField(attr: Attr): Field {
  switch (attr.kind) {
    case "text":
      return text(2, attr.value);
    case "int":
      return int(3, attr.value);
    case "float":
      return float(4, attr.value);
    case "bool":
      return bool(5, attr.value);
    case "none":
      return message(1, []);
    case "type":
      return int(6, tfTypes[attr.type].number);
    case "shape":
      return message(7, shapeFields(attr.shape));
    case "tensor":
      return message(8, tensorFields(attr.tensor));
  }
}

function tensorFields({ type, shape, content }: ConstantTensor): readonly Field[] {
  return [int(1, tfTypes[type].number), message(2, shapeFields(shape)), bytes(4, content)];
}

function shapeFields(shape: Shape): readonly Field[] {
  return shape.map((size) => message(2, [int(1, size)]));
}

function signatureFields({ inputs, outputs }: Signature): readonly Field[] {
  return [...map(1, inputs, infoFields), ...map(2, outputs, infoFields), text(3, "tensorflow/serving/predict")];
}

function infoFields({ name, type, shape }: TensorInfo): readonly Field[] {
  return [text(1, name), int(2, tfTypes[type].number), message(3, shapeFields(shape))];
}
