/**
 * Identities of arithmetic and logic. Exact unless marked: -0, infinities and NaN count, which is why `x + 0 = x` is
 * missing (it turns -0 into 0) while `x + (-0) = x` and `x - 0 = x` are here. Integers wrap around, so identities of
 * modular arithmetic are exact for them.
 */
import type { Maths } from "../../ir/build.ts";
import type { Node } from "../../ir/graph.ts";
import { c, constantValue, named, p, type Rule, rule, v } from "../../ir/pattern.ts";
import { isFloat } from "../../ir/types.ts";

const [x, y, z] = [v("x"), v("y"), v("z")];
const k = named("k", p("full"));
const k2 = named("k2", p("full"));

const whenInt = { when: (_: unknown, root: Node) => !isFloat(root.type.dtype) };
const whenSigned = { when: (_: unknown, root: Node) => root.type.dtype === "f32" || root.type.dtype === "i32" };
const whenIntOperand = { when: (_: unknown, root: Node) => !isFloat(root.ins[0]!.type.dtype) };
const truth = (build: Maths, root: Node, value: 0 | 1) => build.full("bool", root.type.shape, value);

/** The reciprocal of a power of two that f32 holds, so that multiplying by it rounds like the division. */
function exactReciprocal(divisor: Node<"full">): number | undefined {
  const value = constantValue(divisor);
  const power = Math.log2(Math.abs(value));
  const exact = divisor.type.dtype === "f32" && Number.isInteger(power) && Math.abs(power) <= 126;
  return exact && 2 ** power === Math.abs(value) ? 1 / value : undefined;
}

const arithmetic: readonly Rule[] = [
  rule("add_negative_zero", p("add", x, c(-0)), ({ x }) => x), // x + (-0) = x
  rule("add_zero_int", p("add", x, c(0)), ({ x }) => x, whenInt), // x + 0 = x
  rule("add_zero", p("add", x, c(0)), ({ x }) => x, { class: "finite" }), // x + 0 = x, not for x = -0
  rule("sub_zero", p("sub", x, c(0)), ({ x }) => x), // x - 0 = x
  rule("sub_self_int", p("sub", x, x), ({ x }, { full }) => full(x.type.dtype, x.type.shape, 0), whenInt), // x - x = 0
  rule("mul_one", p("mul", x, c(1)), ({ x }) => x), // x * 1 = x
  rule("mul_minus_one", p("mul", x, c(-1)), ({ x }, { neg }) => neg(x)), // x * -1 = -x
  rule("mul_zero_int", p("mul", x, c(0)), ({ x }, { full }) => full(x.type.dtype, x.type.shape, 0), whenInt), // x * 0 = 0
  // x * 0 = 0, not for infinities and NaN, and -x * 0 = -0
  rule("mul_zero", p("mul", x, c(0)), ({ x }, { full }) => full(x.type.dtype, x.type.shape, 0), { class: "finite" }),
  rule("div_one", p("div", x, c(1)), ({ x }) => x), // x / 1 = x
  rule("div_power_of_two", p("div", x, k), ({ x, k }, { mul }) => mul(x, exactReciprocal(k)!), {
    when: ({ k }) => exactReciprocal(k) !== undefined, // x / 2^n = x * 2^-n
  }),
  rule("pow_one", p("pow", x, c(1)), ({ x }) => x), // x ^ 1 = x
  rule("neg_neg", p("neg", p("neg", x)), ({ x }) => x), // -(-x) = x
  rule("add_neg", p("add", x, p("neg", y)), ({ x, y }, { sub }) => sub(x, y)), // x + (-y) = x - y
  rule("sub_neg", p("sub", x, p("neg", y)), ({ x, y }, { add }) => add(x, y)), // x - (-y) = x + y
  rule("mul_neg_neg", p("mul", p("neg", x), p("neg", y)), ({ x, y }, { mul }) => mul(x, y)), // (-x)(-y) = x y
  rule("neg_sub", p("neg", p("sub", x, y)), ({ x, y }, { sub }) => sub(y, x), { class: "finite" }), // -(x - y) = y - x, zero apart
  rule("abs_neg", p("abs", p("neg", x)), ({ x }, { abs }) => abs(x), whenSigned), // |-x| = |x|
  rule("abs_abs", p("abs", p("abs", x)), ({ x }, { abs }) => abs(x)),
  rule("floor_floor", p("floor", p("floor", x)), ({ x }, { floor }) => floor(x)),
  rule("round_round", p("round", p("round", x)), ({ x }, { round }) => round(x)),
  rule("floor_round", p("floor", p("round", x)), ({ x }, { round }) => round(x)), // already whole
  rule("round_floor", p("round", p("floor", x)), ({ x }, { floor }) => floor(x)),
  rule("add_constants_int", p("add", p("add", x, k), k2), ({ x, k, k2 }, { add }) => add(x, add(k, k2)), whenInt), // modular
  rule("mul_constants_int", p("mul", p("mul", x, k), k2), ({ x, k, k2 }, { mul }) => mul(x, mul(k, k2)), whenInt),
  // (x a) b = x (a b), one rounding fewer
  rule("mul_constants", p("mul", p("mul", x, k), k2), ({ x, k, k2 }, { mul }) => mul(x, mul(k, k2)), {
    class: "reassociates",
  }),
];

const order: readonly Rule[] = [
  rule("min_same", p("min", x, x), ({ x }) => x),
  rule("max_same", p("max", x, x), ({ x }) => x),
  rule("min_min", p("min", x, p("min", x, y)), ({ x, y }, { min }) => min(x, y)),
  rule("max_max", p("max", x, p("max", x, y)), ({ x, y }, { max }) => max(x, y)),
  rule("eq_same", p("eq", x, x), (_, build, root) => truth(build, root, 1), whenIntOperand), // NaN differs from itself
  rule("le_same", p("le", x, x), (_, build, root) => truth(build, root, 1), whenIntOperand),
  rule("ge_same", p("ge", x, x), (_, build, root) => truth(build, root, 1), whenIntOperand),
  rule("ne_same", p("ne", x, x), (_, build, root) => truth(build, root, 0), whenIntOperand),
  rule("lt_same", p("lt", x, x), (_, build, root) => truth(build, root, 0)),
  rule("gt_same", p("gt", x, x), (_, build, root) => truth(build, root, 0)),
];

const logic: readonly Rule[] = [
  rule("not_not", p("not", p("not", x)), ({ x }) => x),
  rule("not_eq", p("not", p("eq", x, y)), ({ x, y }, { ne }) => ne(x, y)),
  rule("not_ne", p("not", p("ne", x, y)), ({ x, y }, { eq }) => eq(x, y)),
  rule("and_same", p("and", x, x), ({ x }) => x),
  rule("or_same", p("or", x, x), ({ x }) => x),
  rule("and_true", p("and", x, c(1)), ({ x }) => x),
  rule("and_false", p("and", x, c(0)), (_, build, root) => truth(build, root, 0)),
  rule("or_true", p("or", x, c(1)), (_, build, root) => truth(build, root, 1)),
  rule("or_false", p("or", x, c(0)), ({ x }) => x),
  rule("select_true", p("select", c(1), x, y), ({ x }) => x),
  rule("select_false", p("select", c(0), x, y), ({ y }) => y),
  rule("select_same", p("select", z, x, x), ({ x }) => x),
  rule("select_not", p("select", p("not", z), x, y), ({ x, y, z }, { select }) => select(z, y, x)),
];

/** `op(constant, x) = op(x, constant)`, so that equal expressions become the same node. */
const constantsRight: readonly Rule[] = (["add", "mul", "min", "max", "and", "or", "eq", "ne"] as const).map((op) =>
  rule(`${op}_constant_right`, p(op, k, x), ({ x, k }, { builder }) => builder.make(op, [x, k], {}), {
    when: ({ x, k }, root) => root.ins[0] === k && x.op !== "full",
  }),
);

export const algebra: readonly Rule[] = [...arithmetic, ...order, ...logic, ...constantsRight];
