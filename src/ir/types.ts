/**
 * Element types and tensor types. A tensor type is a dtype and a shape of whole numbers: models are specialised to
 * concrete sizes (a bucket) before they are compiled, so no dimension is symbolic (docs/decisions/0001).
 */

export interface DTypeInfo {
  readonly bits: number;
  readonly kind: "float" | "int" | "bool";
  /** Lowest and highest value of an integer type. */
  readonly range?: readonly [number, number];
}

/** `f8e4m3` is OCP FP8 E4M3 without infinities (bias 7, max 448), `f8e8m0` a power of two, 2^(b-127). */
export const dtypes = {
  f32: { bits: 32, kind: "float" },
  f16: { bits: 16, kind: "float" },
  bf16: { bits: 16, kind: "float" },
  f8e4m3: { bits: 8, kind: "float" },
  f8e8m0: { bits: 8, kind: "float" },
  i32: { bits: 32, kind: "int", range: [-2147483648, 2147483647] },
  u32: { bits: 32, kind: "int", range: [0, 4294967295] },
  i8: { bits: 8, kind: "int", range: [-128, 127] },
  u8: { bits: 8, kind: "int", range: [0, 255] },
  i4: { bits: 4, kind: "int", range: [-8, 7] },
  u4: { bits: 4, kind: "int", range: [0, 15] },
  bool: { bits: 8, kind: "bool", range: [0, 1] },
} as const satisfies Record<string, DTypeInfo>;

export type DType = keyof typeof dtypes;
export type Shape = readonly number[];

export interface TensorType {
  readonly dtype: DType;
  readonly shape: Shape;
}

export function dtypeInfo(dtype: DType): DTypeInfo {
  return dtypes[dtype];
}

export function isDType(name: string): name is DType {
  return Object.hasOwn(dtypes, name);
}

export function isFloat(dtype: DType): boolean {
  return dtypes[dtype].kind === "float";
}

export function tensorType(dtype: DType, shape: Shape): TensorType {
  return { dtype, shape: [...shape] };
}

/** Number of elements. A scalar (shape `[]`) has one. */
export function sizeOf(shape: Shape): number {
  let size = 1;
  for (const dim of shape) size *= dim;
  return size;
}

/** Storage in bytes; 4-bit types are packed two to a byte, the last byte padded. */
export function byteSize(type: TensorType): number {
  return Math.ceil((sizeOf(type.shape) * dtypes[type.dtype].bits) / 8);
}

export function sameShape(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((dim, i) => dim === b[i]);
}

export function sameType(a: TensorType, b: TensorType): boolean {
  return a.dtype === b.dtype && sameShape(a.shape, b.shape);
}

/** `f32[2,3]`; a scalar is `f32[]`. */
export function showType(type: TensorType): string {
  return `${type.dtype}[${type.shape.join(",")}]`;
}

/** Row-major strides in elements. */
export function stridesOf(shape: Shape): number[] {
  const strides = new Array<number>(shape.length);
  let stride = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    strides[i] = stride;
    stride *= shape[i]!;
  }
  return strides;
}
