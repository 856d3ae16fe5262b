/**
 * Operations on vectors that processors have an instruction for and scalar ops cannot say: products of bytes, fused
 * multiplication and addition, and the unpacking of small formats. One row gives types and meaning; a backend has a table
 * of what stands for each, or refuses it.
 */
import { f16ToF32 } from "../half.ts";
import { sameValueType, showValueType, type ValueType, valueType } from "./value.ts";

type Lanes = readonly number[];

export interface IntrinsicDef {
  /** The result's type; undefined where the operands do not fit. */
  readonly type: (types: readonly ValueType[]) => ValueType | undefined;
  /** What the operands must be, for errors. */
  readonly takes: string;
  readonly eval: (...args: readonly Lanes[]) => number[];
}

const is = (type: ValueType | undefined, ...shown: readonly string[]): boolean =>
  type !== undefined && shown.includes(showValueType(type));

const dotType =
  (...b: readonly string[]): IntrinsicDef["type"] =>
  (types) =>
    types.length === 3 && is(types[0], "i32x4") && is(types[1], "i8x16") && is(types[2], ...b) ? types[0] : undefined;

/** acc[l] + the sum over j below 4 of a[4l + j] * b[4l + j], wrapping. */
const dot = (acc: Lanes, a: Lanes, b: Lanes): number[] =>
  acc.map((sum, l) => [0, 1, 2, 3].reduce((total, j) => (total + a[4 * l + j]! * b[4 * l + j]!) | 0, sum));

const bytes = (lanes: readonly number[], result: (type: ValueType) => ValueType): IntrinsicDef["type"] => {
  return ([type, ...rest]) => {
    const fits = type !== undefined && rest.length === 0 && lanes.includes(type.lanes);
    return fits && (type.dtype === "u8" || type.dtype === "i8") ? result(type) : undefined;
  };
};

const floats =
  (count: number): IntrinsicDef["type"] =>
  (types) => {
    const [first] = types;
    const same = types.length === count && first !== undefined && types.every((type) => sameValueType(type, first));
    return same && first.dtype === "f32" ? first : undefined;
  };

export const intrinsics = {
  /**
   * `b` must be in 0 .. 127 in every lane: one instruction of relaxed SIMD, whose engines differ beyond. The executor is
   * exact for all bytes.
   */
  dot4i8: { type: dotType("i8x16", "u8x16"), takes: "i32x4, i8x16 and i8x16 or u8x16 below 128", eval: dot },
  /** `b` may be any unsigned byte. */
  dot4u8: { type: dotType("u8x16"), takes: "i32x4, i8x16 and u8x16", eval: dot },
  /** `b` may be any signed byte. */
  dot4s8: { type: dotType("i8x16"), takes: "i32x4, i8x16 and i8x16", eval: dot },
  /** a * b + c, with the product rounded or not: devices differ in the last place. The executor does not round it. */
  fma: {
    type: floats(3),
    takes: "three f32 vectors of one length",
    eval: (a, b, c) => a!.map((x, i) => Math.fround(x * b![i]! + c![i]!)),
  },
  /** b where b < a, else a: one instruction, where `min` also orders zeros and passes NaN on. */
  pmin: {
    type: floats(2),
    takes: "two f32 vectors of one length",
    eval: (a, b) => a!.map((x, i) => (b![i]! < x ? b![i]! : x)),
  },
  /** b where a < b, else a. */
  pmax: {
    type: floats(2),
    takes: "two f32 vectors of one length",
    eval: (a, b) => a!.map((x, i) => (x < b![i]! ? b![i]! : x)),
  },
  /** The low four bits of each byte. */
  low4: { type: bytes([16], () => valueType("u8", 16)), takes: "16 bytes", eval: (x) => x!.map((v) => v & 15) },
  /** The high four bits of each byte, as 0 .. 15. */
  high4: {
    type: bytes([16], () => valueType("u8", 16)),
    takes: "16 bytes",
    eval: (x) => x!.map((v) => (v & 255) >> 4),
  },
  /** Four bytes, four times: byte i of the result is byte i % 4. */
  repeat4: {
    type: bytes([4], ({ dtype }) => valueType(dtype, 16)),
    takes: "4 bytes",
    eval: (x) => Array.from({ length: 16 }, (_, i) => x![i % 4]!),
  },
  /** Eight bytes as four f16, the low byte of each first. */
  f16s: {
    type: ([type, more]) => (more === undefined && is(type, "u8x8") ? valueType("f32", 4) : undefined),
    takes: "u8x8",
    eval: (x) => [0, 2, 4, 6].map((i) => f16ToF32(x![i]! + 256 * x![i + 1]!)),
  },
} as const satisfies Record<string, IntrinsicDef>;

export type IntrinsicName = keyof typeof intrinsics;

export function isIntrinsic(name: string): name is IntrinsicName {
  return Object.hasOwn(intrinsics, name);
}

/** The type that an intrinsic gives, or what is wrong with its operands. */
export function intrinsicType(name: IntrinsicName, types: readonly ValueType[]): ValueType | string {
  const { type, takes }: IntrinsicDef = intrinsics[name];
  return type(types) ?? `${name}: expected ${takes}, got ${types.map(showValueType).join(", ")}`;
}

export function evalIntrinsic(name: IntrinsicName, args: readonly Lanes[]): number[] {
  const { eval: run }: IntrinsicDef = intrinsics[name];
  return run(...args);
}
