/**
 * exp and sigmoid of four f32 lanes, in f32: at most 2 and 3 units in the last place. softmax and silu are made of them.
 */

import { bitsFromF32 } from "../../ir/half.ts";
import { apply, assign, type Code, func, int, local, polynomial } from "./code.ts";
import { call, splatBits, type WasmFunc } from "./instr.ts";

const lanes = (value: number): Code => [splatBits(bitsFromF32(value))];
const ints = (value: number): Code => [splatBits(value)];
const x = local("x");
const powerOfTwo = (k: Code) => apply("i32x4.shl", apply("i32x4.add", k, ints(127)), int(23));
const half = apply("i32x4.shr_s", local("k"), int(1));

/** exp(x) = 2^k exp(r) as in `math.ts`; log(2) in two f32 parts, the first of 10 bits; r^8/8! is below 2^-27. */
const exp4 = func(
  "exp_f32x4",
  { x: "v128" },
  "v128",
  { n: "v128", k: "v128", r: "v128" },
  // Beyond these the result is infinite or zero; NaN stays.
  assign("x", apply("f32x4.min", apply("f32x4.max", x, lanes(-105)), lanes(89))),
  assign("n", apply("f32x4.nearest", apply("f32x4.mul", x, lanes(Math.LOG2E)))),
  assign("k", apply("i32x4.trunc_sat_f32x4_s", local("n"))),
  assign(
    "r",
    apply(
      "f32x4.sub",
      apply("f32x4.sub", x, apply("f32x4.mul", local("n"), lanes(0.693359375))),
      apply("f32x4.mul", local("n"), lanes(Math.LN2 - 0.693359375)),
    ),
  ),
  apply(
    "f32x4.mul",
    apply(
      "f32x4.mul",
      polynomial(local("r"), [1, 1, 1 / 2, 1 / 6, 1 / 24, 1 / 120, 1 / 720, 1 / 5040], lanes, "f32x4.add", "f32x4.mul"),
      powerOfTwo(half),
    ),
    powerOfTwo(apply("i32x4.sub", local("k"), half)),
  ),
);

/** With e = exp(-|x|): 1 / (1 + e), or e / (1 + e) for negative x, so that nothing overflows. */
const sigmoid4 = func(
  "sigmoid_f32x4",
  { x: "v128" },
  "v128",
  { e: "v128" },
  assign("e", [...apply("f32x4.neg", apply("f32x4.abs", x)), call("exp_f32x4")]),
  apply(
    "f32x4.div",
    apply("v128.bitselect", local("e"), lanes(1), apply("f32x4.lt", x, lanes(0))),
    apply("f32x4.add", lanes(1), local("e")),
  ),
);

export const vectorFuncs: readonly WasmFunc[] = [exp4, sigmoid4];
