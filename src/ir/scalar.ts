/**
 * The scalar operations: the whole vocabulary of elementwise tensor ops and of code generators. One row gives arity,
 * types, meaning and accuracy; each backend has a table with one row per scalar op that fails to compile when one is
 * missing.
 */
import { type DType, dtypeInfo } from "./types.ts";

/** What operand types an op takes: floats only, any number, booleans only, or anything. */
export type OperandClass = "float" | "number" | "bool" | "any";

export interface ScalarOpDef {
  readonly arity: number;
  readonly operands: OperandClass;
  /** `same`: the operands' common dtype. `bool`: a truth value. */
  readonly result: "same" | "bool";
  readonly commutative?: boolean;
  /** Meaning on doubles; the result is then rounded to the dtype (`roundTo`). */
  readonly eval: (...args: number[]) => number;
  /** Meaning on 32-bit integers where it is not `eval` followed by wrapping. */
  readonly evalInt?: (...args: number[]) => number;
  /** Largest error of a device's f32 result, in units in the last place of the exact one; 0 is correctly rounded. */
  readonly ulp: number;
}

const compare = (holds: (a: number, b: number) => boolean) =>
  ({
    arity: 2,
    operands: "any",
    result: "bool",
    ulp: 0,
    eval: (a, b) => Number(holds(a!, b!)),
  }) as const satisfies ScalarOpDef;

/**
 * Accuracies are those WGSL guarantees (WGSL specification, "Accuracy of expressions"), the loosest of the targets;
 * exp's 3 + 2|x| is taken at |x| = 30.
 */
export const scalarOps = {
  neg: { arity: 1, operands: "number", result: "same", ulp: 0, eval: (x) => -x! },
  abs: { arity: 1, operands: "number", result: "same", ulp: 0, eval: (x) => Math.abs(x!) },
  exp: { arity: 1, operands: "float", result: "same", ulp: 64, eval: (x) => Math.exp(x!) },
  log: { arity: 1, operands: "float", result: "same", ulp: 16, eval: (x) => Math.log(x!) },
  sqrt: { arity: 1, operands: "float", result: "same", ulp: 3, eval: (x) => Math.sqrt(x!) },
  rsqrt: { arity: 1, operands: "float", result: "same", ulp: 2, eval: (x) => 1 / Math.sqrt(x!) },
  sin: { arity: 1, operands: "float", result: "same", ulp: 4096, eval: (x) => Math.sin(x!) },
  cos: { arity: 1, operands: "float", result: "same", ulp: 4096, eval: (x) => Math.cos(x!) },
  tanh: { arity: 1, operands: "float", result: "same", ulp: 64, eval: (x) => Math.tanh(x!) },
  sigmoid: { arity: 1, operands: "float", result: "same", ulp: 64, eval: (x) => 1 / (1 + Math.exp(-x!)) },
  floor: { arity: 1, operands: "float", result: "same", ulp: 0, eval: (x) => Math.floor(x!) },
  /** To the nearest integer, ties to even, as WebAssembly's `nearest` and WGSL's `round`. */
  round: { arity: 1, operands: "float", result: "same", ulp: 0, eval: (x) => nearestEven(x!) },
  not: { arity: 1, operands: "bool", result: "same", ulp: 0, eval: (x) => 1 - x! },
  add: { arity: 2, operands: "number", result: "same", commutative: true, ulp: 0, eval: (a, b) => a! + b! },
  sub: { arity: 2, operands: "number", result: "same", ulp: 0, eval: (a, b) => a! - b! },
  mul: {
    arity: 2,
    operands: "number",
    result: "same",
    commutative: true,
    ulp: 0,
    eval: (a, b) => a! * b!,
    evalInt: (a, b) => Math.imul(a!, b!),
  },
  /** Integers: towards zero; by zero gives zero. */
  div: {
    arity: 2,
    operands: "number",
    result: "same",
    ulp: 3,
    eval: (a, b) => a! / b!,
    evalInt: (a, b) => (b === 0 ? 0 : Math.trunc(a! / b!)),
  },
  /** Integers: the sign of the dividend; by zero gives zero. */
  rem: {
    arity: 2,
    operands: "number",
    result: "same",
    ulp: 3,
    eval: (a, b) => a! % b!,
    evalInt: (a, b) => (b === 0 ? 0 : a! % b! || 0),
  },
  pow: { arity: 2, operands: "float", result: "same", ulp: 256, eval: (a, b) => a! ** b! },
  /** NaN if either operand is NaN. */
  min: { arity: 2, operands: "number", result: "same", commutative: true, ulp: 0, eval: (a, b) => Math.min(a!, b!) },
  max: { arity: 2, operands: "number", result: "same", commutative: true, ulp: 0, eval: (a, b) => Math.max(a!, b!) },
  and: { arity: 2, operands: "bool", result: "same", commutative: true, ulp: 0, eval: (a, b) => a! & b! },
  or: { arity: 2, operands: "bool", result: "same", commutative: true, ulp: 0, eval: (a, b) => a! | b! },
  eq: { ...compare((a, b) => a === b), commutative: true },
  ne: { ...compare((a, b) => a !== b), commutative: true },
  lt: compare((a, b) => a < b),
  le: compare((a, b) => a <= b),
  gt: compare((a, b) => a > b),
  ge: compare((a, b) => a >= b),
  /** `select(condition, a, b)`: a where the condition holds. The first operand is a bool, the others share a dtype. */
  select: { arity: 3, operands: "any", result: "same", ulp: 0, eval: (c, a, b) => (c ? a! : b!) },
} as const satisfies Record<string, ScalarOpDef>;

export type ScalarOp = keyof typeof scalarOps;

export function scalarOp(name: ScalarOp): ScalarOpDef {
  return scalarOps[name];
}

export function isScalarOp(name: string): name is ScalarOp {
  return Object.hasOwn(scalarOps, name);
}

/** Applies `op` to operands of type `dtype` (for `select`, of its last two operands) and rounds to the result's dtype. */
export function evalScalar(op: ScalarOp, dtype: DType, args: readonly number[]): number {
  const def: ScalarOpDef = scalarOps[op];
  if (def.result === "bool") return def.eval(...args);
  const integer = dtypeInfo(dtype).kind === "int";
  return roundTo(dtype, integer && def.evalInt !== undefined ? def.evalInt(...args) : def.eval(...args));
}

/**
 * The value that arithmetic in `dtype` keeps of an exact result: f32 rounds, 32-bit integers wrap. Smaller formats are
 * storage only: arithmetic on them is done in f32 or i32.
 */
export function roundTo(dtype: DType, value: number): number {
  switch (dtypeInfo(dtype).kind) {
    case "float":
      return Math.fround(value);
    case "int":
      return dtype === "u32" ? value >>> 0 : value | 0;
    case "bool":
      return value === 0 ? 0 : 1;
  }
}

export function nearestEven(x: number): number {
  if (!(x > -2251799813685248 && x < 2251799813685248)) return roundLarge(x);
  // Doubles between 2^52 and 2^53 are whole, so adding 1.5 * 2^52 rounds as addition does: to nearest, ties to even.
  const rounded = x + 6755399441055744 - 6755399441055744;
  if (rounded !== 0) return rounded;
  return x < 0 ? -0 : x === 0 ? x : 0;
}

/** For magnitudes of 2^51 and more, which have no more than one bit after the point; infinities and NaN stay. */
function roundLarge(x: number): number {
  const rounded = Math.round(x);
  return rounded - x === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded;
}
