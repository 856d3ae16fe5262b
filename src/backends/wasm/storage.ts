/** Loads that widen every storage type to a value, and stores that narrow a value to it. */
import type { StorageDType } from "../../ir/kernel/value.ts";
import { dtypeInfo } from "../../ir/types.ts";
import type { Code, Temp } from "./code.ts";
import { call, f32, get, type Instr, i32, type MemoryOp, memory, plain, set, splatBits, tee, v128 } from "./instr.ts";
import { castRows, type Rule, ruleCode, scalarRows } from "./scalar.ts";

/** A small float by its bits: exponent and fraction shifted into place as an f32, and the bias put right by a product,
 * which makes normal numbers of subnormal ones. `special` are the bits that magnitudes from there on get as well. */
const widen =
  (magnitude: number, shift: number, bias: number, special: number, bits: number): Rule =>
  (temp) => {
    const [raw, value] = [temp("i32"), temp("i32")];
    return [
      tee(raw),
      i32(magnitude),
      plain("i32.and"),
      i32(shift),
      plain("i32.shl"),
      plain("f32.reinterpret_i32"),
      f32(2 ** bias),
      plain("f32.mul"),
      plain("i32.reinterpret_f32"),
      set(value),
      get(value),
      i32(bits),
      i32(0),
      get(raw),
      i32(magnitude),
      plain("i32.and"),
      i32(special),
      plain("i32.ge_u"),
      { k: "select", type: "i32" },
      plain("i32.or"),
      get(raw),
      i32(magnitude + 1),
      plain("i32.and"),
      i32(shift === 13 ? 16 : 24),
      plain("i32.shl"),
      plain("i32.or"),
      plain("f32.reinterpret_i32"),
    ];
  };

const widenF16 = widen(0x7fff, 13, 112, 0x7c00, 0x7f800000);
const widenF8 = widen(0x7f, 20, 120, 0x7f, 0x7fc00000);
/** 2^(b - 127): the exponent in place; 0 is subnormal, 255 is NaN. */
const widenE8: Rule = (temp) => {
  const raw = temp("i32");
  return [
    tee(raw),
    i32(23),
    plain("i32.shl"),
    i32(0x00400000),
    get(raw),
    { k: "select", type: "i32" },
    i32(0x7fc00000),
    get(raw),
    i32(255),
    plain("i32.ne"),
    { k: "select", type: "i32" },
    plain("f32.reinterpret_i32"),
  ];
};

const loads: Record<Exclude<StorageDType, "i4" | "u4">, readonly [MemoryOp, Rule]> = {
  f32: ["f32.load", []],
  f64: ["f64.load", []],
  i32: ["i32.load", []],
  u32: ["i32.load", []],
  i8: ["i32.load8_s", []],
  u8: ["i32.load8_u", []],
  bool: ["i32.load8_u", [i32(0), plain("i32.ne")]],
  f16: ["i32.load16_u", widenF16],
  bf16: ["i32.load16_u", [i32(16), plain("i32.shl"), plain("f32.reinterpret_i32")]],
  f8e4m3: ["i32.load8_u", widenF8],
  f8e8m0: ["i32.load8_u", widenE8],
};

/** What follows an address on the stack to load one element of a whole number of bytes. */
export function loadCode(dtype: Exclude<StorageDType, "i4" | "u4">, offset: number, temp: Temp): Code {
  const [op, rule] = loads[dtype];
  return [memory(op, offset), ...ruleCode(rule, temp)];
}

/** What follows the address of the byte and the element's index. */
export function loadNibble(dtype: "i4" | "u4", temp: Temp): Code {
  const index = temp("i32");
  const shift: Code = [get(index), i32(1), plain("i32.and"), i32(2), plain("i32.shl")];
  const byte: Code = [set(index), memory("i32.load8_u")];
  if (dtype === "u4") return [...byte, ...shift, plain("i32.shr_u"), i32(15), plain("i32.and")];
  return [...byte, i32(28), ...shift, plain("i32.sub"), plain("i32.shl"), i32(28), plain("i32.shr_s")];
}

const lanesOf = (bits: (lane: number) => number): Instr =>
  v128([0, 1, 2, 3].flatMap((lane) => [0, 8, 16, 24].map((shift) => (bits(lane) >>> shift) & 255)));

/** What follows the address of the byte in whose low half the first of four codes lies: each shifted up by a product of its own. */
export function loadNibbles(dtype: "i4" | "u4", offset: number): Code {
  return [
    memory("v128.load16_splat", offset),
    lanesOf((lane) => 15 << (4 * lane)),
    plain("v128.and"),
    lanesOf((lane) => 1 << (28 - 4 * lane)),
    plain("i32x4.mul"),
    i32(28),
    plain(dtype === "i4" ? "i32x4.shr_s" : "i32x4.shr_u"),
  ];
}

const demote: Code = [plain("f32.demote_f64")];
const promote: Code = [plain("f64.promote_f32")];

const stores: Record<Exclude<StorageDType, "i4" | "u4">, readonly [MemoryOp, Code]> = {
  f32: ["f32.store", []],
  f64: ["f64.store", []],
  i32: ["i32.store", []],
  u32: ["i32.store", []],
  i8: ["i32.store8", []],
  u8: ["i32.store8", []],
  bool: ["i32.store8", []],
  f16: ["i32.store16", [call("f32_to_f16")]],
  bf16: ["i32.store16", [call("f32_to_bf16")]],
  f8e4m3: ["i32.store8", [call("f64_to_f8e4m3")]],
  f8e8m0: ["i32.store8", [call("f64_to_f8e8m0")]],
};

/** What follows a value of type `from` to make it one that fits the storage type; integers saturate unless they fit. */
export function narrowCode(dtype: StorageDType, from: string, fits: boolean, temp: Temp): Code {
  const wide = dtype === "f8e4m3" || dtype === "f8e8m0" || dtype === "f64" ? "f64" : "f32";
  const rounded = from === "f64" && wide === "f32" ? demote : from === "f32" && wide === "f64" ? promote : [];
  const range = dtype === "f64" ? undefined : dtypeInfo(dtype).range;
  if (range === undefined || fits || from === "bool") return rounded;
  const [min, max] = [scalarRows.min.i32, scalarRows.max.i32];
  return [i32(range[0]), ...ruleCode(max, temp), i32(range[1]), ...ruleCode(min, temp)];
}

/** What follows an address and a narrowed value. */
export function storeCode(dtype: Exclude<StorageDType, "i4" | "u4">, offset: number): Code {
  const [op, convert] = stores[dtype];
  return [...convert, memory(op, offset)];
}

/** What follows the byte's address, the element's index and the value. */
export function storeNibble(temp: Temp, address: "i32" | "i64"): Code {
  const [at, shift, value] = [temp(address), temp("i32"), temp("i32")];
  return [
    set(value),
    i32(1),
    plain("i32.and"),
    i32(2),
    plain("i32.shl"),
    set(shift),
    tee(at),
    get(at),
    memory("i32.load8_u"),
    i32(15),
    get(shift),
    plain("i32.shl"),
    i32(-1),
    plain("i32.xor"),
    plain("i32.and"),
    get(value),
    i32(15),
    plain("i32.and"),
    get(shift),
    plain("i32.shl"),
    plain("i32.or"),
    memory("i32.store8"),
  ];
}

const extend8 = (sign: "s" | "u"): Instr[] => [
  memory("v128.load32_zero"),
  plain(`i16x8.extend_low_i8x16_${sign}`),
  plain(`i32x4.extend_low_i16x8_${sign}`),
];

/** Four f16 in the low halves of 32-bit lanes, as in `widen`. */
export const widenF16x4: Rule = (temp) => {
  const [raw, magnitude] = [temp("v128"), temp("v128")];
  return [
    tee(raw),
    splatBits(0x7fff),
    plain("v128.and"),
    tee(magnitude),
    i32(13),
    plain("i32x4.shl"),
    splatBits(0x77800000), // 2^112
    plain("f32x4.mul"),
    get(magnitude),
    splatBits(0x7bff),
    plain("i32x4.gt_s"),
    splatBits(0x7f800000),
    plain("v128.and"),
    plain("v128.or"),
    get(raw),
    splatBits(0x8000),
    plain("v128.and"),
    i32(16),
    plain("i32x4.shl"),
    plain("v128.or"),
  ];
};

/** What follows an address to load four finite f16 times 2^-112: the bits in place, the bias not put right. */
export function loadShrunkF16(offset: number): Code {
  return [memory("v128.load16x4_s", offset), i32(13), plain("i32x4.shl"), splatBits(0x8fffe000), plain("v128.and")];
}

/** What follows an address to load four finite f16: the bias put right by a product. */
export function loadFiniteF16(offset: number): Code {
  return [...loadShrunkF16(offset), splatBits(0x77800000), plain("f32x4.mul")]; // 2^112
}

/** What follows an address to load four elements; undefined where they are loaded one by one. */
export function loadVector(dtype: StorageDType, offset: number, temp: Temp): Code | undefined {
  const at = ([first, ...rest]: readonly Instr[]): Instr[] => [{ ...first, offset } as Instr, ...rest]; // a memory instruction
  switch (dtype) {
    case "f32":
    case "i32":
    case "u32":
      return [memory("v128.load", offset)];
    case "bf16":
      return [memory("v128.load16x4_u", offset), i32(16), plain("i32x4.shl")];
    case "f16":
      return [memory("v128.load16x4_u", offset), ...ruleCode(widenF16x4, temp)];
    case "i8":
      return at(extend8("s"));
    case "u8":
      return at(extend8("u"));
    case "bool":
      return [...at(extend8("u")), ...ruleCode(castRows["i32x4 boolx4"]!, temp)];
    default:
      return undefined;
  }
}

/** What follows an address and a vector to store its four lanes; undefined where they are stored one by one. */
export function storeVector(dtype: StorageDType, offset: number): Code | undefined {
  switch (dtype) {
    case "f32":
    case "i32":
    case "u32":
      return [memory("v128.store", offset)];
    default:
      return undefined;
  }
}

/** Four i32 saturated to bytes, in the lowest 32 bits. */
export function narrowVector(dtype: "i8" | "u8", temp: Temp): Code {
  const v = temp("v128");
  const sign = dtype === "i8" ? "s" : "u";
  return [tee(v), get(v), plain("i16x8.narrow_i32x4_s"), tee(v), get(v), plain(`i8x16.narrow_i16x8_${sign}`)];
}
