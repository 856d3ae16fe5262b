/** Small float formats: every code, and rounding against the neighbouring codes. */
import fc from "fast-check";
import { expect, test } from "vitest";
import {
  bf16ToF32,
  f8e4m3ToF32,
  f8e8m0ToF32,
  f16ToF32,
  f32FromBits,
  f32ToBf16,
  f32ToF8e4m3,
  f32ToF16,
} from "../../src/ir/half.ts";
import e4m3fn from "../fixtures/e4m3fn.json" with { type: "json" };

const formats = {
  f16: { codes: 65536, decode: f16ToF32, encode: f32ToF16, top: 0x7bff, sign: 0x8000 },
  bf16: { codes: 65536, decode: bf16ToF32, encode: f32ToBf16, top: 0x7f7f, sign: 0x8000 },
  f8e4m3: { codes: 256, decode: f8e4m3ToF32, encode: f32ToF8e4m3, top: 0x7e, sign: 0x80 },
} as const;
const names = Object.keys(formats) as (keyof typeof formats)[]; // the keys of a literal

test.each(names)("%s: every code reads and writes back as itself, NaN as a NaN", (name) => {
  const { codes, decode, encode } = formats[name];
  const wrong: number[] = [];
  for (let code = 0; code < codes; code++) {
    const value = decode(code);
    const back = encode(value);
    if (Number.isNaN(value) ? !Number.isNaN(decode(back)) : back !== code) wrong.push(code);
  }
  expect(wrong).toEqual([]);
});

test("f16 and bf16 agree with their definition: sign, exponent and fraction fields", () => {
  const field = (code: number, exponentBits: number, fractionBits: number) => {
    const sign = code >> (exponentBits + fractionBits) ? -1 : 1;
    const exponent = (code >> fractionBits) % 2 ** exponentBits;
    const fraction = (code % 2 ** fractionBits) / 2 ** fractionBits;
    const bias = 2 ** (exponentBits - 1) - 1;
    if (exponent === 2 ** exponentBits - 1) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
    return sign * (exponent ? (1 + fraction) * 2 ** (exponent - bias) : fraction * 2 ** (1 - bias));
  };
  for (let code = 0; code < 65536; code++) {
    if (!Object.is(f16ToF32(code), field(code, 5, 10))) expect(f16ToF32(code)).toBe(field(code, 5, 10));
    if (!Object.is(bf16ToF32(code), field(code, 8, 7))) expect(bf16ToF32(code)).toBe(field(code, 8, 7));
  }
});

test("f8e4m3 agrees with the table", () => {
  for (const [code, value] of e4m3fn.values.entries()) {
    expect(f8e4m3ToF32(code)).toBe(value ?? Number.NaN);
    expect(f8e4m3ToF32(code + 128)).toBe(value === null ? Number.NaN : -value);
  }
});

test.each(names)("%s: rounds to the nearest code, ties to the even one", (name) => {
  const { decode, encode, top, sign } = formats[name];
  const check = (value: number) => {
    const code = encode(value) & ~sign;
    const magnitude = Math.abs(value);
    expect(encode(value) & sign ? -1 : 1).toBe(Object.is(value, -0) || value < 0 ? -1 : 1);
    if (magnitude > decode(top)) return;
    const error = Math.abs(decode(code) - magnitude);
    for (const other of [code - 1, code + 1]) {
      if (other < 0 || other > top) continue;
      const otherError = Math.abs(decode(other) - magnitude);
      expect(error < otherError || (error === otherError && code % 2 === 0)).toBe(true);
    }
  };
  const arbBits = fc.integer({ min: 0, max: 0xffffffff }).map(f32FromBits);
  const inRange = fc.double({ min: -1000, max: 1000, noNaN: true }).map(Math.fround);
  fc.assert(
    fc.property(fc.oneof(arbBits, inRange), (value) => Number.isNaN(value) || check(value)),
    { numRuns: 2000 },
  );
  // Halfway between every second code and the next (f16 and bf16: of some), and one step of f32 to either side.
  for (let code = 0; code < top; code += name === "f8e4m3" ? 1 : 37) {
    const middle = (decode(code) + decode(code + 1)) / 2;
    for (const value of [middle, -middle]) check(value);
    for (const bump of [1 - 2 ** -20, 1 + 2 ** -20]) check(Math.fround(middle * bump));
  }
});

test("beyond the largest value", () => {
  expect([65504, 65519, 65520, 1e9, Number.POSITIVE_INFINITY].map(f32ToF16)).toEqual([
    0x7bff, 0x7bff, 0x7c00, 0x7c00, 0x7c00,
  ]);
  expect([-65504, -65519, -65520].map(f32ToF16)).toEqual([0xfbff, 0xfbff, 0xfc00]);
  expect([3.4e38, Number.POSITIVE_INFINITY, -3.4e38].map(f32ToBf16)).toEqual([0x7f80, 0x7f80, 0xff80]);
  // FP8 E4M3 has no infinity: it saturates.
  expect([448, 464, 1e9, Number.POSITIVE_INFINITY, -1e9].map(f32ToF8e4m3)).toEqual([0x7e, 0x7e, 0x7e, 0x7e, 0xfe]);
  expect([f32ToF16, f32ToBf16, f32ToF8e4m3].map((encode) => encode(Number.NaN))).toEqual([0x7e00, 0x7fc0, 0x7f]);
});

test("f8e8m0 is a power of two", () => {
  expect([0, 1, 126, 127, 128, 254, 255].map(f8e8m0ToF32)).toEqual([
    2 ** -127,
    2 ** -126,
    0.5,
    1,
    2,
    2 ** 127,
    Number.NaN,
  ]);
});
