/**
 * Operations on vectors that processors have an instruction for and scalar ops cannot say: products of bytes, fused
 * multiplication and addition, and the unpacking of small formats. One row gives types and meaning; a backend has a table
 * of what stands for each, or refuses it.
 */
import { f16ToF32, f32ToF16 } from "../half.ts";
import { sameValueType, showValueType, type ValueType, type VDType, valueType } from "./value.ts";

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

/** The operands' types and the result's, as texts. */
const exactly =
  (takes: readonly (readonly string[])[], dtype: VDType, lanes: number): IntrinsicDef["type"] =>
  (types) =>
    types.length === takes.length && takes.every((shown, i) => is(types[i], ...shown))
      ? valueType(dtype, lanes)
      : undefined;

const i16 = (x: number): number => (x << 16) >> 16;

/** Sums of neighbours: x[2l] + x[2l + 1]. */
const pairSums = (x: Lanes): number[] =>
  Array.from({ length: x.length / 2 }, (_, l) => (x[2 * l]! + x[2 * l + 1]!) | 0);

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

/** What sums begin with that `unbiased` makes floats of: the bits of 1.5 * 2^23. */
export const biased = 0x4b400000;

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
  /** Products of bytes added in pairs; `b` must be in 0 .. 127, so that pairs fit. */
  dot2i8: {
    type: exactly([["i8x16"], ["i8x16", "u8x16"]], "i16", 8),
    takes: "i8x16 and i8x16 or u8x16 below 128",
    eval: (a, b) => pairSums(a!.map((x, i) => x * b![i]!)).map(i16),
  },
  /** Products of bytes added in pairs; `b` must be in 0 .. 128: with signed bytes pairs fit, since -128 is their least. */
  dot2u8: {
    type: exactly([["i8x16"], ["u8x16"]], "i16", 8),
    takes: "i8x16 and u8x16 up to 128",
    eval: (a, b) => pairSums(a!.map((x, i) => x * b![i]!)).map(i16),
  },
  /** Products of 16-bit integers added in pairs. */
  dot2i16: {
    type: exactly([["i16x8"], ["i16x8"]], "i32", 4),
    takes: "two i16x8",
    eval: (a, b) => pairSums(a!.map((x, i) => x * b![i]!)),
  },
  /** A sum that wraps. */
  add16: {
    type: exactly([["i16x8"], ["i16x8"]], "i16", 8),
    takes: "two i16x8",
    eval: (a, b) => a!.map((x, i) => i16(x + b![i]!)),
  },
  /** Sums of neighbours, widened. */
  sum2: { type: exactly([["i16x8"]], "i32", 4), takes: "i16x8", eval: (x) => pairSums(x!) },
  /** Sums of neighbours of two vectors, those of the first in the lower lanes. */
  join2: {
    type: exactly([["i32x4"], ["i32x4"]], "i32", 4),
    takes: "two i32x4",
    eval: (a, b) => [...pairSums(a!), ...pairSums(b!)],
  },
  /** The lower eight bytes as 16-bit integers. */
  widen8: { type: bytes([8, 16], () => valueType("i16", 8)), takes: "8 or 16 bytes", eval: (x) => x!.slice(0, 8) },
  /** Bytes 0, 2, 4 .. as 16-bit integers. */
  evens: {
    type: bytes([16], () => valueType("i16", 8)),
    takes: "16 bytes",
    eval: (x) => x!.filter((_, i) => i % 2 === 0),
  },
  /** Bytes 1, 3, 5 .. as 16-bit integers. */
  odds: {
    type: bytes([16], () => valueType("i16", 8)),
    takes: "16 bytes",
    eval: (x) => x!.filter((_, i) => i % 2 === 1),
  },
  /** 16-bit integers as the bytes that hold them, the low one first. */
  asBytes: {
    type: exactly([["i16x8"]], "u8", 16),
    takes: "i16x8",
    eval: (x) => x!.flatMap((v) => [v & 255, (v >> 8) & 255]),
  },
  /** 16-bit integers that bytes hold, the low one first. */
  asWords: {
    type: bytes([16], () => valueType("i16", 8)),
    takes: "16 bytes",
    eval: (x) => Array.from({ length: 8 }, (_, i) => i16((x![2 * i]! & 255) + 256 * x![2 * i + 1]!)),
  },
  /** Each unsigned byte less 128. */
  less128: { type: exactly([["u8x16"]], "i8", 16), takes: "u8x16", eval: (x) => x!.map((v) => v - 128) },
  /** Magnitudes: 0 .. 128. */
  magnitudes: { type: exactly([["i8x16"]], "u8", 16), takes: "i8x16", eval: (x) => x!.map(Math.abs) },
  /** What `flipped` takes: 127 where a byte is negative, else 128. */
  flips: { type: exactly([["i8x16"]], "u8", 16), takes: "i8x16", eval: (x) => x!.map((v) => (v < 0 ? 127 : 128)) },
  /** Of bytes: each less 128 where the second operand is 128; where it is 127, the negative of that, less 1. */
  flipped: {
    type: exactly([["u8x16"], ["u8x16"]], "i8", 16),
    takes: "two u8x16",
    eval: (x, by) => x!.map((v, i) => ((v ^ by![i]!) << 24) >> 24),
  },
  /** The operand itself, which must be finite: formats are widened faster without their infinities. */
  finite: {
    type: ([x, more]) => (x !== undefined && x.dtype === "f32" && more === undefined ? x : undefined),
    takes: "f32 lanes",
    eval: (x) => [...x!],
  },
  /** The operand times 2^-112, which must be exact: f16 that is only moved to f32's place is so much too small. */
  shrunk: {
    type: ([x, more]) => (x !== undefined && x.dtype === "f32" && more === undefined ? x : undefined),
    takes: "f32 lanes",
    eval: (x) => x!.map((v) => v * 2 ** -112),
  },
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
  /** The high four bits of each byte where they are: 0, 16 .. 240. */
  top4: { type: bytes([16], () => valueType("u8", 16)), takes: "16 bytes", eval: (x) => x!.map((v) => v & 240) },
  /** 16 times the low four bits of each byte less 8: a signed code of 4 bits where it needs no sign to be spread. */
  low4s: {
    type: bytes([16], () => valueType("i8", 16)),
    takes: "16 bytes",
    eval: (x) => x!.map((v) => 16 * ((v & 15) - 8)),
  },
  /** 16 times the high four bits of each byte less 8. */
  high4s: {
    type: bytes([16], () => valueType("i8", 16)),
    takes: "16 bytes",
    eval: (x) => x!.map((v) => 16 * (((v & 255) >> 4) - 8)),
  },
  /** Four bytes, four times: byte i of the result is byte i % 4. */
  repeat4: {
    type: bytes([4], ({ dtype }) => valueType(dtype, 16)),
    takes: "4 bytes",
    eval: (x) => Array.from({ length: 16 }, (_, i) => x![i % 4]!),
  },
  /** Bytes 4i to 4i + 3, four times; i is a constant from 0 to 3. */
  spread4: {
    type: ([x, i, more]) => (is(x, "i8x16", "u8x16") && is(i, "i32") && more === undefined ? x : undefined),
    takes: "16 bytes and an i32",
    eval: (x, i) => Array.from({ length: 16 }, (_, lane) => x![4 * (i![0]! & 3) + (lane % 4)]!),
  },
  /** Bytes 4i to 4i + 3; i is a constant from 0 to 3. */
  part4: {
    type: ([x, i, more]) =>
      x !== undefined && is(x, "i8x16", "u8x16") && is(i, "i32") && more === undefined
        ? valueType(x.dtype, 4)
        : undefined,
    takes: "16 bytes and an i32",
    eval: (x, i) => x!.slice(4 * (i![0]! & 3), 4 * (i![0]! & 3) + 4),
  },
  /**
   * Where, of 16 inputs, those are that a vector of pairs is multiplied with (`dotGroups` of 5 bits): from the places of all
   * and the number of the vector, a constant from 0 to 3.
   */
  places16: {
    type: ([places, i, more]) =>
      is(places, "u8x16") && is(i, "i32") && more === undefined ? valueType("u8", 16) : undefined,
    takes: "u8x16 and an i32",
    eval: (places, i) =>
      places!.map((own, lane) => 8 * (i![0]! & 1) + 4 * ((lane >> 1) & 1) + ((own >> (2 * (i![0]! & 3))) & 3)),
  },
  /** Bytes of a vector by numbers from 0 to 15. */
  choose16: {
    type: exactly([["i8x16"], ["u8x16"]], "i8", 16),
    takes: "i8x16 and u8x16 below 16",
    eval: (x, at) => at!.map((i) => x![i & 15]!),
  },
  /** The f16 nearest to an f32, as f32: what would be loaded if it had been stored as f16. */
  rounded16: {
    type: exactly([["f32"]], "f32", 1),
    takes: "an f32",
    eval: (x) => [f16ToF32(f32ToF16(x![0]!))],
  },
  /** The low bytes of four integers as a word, the first lowest. */
  word4: {
    type: exactly([["i32"], ["i32"], ["i32"], ["i32"]], "u32", 1),
    takes: "four i32",
    eval: (...bytes) => [bytes.reduce((word, byte, i) => word | ((byte[0]! & 255) << (8 * i)), 0) >>> 0],
  },
  /** A word's four bytes, the lowest first. */
  bytes4: {
    type: exactly([["u32"]], "i8", 4),
    takes: "a u32",
    eval: (word) => [24, 16, 8, 0].map((shift) => (word![0]! << shift) >> 24),
  },
  /** Four scalars, or four times four bytes, as one vector. */
  join4: {
    type: (types) => {
      if (types.length !== 4) return undefined;
      if (types.every((type) => is(type, "f32"))) return valueType("f32", 4);
      return types.every((type) => is(type, "i8x4")) ? valueType("i8", 16) : undefined;
    },
    takes: "four f32 or four i8x4",
    eval: (...parts) => parts.flat(),
  },
  /**
   * An integer from -2^22 to 2^22 - 1 that `biased` was added to, as a float: the sum's bits are those of 1.5 * 2^23 and the
   * integer, so that a subtraction makes a number of it, where a conversion may be slow.
   */
  unbiased: {
    type: exactly([["i32x4"]], "f32", 4),
    takes: "i32x4",
    eval: (x) => x!.map((v) => v - biased),
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
