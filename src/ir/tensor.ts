/** Tensors in host memory: a type and a typed array in row-major order, with one way to read and write elements. */
import { IrError } from "./errors.ts";
import { bf16ToF32, f8e4m3ToF32, f8e8m0ToF32, f16ToF32, f32ToBf16, f32ToF8e4m3, f32ToF16 } from "./half.ts";
import { byteSize, type DType, dtypeInfo, type Shape, showType, sizeOf, type TensorType, tensorType } from "./types.ts";

export type TensorData = Float32Array | Int32Array | Uint32Array | Uint16Array | Int8Array | Uint8Array;

export interface Tensor {
  readonly type: TensorType;
  /**
   * f32, i32, u32, i8, u8, bool: one element each. f16 and bf16: bits in a Uint16Array. FP8 and E8M0: bits in a
   * Uint8Array. i4 and u4: two to a byte, the element of even index in the low half.
   */
  readonly data: TensorData;
}

const storage: Record<DType, (length: number) => TensorData> = {
  f32: (n) => new Float32Array(n),
  f16: (n) => new Uint16Array(n),
  bf16: (n) => new Uint16Array(n),
  f8e4m3: (n) => new Uint8Array(n),
  f8e8m0: (n) => new Uint8Array(n),
  i32: (n) => new Int32Array(n),
  u32: (n) => new Uint32Array(n),
  i8: (n) => new Int8Array(n),
  u8: (n) => new Uint8Array(n),
  i4: (n) => new Uint8Array(n),
  u4: (n) => new Uint8Array(n),
  bool: (n) => new Uint8Array(n),
};

/** The typed-array length that holds `type`. */
export function storageLength(type: TensorType): number {
  return dtypeInfo(type.dtype).bits === 4 ? byteSize(type) : sizeOf(type.shape);
}

/** A tensor of zeros. */
export function zeros(dtype: DType, shape: Shape): Tensor {
  const type = tensorType(dtype, shape);
  return { type, data: storage[dtype](storageLength(type)) };
}

/** A tensor with these element values, converted to the dtype. */
export function tensorOf(dtype: DType, shape: Shape, values: ArrayLike<number>): Tensor {
  const tensor = zeros(dtype, shape);
  const size = sizeOf(shape);
  if (values.length !== size) {
    throw new IrError(`tensor ${showType(tensor.type)}`, `expected ${size} values, got ${values.length}`);
  }
  const write = writer(tensor);
  for (let i = 0; i < size; i++) write(i, values[i]!);
  return tensor;
}

/** Wraps existing storage without copying; its kind and length must be what the dtype asks for. */
export function tensorFrom(type: TensorType, data: TensorData): Tensor {
  const model = storage[type.dtype](0);
  if (data.constructor !== model.constructor || data.length !== storageLength(type)) {
    const expected = `${model.constructor.name} of length ${storageLength(type)}`;
    throw new IrError(
      `tensor ${showType(type)}`,
      `expected ${expected}, got ${data.constructor.name} of length ${data.length}`,
    );
  }
  return { type, data };
}

/** An array for elements of a dtype over memory that exists; `offset` in bytes, `length` as in `storageLength`. */
export function viewOf(dtype: DType, buffer: ArrayBufferLike, offset: number, length: number): TensorData {
  // Every typed-array constructor takes a buffer, an offset and a length.
  const View = storage[dtype](0).constructor as new (at: ArrayBufferLike, from: number, size: number) => TensorData;
  return new View(buffer, offset, length);
}

/** A function that reads element i as a number. */
export function reader(tensor: Tensor): (i: number) => number {
  const { data } = tensor;
  switch (tensor.type.dtype) {
    case "f16":
      return (i) => f16ToF32(data[i]!);
    case "bf16":
      return (i) => bf16ToF32(data[i]!);
    case "f8e4m3":
      return (i) => f8e4m3ToF32(data[i]!);
    case "f8e8m0":
      return (i) => f8e8m0ToF32(data[i]!);
    case "i4":
      return (i) => (data[i >> 1]! << (i & 1 ? 24 : 28)) >> 28;
    case "u4":
      return (i) => (data[i >> 1]! >> (i & 1 ? 4 : 0)) & 15;
    default:
      return (i) => data[i]!;
  }
}

/** A function that stores a number into element i: floats round to nearest even, integers truncate and saturate, NaN is 0. */
export function writer({ data, type }: Tensor): (i: number, value: number) => void {
  const { dtype } = type;
  const { range } = dtypeInfo(dtype);
  switch (dtype) {
    case "f32":
      return (i, value) => {
        data[i] = value;
      };
    case "f16":
      return (i, value) => {
        data[i] = f32ToF16(value);
      };
    case "bf16":
      return (i, value) => {
        data[i] = f32ToBf16(value);
      };
    case "f8e4m3":
      return (i, value) => {
        data[i] = f32ToF8e4m3(value);
      };
    case "f8e8m0":
      return (i, value) => {
        data[i] = Number.isNaN(value) ? 255 : clamp(Math.round(Math.log2(value)) + 127, [0, 254]);
      };
    case "i4":
    case "u4":
      return (i, value) => {
        const shift = i & 1 ? 4 : 0;
        data[i >> 1] = (data[i >> 1]! & ~(15 << shift)) | ((clamp(value, range!) & 15) << shift);
      };
    case "bool":
      return (i, value) => {
        data[i] = value === 0 ? 0 : 1;
      };
    default:
      return (i, value) => {
        data[i] = clamp(value, range!);
      };
  }
}

/** All elements as numbers. */
export function valuesOf(tensor: Tensor): number[] {
  const read = reader(tensor);
  return Array.from({ length: sizeOf(tensor.type.shape) }, (_, i) => read(i));
}

function clamp(value: number, [low, high]: readonly [number, number]): number {
  return Number.isNaN(value) ? 0 : Math.min(Math.max(Math.trunc(value), low), high);
}
