/** Chains of casts, where the middle dtype keeps every value of the first. */
import { named, p, type Rule, rule, v } from "../../ir/pattern.ts";
import { type DType, dtypeInfo } from "../../ir/types.ts";

const x = v("x");

/** The floats that hold each float exactly. E8M0 goes from 2^-127 to 2^127, beyond f16. */
const widerFloats: Partial<Record<DType, readonly DType[]>> = {
  f16: ["f32"],
  bf16: ["f32"],
  f8e4m3: ["f32", "f16", "bf16"],
  f8e8m0: ["f32", "bf16"],
};

/** Whether casting from `narrow` to `wide` keeps every value, NaN included. */
export function holds(wide: DType, narrow: DType): boolean {
  if (wide === narrow) return true;
  const [from, to] = [dtypeInfo(narrow), dtypeInfo(wide)];
  if (from.kind === "float") return widerFloats[narrow]?.includes(wide) ?? false;
  // Integers of 8 bits and fewer are exact in 8 bits of significand, which bf16 has and f16 and f32 exceed.
  if (to.kind === "float") return from.range![1] <= 255 && (wide === "f32" || wide === "f16" || wide === "bf16");
  return from.range![0] >= to.range![0] && from.range![1] <= to.range![1];
}

export const casts: readonly Rule[] = [
  rule("cast_same", named("root", p("cast", x)), ({ x }) => x, {
    when: ({ x, root }) => x.type.dtype === root.attrs.dtype,
  }),
  rule("cast_cast", p("cast", named("inner", p("cast", x))), ({ x }, { cast }, root) => cast(x, root.attrs.dtype), {
    when: ({ x, inner }) => holds(inner.attrs.dtype, x.type.dtype),
  }),
];
