/** Names of weights: `{layer}` is bound by the call, `{0}` runs over axis 0 of a stacked weight. */
import { IrError } from "./errors.ts";
import { reader, type Tensor, type TensorData, tensorFrom, writer, zeros } from "./tensor.ts";
import { dtypeInfo, type Shape, sameType, showType, sizeOf, type TensorType, tensorType } from "./types.ts";

/** Where weights come from: a checkpoint, or a table in tests. */
export type WeightSource = (name: string) => Tensor;

/** A tensor in a file: elements one after another, little-endian. */
export interface StoredTensor {
  readonly type: TensorType;
  /** The file, from the root of the file system. */
  readonly path: string;
  /** Its first byte in the file, and how many bytes the file has. */
  readonly offset: number;
  readonly fileBytes: number;
}

export interface WeightParts {
  /** Checkpoint names, in order along axis 0 if stacked. */
  readonly names: readonly string[];
  /** Shape of each part. */
  readonly shape: Shape;
  readonly stacked: boolean;
}

/** The checkpoint tensors that make up a weight. */
export function weightParts(name: string, shape: Shape, layer?: number): WeightParts {
  if (name.includes("{layer}") && layer === undefined) {
    throw new IrError(`weight ${name}`, "{layer} is not bound: the function is called without a layer");
  }
  const bound = name.replaceAll("{layer}", String(layer));
  if (!bound.includes("{0}")) return { names: [bound], shape, stacked: false };
  const names = Array.from({ length: shape[0]! }, (_, i) => bound.replaceAll("{0}", String(i)));
  return { names, shape: shape.slice(1), stacked: true };
}

/** Reads a weight whole, stacking its parts. */
export function readWeight(name: string, type: TensorType, source: WeightSource, layer?: number): Tensor {
  const parts = weightParts(name, type.shape, layer);
  const partType = tensorType(type.dtype, parts.shape);
  const read = (part: string) => {
    const tensor = source(part);
    if (!sameType(tensor.type, partType)) {
      throw new IrError(`weight ${part}`, `expected ${showType(partType)}, got ${showType(tensor.type)}`);
    }
    return tensor;
  };
  if (!parts.stacked) return read(parts.names[0]!);
  const out = zeros(type.dtype, type.shape);
  for (const [i, part] of parts.names.entries()) putPart(out, i, read(part).data);
  return out;
}

/** Writes index `i` of axis 0 of `whole`. */
export function putPart(whole: Tensor, i: number, part: TensorData): void {
  const size = sizeOf(whole.type.shape.slice(1));
  putElements(whole, i * size, part, size);
}

/** Writes `count` elements from element `at` on: one by one where they may begin or end in the middle of a byte. */
export function putElements(whole: Tensor, at: number, part: TensorData, count: number): void {
  const { dtype } = whole.type;
  const { bits } = dtypeInfo(dtype);
  if ((at * bits) % 8 === 0 && (count * bits) % 8 === 0) {
    whole.data.set(part, bits === 4 ? at / 2 : at);
    return;
  }
  const [read, write] = [reader(tensorFrom(tensorType(dtype, [count]), part)), writer(whole)];
  for (let j = 0; j < count; j++) write(at + j, read(j));
}
