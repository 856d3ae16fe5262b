/** Reads what `encodeSavedModel` wrote back into data, by TensorFlow's field numbers written down once more here. */
import type {
  Attr,
  GraphNode,
  SavedModel,
  Signature,
  TensorInfo,
  TfType,
} from "../../../src/backends/tfjs/saved-model.ts";
import { Message } from "./read-proto.ts";

/** Numbers of types.proto. */
const types = new Map<number, TfType>([
  [1, "float"],
  [3, "int32"],
  [4, "uint8"],
  [6, "int8"],
  [7, "string"],
  [9, "int64"],
  [10, "bool"],
  [14, "bfloat16"],
  [19, "half"],
  [20, "resource"],
]);

export function readSavedModel(bytes: Uint8Array): SavedModel {
  const file = new Message(bytes);
  if (file.int(1) !== 1) throw new Error("the schema's version is not 1");
  const metaGraph = file.message(2);
  const info = metaGraph.message(1);
  if (info.texts(4).join() !== "serve") throw new Error("expected the tag serve");
  const graph = metaGraph.message(2);
  return {
    nodes: graph.messages(1).map(readNode),
    signatures: Object.fromEntries([...metaGraph.map(5)].map(([name, each]) => [name, readSignature(each)])),
  };
}

function readNode(node: Message): GraphNode {
  const attrs = Object.fromEntries([...node.map(5)].map(([name, value]) => [name, readAttr(value)]));
  return { name: node.text(1), op: node.text(2), inputs: node.texts(3), attrs };
}

function readAttr(value: Message): Attr {
  if (value.has(1)) return { kind: "none" };
  if (value.has(2)) return { kind: "text", value: value.text(2) };
  if (value.has(3)) return { kind: "int", value: value.int(3) };
  if (value.has(4)) return { kind: "float", value: value.float(4) };
  if (value.has(5)) return { kind: "bool", value: value.int(5) === 1 };
  if (value.has(6)) return { kind: "type", type: typeOf(value.int(6)) };
  if (value.has(7)) return { kind: "shape", shape: readShape(value.message(7)) };
  if (!value.has(8)) throw new Error("an attribute without a value");
  const tensor = value.message(8);
  return {
    kind: "tensor",
    tensor: { type: typeOf(tensor.int(1)), shape: readShape(tensor.message(2)), content: tensor.bytes(4) },
  };
}

function readSignature(signature: Message): Signature {
  const read = (number: number) =>
    Object.fromEntries([...signature.map(number)].map(([name, info]) => [name, readInfo(info)]));
  return { inputs: read(1), outputs: read(2) };
}

function readInfo(info: Message): TensorInfo {
  return { name: info.text(1), type: typeOf(info.int(2)), shape: readShape(info.message(3)) };
}

function readShape(shape: Message): readonly number[] {
  return shape.messages(2).map((dim) => dim.int(1));
}

function typeOf(number: number): TfType {
  const type = types.get(number);
  if (type === undefined) throw new Error(`type number ${number}`);
  return type;
}
