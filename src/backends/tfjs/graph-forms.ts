/** How tensors of the IR are carried by a TensorFlow graph: element types, and host memory as these have it. */
import { UnsupportedError } from "../../ir/errors.ts";
import { reader, storageLength, type TensorData, writer } from "../../ir/tensor.ts";
import { type DType, sizeOf, type TensorType } from "../../ir/types.ts";
import { bytesOf, type TensorForm } from "./graph.ts";
import type { TfType } from "./saved-model.ts";

/** The type whose elements stand for a dtype's: bits of 8-bit floats are bytes, 4-bit codes have a byte each. */
const carriers: Record<DType, TfType | null> = {
  f32: "float",
  f16: "half",
  bf16: "bfloat16",
  f8e4m3: "uint8",
  f8e8m0: "uint8",
  i32: "int32",
  u32: null,
  i8: "int8",
  u8: "uint8",
  i4: "int8",
  u4: "uint8",
  bool: "bool",
};

/** @throws UnsupportedError for u32, for which TensorFlow has hardly a kernel */
export function carrierOf(dtype: DType): TfType {
  const carrier = carriers[dtype];
  if (carrier !== null) return carrier;
  throw new UnsupportedError("target tensorflow", `cannot hold ${dtype}: TensorFlow has hardly a kernel for it`);
}

export function formOf({ dtype, shape }: TensorType): TensorForm {
  return { type: carrierOf(dtype), shape };
}

/** Elements as the carrier has them. */
export function carriedBytes(type: TensorType, data: TensorData): Uint8Array {
  if (storageLength(type) === sizeOf(type.shape)) return bytesOf(data);
  const read = reader({ type, data });
  return Uint8Array.from({ length: sizeOf(type.shape) }, (_, i) => read(i));
}

/** The other way: the carrier's elements, and perhaps a few bytes more, into host memory of the type. */
export function carriedData(type: TensorType, bytes: Uint8Array, into: TensorData): void {
  const size = sizeOf(type.shape);
  if (storageLength(type) === size) {
    const out = bytesOf(into);
    out.set(bytes.subarray(0, out.length));
    return;
  }
  const write = writer({ type, data: into });
  const signed = carrierOf(type.dtype) === "int8";
  for (let i = 0; i < size; i++) write(i, signed ? (bytes[i]! << 24) >> 24 : bytes[i]!);
}
