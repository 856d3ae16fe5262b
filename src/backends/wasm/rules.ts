/**
 * What stands for each intrinsic, by what the engine offers. Relaxed SIMD has a product of bytes in one instruction, but
 * what it gives is only defined where the second operand is 0 .. 127 ("i7" in its name); for other bytes it is used
 * where a probe has shown that this engine is exact for them.
 */
import type { IntrinsicName } from "../../ir/kernel/intrinsics.ts";
import { apply, assign, type Code, int, local } from "./code.ts";
import { splatBits } from "./instr.ts";
import { ruleCode, type Temp } from "./scalar.ts";
import { widenF16x4 } from "./storage.ts";

/** `none`: no vectors at all, so no WebAssembly backend. */
export type Tier = "relaxed" | "simd" | "none";

export interface Rules {
  readonly tier: Exclude<Tier, "none">;
  /** The dot instruction is exact for unsigned, for signed bytes in its second operand. */
  readonly dotUnsigned: boolean;
  readonly dotSigned: boolean;
}

export const rulesOf: Readonly<Record<Rules["tier"], Rules>> = {
  relaxed: { tier: "relaxed", dotUnsigned: false, dotSigned: false },
  simd: { tier: "simd", dotUnsigned: false, dotSigned: false },
};

type Emit = (rules: Rules, temp: Temp, ...args: readonly Code[]) => Code;

const fastDot: Emit = (_, __, acc, a, b) => apply("i32x4.relaxed_dot_i8x16_i7x16_add_s", a!, b!, acc!);

/**
 * Even and odd bytes as i16, then two dots of i16 pairs: lane l of the first has bytes 4l and 4l + 2, of the second the
 * others. Exact: a pair's sum is below 2^16.
 */
const wideDot =
  (signed: boolean): Emit =>
  (_, temp, acc, a, b) => {
    const [x, y] = [temp("v128"), temp("v128")];
    const odd = (name: string, sign: boolean) => apply(sign ? "i16x8.shr_s" : "i16x8.shr_u", local(name), int(8));
    const even = (name: string, sign: boolean) =>
      sign
        ? apply("i16x8.shr_s", apply("i16x8.shl", local(name), int(8)), int(8))
        : apply("v128.and", local(name), [splatBits(0x00ff00ff)]);
    return [
      ...assign(x, a!),
      ...assign(y, b!),
      ...apply(
        "i32x4.add",
        apply("i32x4.add", acc!, apply("i32x4.dot_i16x8_s", even(x, true), even(y, signed))),
        apply("i32x4.dot_i16x8_s", odd(x, true), odd(y, signed)),
      ),
    ];
  };

export const intrinsicRows: Readonly<Record<IntrinsicName, Emit>> = {
  dot4i8: (rules, ...rest) => (rules.tier === "relaxed" ? fastDot : wideDot(false))(rules, ...rest),
  dot4u8: (rules, ...rest) => (rules.dotUnsigned ? fastDot : wideDot(false))(rules, ...rest),
  dot4s8: (rules, ...rest) => (rules.dotSigned ? fastDot : wideDot(true))(rules, ...rest),
  fma: (rules, _, a, b, c) =>
    rules.tier === "relaxed"
      ? apply("f32x4.relaxed_madd", a!, b!, c!)
      : apply("f32x4.add", apply("f32x4.mul", a!, b!), c!),
  pmin: (_, __, a, b) => apply("f32x4.pmin", a!, b!),
  pmax: (_, __, a, b) => apply("f32x4.pmax", a!, b!),
  low4: (_, __, x) => apply("v128.and", x!, [splatBits(0x0f0f0f0f)]),
  high4: (_, __, x) => apply("i8x16.shr_u", x!, int(4)),
  repeat4: (_, __, x) => apply("i32x4.splat", [...x!, { k: "lane", op: "i32x4.extract_lane", lane: 0 }]),
  f16s: (_, temp, x) => [...apply("i32x4.extend_low_i16x8_u", x!), ...ruleCode(widenF16x4, temp)],
};
