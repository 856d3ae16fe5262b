/** Writes ONNX models of one op in many copies: protocol buffers by hand, since only a few fields are needed. */

export interface OnnxTensor {
  readonly name: string;
  readonly dims: readonly number[];
  readonly type: "f32" | "u8" | "i8";
  readonly data: Uint8Array;
}

export interface OnnxNode {
  readonly op: string;
  readonly domain: string;
  readonly inputs: readonly string[];
  readonly output: string;
  readonly attributes: Readonly<Record<string, number>>;
}

export interface OnnxShape {
  readonly name: string;
  readonly dims: readonly number[];
}

const elementTypes = { f32: 1, u8: 2, i8: 3 } as const;

/** Field numbers are those of onnx.proto. Inputs and outputs are f32. */
export function onnxModel(
  nodes: readonly OnnxNode[],
  tensors: readonly OnnxTensor[],
  input: OnnxShape,
  outputs: readonly OnnxShape[],
): Uint8Array {
  const graph = [
    ...nodes.map((node) => message(1, nodeBytes(node))),
    text(2, "graph"),
    ...tensors.map(({ name, dims, type, data }) =>
      message(5, [...dims.map((dim) => int(1, dim)), int(2, elementTypes[type]), text(8, name), message(9, [data])]),
    ),
    message(11, shapeBytes(input)),
    ...outputs.map((output) => message(12, shapeBytes(output))),
  ];
  const opset = (domain: string, version: number) => message(8, [text(1, domain), int(2, version)]);
  return join([int(1, 8), message(7, graph), opset("", 17), opset("com.microsoft", 1)]);
}

function nodeBytes({ op, domain, inputs, output, attributes }: OnnxNode): Uint8Array[] {
  return [
    ...inputs.map((name) => text(1, name)),
    text(2, output),
    text(4, op),
    ...Object.entries(attributes).map(([name, value]) => message(5, [text(1, name), int(3, value), int(20, 2)])),
    text(7, domain),
  ];
}

function shapeBytes({ name, dims }: OnnxShape): Uint8Array[] {
  const shape = message(
    2,
    dims.map((dim) => message(1, [int(1, dim)])),
  );
  return [text(1, name), message(2, [message(1, [int(1, elementTypes.f32), shape])])];
}

function int(field: number, value: number): Uint8Array {
  return Uint8Array.from([...varint(field * 8), ...varint(value)]);
}

function text(field: number, value: string): Uint8Array {
  return message(field, [new TextEncoder().encode(value)]);
}

function message(field: number, parts: readonly Uint8Array[]): Uint8Array {
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  return join([Uint8Array.from([...varint(field * 8 + 2), ...varint(length)]), ...parts]);
}

function varint(value: number): number[] {
  return value < 128 ? [value] : [(value % 128) + 128, ...varint(Math.floor(value / 128))];
}

function join(parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}
