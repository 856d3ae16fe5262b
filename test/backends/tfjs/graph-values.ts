/** Tensors of the interpreter of TensorFlow graphs: typed arrays in row-major order, read and written as numbers. */
import { type TfType, tfTypes } from "../../../src/backends/tfjs/saved-model.ts";
import { bf16ToF32, f16ToF32, f32ToBf16, f32ToF16 } from "../../../src/ir/half.ts";
import { type Shape, sizeOf, stridesOf } from "../../../src/ir/types.ts";

type Elements = Float32Array | Float64Array | Int32Array | Uint8Array | Int8Array | Uint16Array;

export interface GraphData {
  readonly type: TfType;
  readonly shape: Shape;
  readonly data: Elements;
}

const arrays: Partial<Record<TfType, new (buffer: ArrayBuffer) => Elements>> = {
  float: Float32Array,
  int32: Int32Array,
  uint8: Uint8Array,
  int8: Int8Array,
  bool: Uint8Array,
  bfloat16: Uint16Array,
  half: Uint16Array,
  int64: Float64Array,
};

/** A tensor over a copy of these bytes. */
export function fromBytes(type: TfType, shape: Shape, bytes: Uint8Array): GraphData {
  const Make = arrays[type];
  if (Make === undefined) throw new Error(`no tensors of ${type}`);
  if (bytes.length !== sizeOf(shape) * tfTypes[type].bytes) {
    throw new Error(`${type}[${shape}] has ${bytes.length} bytes`);
  }
  const { buffer } = Uint8Array.from(bytes);
  // Numbers here are doubles.
  return {
    type,
    shape,
    data: type === "int64" ? Float64Array.from(new BigInt64Array(buffer), Number) : new Make(buffer),
  };
}

export function toBytes({ data }: GraphData): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

export function read({ type, data }: GraphData, i: number): number {
  if (!(i >= 0 && i < data.length)) throw new Error(`element ${i} of ${data.length}`);
  return type === "bfloat16" ? bf16ToF32(data[i]!) : type === "half" ? f16ToF32(data[i]!) : data[i]!;
}

export function valuesOf(x: GraphData): number[] {
  return Array.from({ length: sizeOf(x.shape) }, (_, i) => read(x, i));
}

/** A tensor of these numbers, rounded or wrapped as arithmetic of the type does. */
export function make(type: TfType, shape: Shape, values: readonly number[]): GraphData {
  const out = fromBytes(type, shape, new Uint8Array(sizeOf(shape) * tfTypes[type].bytes));
  const store = type === "bfloat16" ? f32ToBf16 : type === "half" ? f32ToF16 : (value: number) => value;
  if (values.length !== out.data.length) throw new Error(`${type}[${shape}] of ${values.length} values`);
  for (const [i, value] of values.entries()) out.data[i] = store(value);
  return out;
}

/** The indices of all elements of a shape, in row-major order. */
export function* indicesOf(shape: Shape): Generator<readonly number[]> {
  const strides = stridesOf(shape);
  for (let i = 0; i < sizeOf(shape); i++) yield shape.map((size, axis) => Math.floor(i / strides[axis]!) % size);
}

/** Where an element of a broadcast result is in an operand. */
export function offsetOf(index: readonly number[], shape: Shape): number {
  const strides = stridesOf(shape);
  const skip = index.length - shape.length;
  return shape.reduce((sum, size, axis) => sum + (size === 1 ? 0 : index[axis + skip]! * strides[axis]!), 0);
}
