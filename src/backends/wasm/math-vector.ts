/**
 * exp and sigmoid of four f32 lanes, in f32: at most 2 and 3 units in the last place. softmax and silu are made of them.
 * They stand where they are used, since engines call functions of WebAssembly as they are and build constants in each.
 */

import { bitsFromF32 } from "../../ir/half.ts";
import { apply, assign, type Code, int, local, type Temp } from "./code.ts";
import { set, splatBits } from "./instr.ts";

const lanes = (value: number): Code => [splatBits(bitsFromF32(value))];

/** a b + c; where `relaxed`, rounded once if the processor can. */
const product = (relaxed: boolean, a: Code, b: Code, c: Code): Code =>
  relaxed ? apply("f32x4.relaxed_madd", a, b, c) : apply("f32x4.add", apply("f32x4.mul", a, b), c);

/** c - a b. */
const rest = (relaxed: boolean, a: Code, b: Code, c: Code): Code =>
  relaxed ? apply("f32x4.relaxed_nmadd", a, b, c) : apply("f32x4.sub", c, apply("f32x4.mul", a, b));

/**
 * exp(r) by powers of r, for r between -log(2)/2 and log(2)/2: those from r^2 on interpolate (exp(r) - 1 - r) / r^2 at
 * the zeros of the Chebyshev polynomial of degree 5, so that the result is within 2^-26.
 */
const powers = [1, 1, 0.5, 0.1666657626628876, 0.0416665561497211, 0.0083632031455636, 0.0013926213141530752] as const;

/**
 * Added to a number below 2^22, this rounds it to an integer k and leaves k + 254 in the low 9 bits, whatever is above
 * them: shifted by 23 they are the exponents of powers of two.
 */
const rounder = 1.5 * 2 ** 23 + 254;

/** exp(x) = 2^k exp(r) as in `math.ts`; log(2) in two f32 parts, the first of 10 bits. NaN stays. No lane is above 89. */
function expBelow89(temp: Temp, relaxed: boolean): Code {
  const [x, n, r, bits, half] = [temp("v128"), temp("v128"), temp("v128"), temp("v128"), temp("v128")];
  const polynomial = powers
    .slice(0, -1)
    .reduceRight<Code>((sum, c) => product(relaxed, sum, local(r), lanes(c)), lanes(powers.at(-1)!));
  return [
    // Below this the result is zero.
    ...lanes(-105),
    ...apply("f32x4.pmax"),
    set(x),
    ...assign(bits, product(relaxed, local(x), lanes(Math.LOG2E), lanes(rounder))),
    ...assign(n, apply("f32x4.sub", local(bits), lanes(rounder))),
    ...assign(r, rest(relaxed, local(n), lanes(0.693359375), local(x))),
    ...assign(r, rest(relaxed, local(n), lanes(Math.LN2 - 0.693359375), local(r))),
    // 2^k in two factors, of which neither is infinite or subnormal: their exponents add up to k + 254.
    ...assign(half, apply("i32x4.shr_u", local(bits), int(1))),
    ...apply(
      "f32x4.mul",
      apply("f32x4.mul", polynomial, apply("i32x4.shl", local(half), int(23))),
      apply("i32x4.shl", apply("i32x4.sub", local(bits), local(half)), int(23)),
    ),
  ];
}

/** What follows four lanes to give exp of each. Beyond 89 the result is infinite. */
export function exp4(temp: Temp, relaxed: boolean): Code {
  return [...lanes(89), ...apply("f32x4.pmin"), ...expBelow89(temp, relaxed)];
}

/** With e = exp(-|x|): 1 / (1 + e), or e / (1 + e) for negative x, so that nothing overflows. */
export function sigmoid4(temp: Temp, relaxed: boolean): Code {
  const [x, e] = [temp("v128"), temp("v128")];
  return [
    set(x),
    ...assign(e, [...apply("f32x4.neg", apply("f32x4.abs", local(x))), ...expBelow89(temp, relaxed)]),
    ...apply(
      "f32x4.div",
      apply("v128.bitselect", local(e), lanes(1), apply("f32x4.lt", local(x), lanes(0))),
      apply("f32x4.add", lanes(1), local(e)),
    ),
  ];
}
