/**
 * WebAssembly for every scalar op, by the kind of its operands: what follows the operands on the stack. Kinds without a
 * row of four lanes are computed lane by lane. Functions without an instruction are those of `library.ts`, in f64.
 */
import type { ScalarOp } from "../../ir/scalar.ts";
import type { Code, Temp } from "./code.ts";
import { call, f64, get, type Instr, i32, ifElse, plain, set, splatBits, tee } from "./instr.ts";
import { exp4, sigmoid4 } from "./math-vector.ts";

/** What a value is; bools of four lanes are masks of 32 bits. */
export type Kind = "f32" | "f64" | "i32" | "u32" | "bool" | "f32x4" | "i32x4" | "u32x4" | "boolx4";

/** `relaxed` is whether there are the instructions of relaxed SIMD. */
export type Rule = Code | ((temp: Temp, relaxed: boolean) => Code);
export type ScalarRow = { readonly [K in Kind]?: Rule };

const floats = <N extends "add" | "sub" | "mul" | "div" | "min" | "max" | "neg" | "abs" | "sqrt" | "floor" | "nearest">(
  name: N,
): ScalarRow => ({
  f32: [plain(`f32.${name}`)],
  f64: [plain(`f64.${name}`)],
  f32x4: [plain(`f32x4.${name}`)],
});

const integers = (name: "add" | "sub" | "mul"): ScalarRow => ({
  i32: [plain(`i32.${name}`)],
  u32: [plain(`i32.${name}`)],
  i32x4: [plain(`i32x4.${name}`)],
  u32x4: [plain(`i32x4.${name}`)],
});

/** In f64, rounded once for f32. */
const viaDouble = (name: string): ScalarRow => ({
  f32: [plain("f64.promote_f32"), call(name), plain("f32.demote_f64")],
  f64: [call(name)],
});
/** Of two operands. */
const viaDouble2 = (name: string): ScalarRow => ({
  f32: (temp) => {
    const y = temp("f32");
    return [set(y), plain("f64.promote_f32"), get(y), plain("f64.promote_f32"), call(name), plain("f32.demote_f64")];
  },
  f64: [call(name)],
});

/** The operand for which `compare` holds against the other. */
const pick =
  (compare: "lt_s" | "lt_u" | "gt_s" | "gt_u"): Rule =>
  (temp) => {
    const [a, b] = [temp("i32"), temp("i32")];
    return [set(b), tee(a), get(b), get(a), get(b), plain(`i32.${compare}`), { k: "select", type: "i32" }];
  };

/** Division by zero gives zero; `special` is what the engine would trap on. */
const guarded =
  (op: "div_s" | "div_u" | "rem_s" | "rem_u"): Rule =>
  (temp) => {
    const [a, b] = [temp("i32"), temp("i32")];
    const divide: Code = [get(a), get(b), plain(`i32.${op}`)];
    // The lowest number divided by -1 wraps to itself.
    const signed: Code = [get(b), i32(-1), plain("i32.eq"), ifElse("i32", [i32(0), get(a), plain("i32.sub")], divide)];
    return [set(b), set(a), get(b), plain("i32.eqz"), ifElse("i32", [i32(0)], op === "div_s" ? signed : divide)];
  };

const compare = <N extends "eq" | "ne" | "lt" | "le" | "gt" | "ge">(name: N): ScalarRow => {
  const sided = name !== "eq" && name !== "ne";
  const signed = (sided ? `${name}_s` : name) as "eq"; // names of instructions of one shape
  const unsigned = (sided ? `${name}_u` : name) as "eq"; // as above
  return {
    f32: [plain(`f32.${name}`)],
    f64: [plain(`f64.${name}`)],
    i32: [plain(`i32.${signed}`)],
    u32: [plain(`i32.${unsigned}`)],
    bool: [plain(`i32.${unsigned}`)],
    f32x4: [plain(`f32x4.${name}`)],
    i32x4: [plain(`i32x4.${signed}`)],
    u32x4: [plain(`i32x4.${unsigned}`)],
    // Masks are 0 and -1.
    boolx4: [plain(`i32x4.${({ lt: "gt_s", le: "ge_s", gt: "lt_s", ge: "le_s", eq: "eq", ne: "ne" } as const)[name]}`)],
  };
};

const absolute: Rule = (temp) => {
  const a = temp("i32");
  return [
    set(a),
    i32(0),
    get(a),
    plain("i32.sub"),
    get(a),
    get(a),
    i32(0),
    plain("i32.lt_s"),
    { k: "select", type: "i32" },
  ];
};
const negate: Rule = (temp) => {
  const a = temp("i32");
  return [set(a), i32(0), get(a), plain("i32.sub")];
};

const one4: Instr = splatBits(0x3f800000);

export const scalarRows = {
  neg: { ...floats("neg"), i32: negate, u32: negate, i32x4: [plain("i32x4.neg")], u32x4: [plain("i32x4.neg")] },
  abs: { ...floats("abs"), i32: absolute, u32: [], i32x4: [plain("i32x4.abs")], u32x4: [] },
  exp: { ...viaDouble("exp"), f32x4: exp4 },
  log: viaDouble("log"),
  sqrt: floats("sqrt"),
  rsqrt: {
    // 1 / sqrt(x) in double, as the executor has it.
    f32: (temp) => {
      const x = temp("f64");
      return [
        plain("f64.promote_f32"),
        plain("f64.sqrt"),
        set(x),
        f64(1),
        get(x),
        plain("f64.div"),
        plain("f32.demote_f64"),
      ];
    },
    f64: (temp) => {
      const x = temp("f64");
      return [plain("f64.sqrt"), set(x), f64(1), get(x), plain("f64.div")];
    },
    f32x4: (temp) => {
      const x = temp("v128");
      return [plain("f32x4.sqrt"), set(x), one4, get(x), plain("f32x4.div")];
    },
  },
  sin: viaDouble("sin"),
  cos: viaDouble("cos"),
  tanh: viaDouble("tanh"),
  sigmoid: { ...viaDouble("sigmoid"), f32x4: sigmoid4 },
  floor: floats("floor"),
  round: floats("nearest"),
  not: { bool: [plain("i32.eqz")], boolx4: [plain("v128.not")] },
  add: { ...floats("add"), ...integers("add") },
  sub: { ...floats("sub"), ...integers("sub") },
  mul: { ...floats("mul"), ...integers("mul") },
  div: { ...floats("div"), i32: guarded("div_s"), u32: guarded("div_u") },
  rem: { ...viaDouble2("rem"), i32: guarded("rem_s"), u32: guarded("rem_u") },
  pow: viaDouble2("pow"),
  min: {
    ...floats("min"),
    i32: pick("lt_s"),
    u32: pick("lt_u"),
    i32x4: [plain("i32x4.min_s")],
    u32x4: [plain("i32x4.min_u")],
  },
  max: {
    ...floats("max"),
    i32: pick("gt_s"),
    u32: pick("gt_u"),
    i32x4: [plain("i32x4.max_s")],
    u32x4: [plain("i32x4.max_u")],
  },
  and: { bool: [plain("i32.and")], boolx4: [plain("v128.and")] },
  or: { bool: [plain("i32.or")], boolx4: [plain("v128.or")] },
  eq: compare("eq"),
  ne: compare("ne"),
  lt: compare("lt"),
  le: compare("le"),
  gt: compare("gt"),
  ge: compare("ge"),
  /** With a condition of one lane the emitter branches; a mask is the last operand here. */
  select: { boolx4: [plain("v128.bitselect")] },
} as const satisfies Record<ScalarOp, ScalarRow>;

/** The conversions between kinds, with the rules of a store: integers truncate and saturate, NaN gives 0. */
export const castRows: Readonly<Record<string, Rule>> = {
  "f32 f64": [plain("f64.promote_f32")],
  "f64 f32": [plain("f32.demote_f64")],
  "f32 i32": [plain("i32.trunc_sat_f32_s")],
  "f32 u32": [plain("i32.trunc_sat_f32_u")],
  "f64 i32": [plain("i32.trunc_sat_f64_s")],
  "f64 u32": [plain("i32.trunc_sat_f64_u")],
  "i32 f32": [plain("f32.convert_i32_s")],
  "u32 f32": [plain("f32.convert_i32_u")],
  "i32 f64": [plain("f64.convert_i32_s")],
  "u32 f64": [plain("f64.convert_i32_u")],
  "bool f32": [plain("f32.convert_i32_u")],
  "bool f64": [plain("f64.convert_i32_u")],
  "bool i32": [],
  "bool u32": [],
  "i32 u32": (temp) => [i32(0), ...ruleCode(pick("gt_s"), temp)],
  "u32 i32": (temp) => [i32(0x7fffffff), ...ruleCode(pick("lt_u"), temp)],
  "f32 bool": [{ k: "const", type: "f32", value: 0 }, plain("f32.ne")],
  "f64 bool": [f64(0), plain("f64.ne")],
  "i32 bool": [i32(0), plain("i32.ne")],
  "u32 bool": [i32(0), plain("i32.ne")],
  "f32x4 i32x4": [plain("i32x4.trunc_sat_f32x4_s")],
  "f32x4 u32x4": [plain("i32x4.trunc_sat_f32x4_u")],
  "i32x4 f32x4": [plain("f32x4.convert_i32x4_s")],
  "u32x4 f32x4": [plain("f32x4.convert_i32x4_u")],
  "i32x4 u32x4": [splatBits(0), plain("i32x4.max_s")],
  "u32x4 i32x4": [splatBits(0x7fffffff), plain("i32x4.min_u")],
  "boolx4 i32x4": [splatBits(1), plain("v128.and")],
  "boolx4 u32x4": [splatBits(1), plain("v128.and")],
  "boolx4 f32x4": [one4, plain("v128.and")],
  "f32x4 boolx4": [splatBits(0), plain("f32x4.ne")],
  "i32x4 boolx4": [splatBits(0), plain("i32x4.ne")],
  "u32x4 boolx4": [splatBits(0), plain("i32x4.ne")],
};

export function ruleCode(rule: Rule, temp: Temp, relaxed = false): Code {
  return typeof rule === "function" ? rule(temp, relaxed) : rule;
}
