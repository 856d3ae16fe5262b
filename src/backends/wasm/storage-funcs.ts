/** Functions that narrow a float to the bits of a small format, as `ir/half.ts` defines them; each gives an i32. */
import { apply, assign, choose, double, func, int, local, long, returnIf, single } from "./code.ts";
import type { WasmFunc } from "./instr.ts";

const bits = local("bits");
const magnitude = local("magnitude");
const sign = apply("i32.and", apply("i32.shr_u", bits, int(16)), int(0x8000));

/** Rounds to nearest, ties to even; below 2^-14 in units of 2^-24. */
const toF16 = func(
  "f32_to_f16",
  { x: "f32" },
  "i32",
  { bits: "i32", magnitude: "i32" },
  assign("bits", apply("i32.reinterpret_f32", local("x"))),
  assign("magnitude", apply("i32.and", bits, int(0x7fffffff))),
  returnIf(apply("i32.gt_u", magnitude, int(0x7f800000)), apply("i32.or", sign, int(0x7e00))),
  returnIf(apply("i32.ge_u", magnitude, int(0x47800000)), apply("i32.or", sign, int(0x7c00))),
  returnIf(
    apply("i32.lt_u", magnitude, int(0x38800000)),
    apply(
      "i32.or",
      sign,
      apply(
        "i32.trunc_sat_f32_s",
        apply("f32.nearest", apply("f32.mul", apply("f32.abs", local("x")), single(2 ** 24))),
      ),
    ),
  ),
  assign("magnitude", apply("i32.sub", magnitude, int(0x38000000))),
  apply(
    "i32.or",
    sign,
    apply(
      "i32.shr_u",
      apply(
        "i32.add",
        apply("i32.add", magnitude, int(0xfff)),
        apply("i32.and", apply("i32.shr_u", magnitude, int(13)), int(1)),
      ),
      int(13),
    ),
  ),
);

const toBf16 = func(
  "f32_to_bf16",
  { x: "f32" },
  "i32",
  { bits: "i32" },
  assign("bits", apply("i32.reinterpret_f32", local("x"))),
  returnIf(apply("f32.ne", local("x"), local("x")), apply("i32.or", apply("i32.shr_u", bits, int(16)), int(0x40))),
  apply(
    "i32.shr_u",
    apply("i32.add", apply("i32.add", bits, int(0x7fff)), apply("i32.and", apply("i32.shr_u", bits, int(16)), int(1))),
    int(16),
  ),
);

const a = local("a");
const exponentOf = (value: ReturnType<typeof local>) =>
  apply(
    "i32.sub",
    apply(
      "i32.and",
      apply("i32.wrap_i64", apply("i64.shr_u", apply("i64.reinterpret_f64", value), long(52n))),
      int(0x7ff),
    ),
    int(1023),
  );
const power = (k: ReturnType<typeof local>) =>
  apply("f64.reinterpret_i64", apply("i64.shl", apply("i64.extend_i32_s", apply("i32.add", k, int(1023))), long(52n)));

/** In units of the last place; a carry runs into the exponent by itself. Beyond 448 it saturates. */
const toF8e4m3 = func(
  "f64_to_f8e4m3",
  { x: "f64" },
  "i32",
  { a: "f64", e: "i32", units: "i32" },
  returnIf(apply("f64.ne", local("x"), local("x")), int(0x7f)),
  assign("a", apply("f64.min", apply("f64.abs", local("x")), double(448))),
  assign("e", exponentOf(a)),
  assign("e", choose("i32", apply("i32.lt_s", local("e"), int(-6)), int(-6), local("e"))),
  assign(
    "units",
    apply(
      "i32.add",
      apply(
        "i32.trunc_sat_f64_s",
        apply("f64.nearest", apply("f64.mul", a, power(apply("i32.sub", int(3), local("e"))))),
      ),
      apply("i32.shl", apply("i32.add", local("e"), int(6)), int(3)),
    ),
  ),
  apply(
    "i32.or",
    choose("i32", apply("i32.gt_s", local("units"), int(0x7e)), int(0x7e), local("units")),
    apply(
      "i32.and",
      apply("i32.wrap_i64", apply("i64.shr_u", apply("i64.reinterpret_f64", local("x")), long(56n))),
      int(0x80),
    ),
  ),
);

/** The power of two nearest in ratio; 255 for NaN, 0 for what has no logarithm. */
const toF8e8m0 = func(
  "f64_to_f8e8m0",
  { x: "f64" },
  "i32",
  { e: "i32" },
  returnIf(apply("f64.ne", local("x"), local("x")), int(255)),
  returnIf(apply("i32.eqz", apply("f64.gt", local("x"), double(0))), int(0)),
  returnIf(apply("f64.eq", local("x"), double(Number.POSITIVE_INFINITY)), int(254)),
  assign("e", apply("i32.add", exponentOf(local("x")), int(127))),
  returnIf(apply("i32.lt_s", local("e"), int(-1)), int(0)),
  // The mantissa beyond the square root of 2.
  assign(
    "e",
    apply(
      "i32.add",
      local("e"),
      apply(
        "i64.gt_u",
        apply("i64.and", apply("i64.reinterpret_f64", local("x")), long(0xfffffffffffffn)),
        long(0x6a09e667f3bccn),
      ),
    ),
  ),
  assign("e", choose("i32", apply("i32.lt_s", local("e"), int(0)), int(0), local("e"))),
  choose("i32", apply("i32.gt_s", local("e"), int(254)), int(254), local("e")),
);

export const storageFuncs: readonly WasmFunc[] = [toF16, toBf16, toF8e4m3, toF8e8m0];
