/**
 * What stands for each intrinsic, by what the engine offers. Relaxed SIMD has a product of bytes in one instruction, but
 * what it gives is only defined where the second operand is 0 .. 127 ("i7" in its name); for other bytes it is used
 * where a probe has shown that this engine is exact for them.
 */
import { invariant } from "../../ir/errors.ts";
import { biased, type IntrinsicName } from "../../ir/kernel/intrinsics.ts";
import type { ValueType } from "../../ir/kernel/value.ts";
import type { ByteDots } from "../../ir/target.ts";
import { apply, assign, type Code, int, local, type Temp } from "./code.ts";
import { splatBits } from "./instr.ts";
import { ruleCode } from "./scalar.ts";
import { widenF16x4 } from "./storage.ts";

/** `none`: no vectors at all, so no WebAssembly backend. */
export type Tier = "relaxed" | "simd" | "none";

export interface Rules {
  readonly tier: Exclude<Tier, "none">;
  /** The dot instruction of four products is exact for unsigned, for signed bytes in its second operand. */
  readonly dotUnsigned: boolean;
  readonly dotSigned: boolean;
  /** The one of two products is exact for 0 .. 127. */
  readonly dotPairs: boolean;
  /** The same for 0 .. 128. */
  readonly dotMagnitudes: boolean;
  /** The products that lowerings shall use. */
  readonly byteDots: ByteDots;
}

/** Without relaxed SIMD: what every engine with vectors has. */
export const simdRules: Rules = {
  tier: "simd",
  dotUnsigned: false,
  dotSigned: false,
  dotPairs: false,
  dotMagnitudes: false,
  byteDots: { small: "words", any: "words" },
};

/** `types` are the operands'. */
type Emit = (rules: Rules, temp: Temp, types: readonly ValueType[], ...args: readonly Code[]) => Code;

const isSigned = (type: ValueType | undefined): boolean => type?.dtype === "i8";

const fastDot: Emit = (_, __, ___, acc, a, b) => apply("i32x4.relaxed_dot_i8x16_i7x16_add_s", a!, b!, acc!);

const evens = (x: Code, signed: boolean): Code =>
  signed ? apply("i16x8.shr_s", apply("i16x8.shl", x, int(8)), int(8)) : apply("v128.and", x, [splatBits(0x00ff00ff)]);
const odds = (x: Code, signed: boolean): Code => apply(signed ? "i16x8.shr_s" : "i16x8.shr_u", x, int(8));

/**
 * Even and odd bytes as i16, then two dots of i16 pairs: lane l of the first has bytes 4l and 4l + 2, of the second the
 * others. Exact: a pair's sum is below 2^16.
 */
const wideDot =
  (signed: boolean): Emit =>
  (_, temp, __, acc, a, b) => {
    const [x, y] = [temp("v128"), temp("v128")];
    const dot = (half: typeof evens) => apply("i32x4.dot_i16x8_s", half(local(x), true), half(local(y), signed));
    return [...assign(x, a!), ...assign(y, b!), ...apply("i32x4.add", apply("i32x4.add", acc!, dot(evens)), dot(odds))];
  };

/** Products of 16-bit halves; a pair's sum is below 2^15 where the second operand is below 128. */
const wideDot2: Emit = (_, temp, __, a, b) => {
  const [x, y] = [temp("v128"), temp("v128")];
  const product = (half: typeof evens) => apply("i16x8.mul", half(local(x), true), half(local(y), false));
  return [...assign(x, a!), ...assign(y, b!), ...apply("i16x8.add", product(evens), product(odds))];
};

/** Lanes 0, 2, 4, 6 or 1, 3, 5, 7 of two vectors of four. */
const everyOther = (a: string, b: string, odd: number): Code => {
  const lanes = [0, 2, 4, 6].flatMap((lane) => [0, 1, 2, 3].map((byte) => 4 * (lane + odd) + byte));
  return [...local(a), ...local(b), { k: "shuffle", lanes }];
};

/** All but those that only kernels of workgroups use. */
export const intrinsicRows: Readonly<Partial<Record<IntrinsicName, Emit>>> = {
  dot4i8: (rules, ...rest) => (rules.tier === "relaxed" ? fastDot : wideDot(false))(rules, ...rest),
  dot4u8: (rules, ...rest) => (rules.dotUnsigned ? fastDot : wideDot(false))(rules, ...rest),
  dot4s8: (rules, ...rest) => (rules.dotSigned ? fastDot : wideDot(true))(rules, ...rest),
  fma: (rules, _, __, a, b, c) =>
    rules.tier === "relaxed"
      ? apply("f32x4.relaxed_madd", a!, b!, c!)
      : apply("f32x4.add", apply("f32x4.mul", a!, b!), c!),
  pmin: (_, __, ___, a, b) => apply("f32x4.pmin", a!, b!),
  pmax: (_, __, ___, a, b) => apply("f32x4.pmax", a!, b!),
  dot2i8: (rules, temp, types, a, b) =>
    rules.dotPairs ? apply("i16x8.relaxed_dot_i8x16_i7x16_s", a!, b!) : wideDot2(rules, temp, types, a!, b!),
  dot2u8: (rules, temp, types, a, b) =>
    rules.dotMagnitudes ? apply("i16x8.relaxed_dot_i8x16_i7x16_s", a!, b!) : wideDot2(rules, temp, types, a!, b!),
  dot2i16: (_, __, ___, a, b) => apply("i32x4.dot_i16x8_s", a!, b!),
  add16: (_, __, ___, a, b) => apply("i16x8.add", a!, b!),
  // A product with ones: what engines make of an addition of pairs, but that ones then come from memory each time.
  sum2: (_, __, ___, x) => apply("i32x4.dot_i16x8_s", x!, [splatBits(0x00010001)]),
  join2: (_, temp, __, a, b) => {
    const [x, y] = [temp("v128"), temp("v128")];
    return [...assign(x, a!), ...assign(y, b!), ...apply("i32x4.add", everyOther(x, y, 0), everyOther(x, y, 1))];
  },
  widen8: (_, __, [type], x) => apply(isSigned(type) ? "i16x8.extend_low_i8x16_s" : "i16x8.extend_low_i8x16_u", x!),
  evens: (_, __, [type], x) => evens(x!, isSigned(type)),
  odds: (_, __, [type], x) => odds(x!, isSigned(type)),
  asBytes: (_, __, ___, x) => x!,
  asWords: (_, __, ___, x) => x!,
  less128: (_, __, ___, x) => apply("v128.xor", x!, [splatBits(0x80808080)]),
  magnitudes: (_, __, ___, x) => apply("i8x16.abs", x!),
  flips: (_, __, ___, x) => apply("v128.xor", apply("i8x16.gt_s", [splatBits(0)], x!), [splatBits(0x80808080)]),
  flipped: (_, __, ___, x, by) => apply("v128.xor", x!, by!),
  finite: (_, __, ___, x) => x!,
  shrunk: (_, __, ___, x) => apply("f32x4.mul", x!, [splatBits(0x07800000)]), // 2^-112
  unbiased: (_, __, ___, x) => apply("f32x4.sub", x!, [splatBits(biased)]),
  low4: (_, __, ___, x) => apply("v128.and", x!, [splatBits(0x0f0f0f0f)]),
  high4: (_, __, ___, x) => apply("v128.and", apply("i16x8.shr_u", x!, int(4)), [splatBits(0x0f0f0f0f)]),
  top4: (_, __, ___, x) => apply("v128.and", x!, [splatBits(0xf0f0f0f0)]),
  // The bits of a byte that a shift brings in from its neighbour are those that the mask drops.
  low4s: (_, __, ___, x) =>
    apply("v128.xor", apply("v128.and", apply("i16x8.shl", x!, int(4)), [splatBits(0xf0f0f0f0)]), [
      splatBits(0x80808080),
    ]),
  high4s: (_, __, ___, x) => apply("v128.xor", apply("v128.and", x!, [splatBits(0xf0f0f0f0)]), [splatBits(0x80808080)]),
  repeat4: (_, __, ___, x) => apply("i32x4.splat", [...x!, { k: "lane", op: "i32x4.extract_lane", lane: 0 }]),
  spread4: (_, temp, __, x, i) => {
    const [number] = i!;
    invariant(number?.k === "const", () => "spread4 takes a constant");
    const name = temp("v128");
    const lanes = Array.from({ length: 16 }, (_, lane) => 4 * (number.value & 3) + (lane % 4));
    return [...assign(name, x!), ...local(name), ...local(name), { k: "shuffle", lanes }];
  },
  places16: (_, __, ___, places, i) => {
    const [number] = i!;
    invariant(number?.k === "const", () => "places16 takes a constant");
    const vector = number.value & 3;
    // The bits of a byte that a shift brings in from its neighbour are those that the mask drops.
    const own = vector === 0 ? places! : apply("i16x8.shr_u", places!, int(2 * vector));
    const base = (lane: number) => 8 * (vector & 1) + 4 * ((lane >> 1) & 1);
    const bases: Code = [{ k: "const128", bytes: Array.from({ length: 16 }, (_, lane) => base(lane)) }];
    return apply("v128.or", apply("v128.and", own, [splatBits(0x03030303)]), bases);
  },
  choose16: (_, __, ___, x, at) => apply("i8x16.swizzle", x!, at!),
  f16s: (_, temp, __, x) => [...apply("i32x4.extend_low_i16x8_u", x!), ...ruleCode(widenF16x4, temp)],
};
