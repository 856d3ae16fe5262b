/**
 * The values that kernel expressions compute: their types, and the meaning of arithmetic and conversion on them.
 * Small storage formats never appear here: a load widens them, a store narrows them.
 */
import { invariant } from "../errors.ts";
import { evalScalar, type ScalarOp, type ScalarOpDef, scalarOps } from "../scalar.ts";
import { type DType, dtypeInfo } from "../types.ts";

/** `f64` appears only where a target's accumulator is f64 (`Target.accumulator`). */
export const valueDTypes = ["f32", "f64", "i32", "u32", "bool"] as const;
export type ArithmeticDType = (typeof valueDTypes)[number];
/**
 * For the intrinsics only, always several to a vector: bytes as they lie in memory, loaded by 4, 8 or 16, and 16-bit
 * integers, eight of them, which only intrinsics make.
 */
export type PackedDType = "i8" | "u8" | "i16";
export type VDType = ArithmeticDType | PackedDType;

/** A scalar has one lane; short vectors have 2, 4, 8 or 16. */
export interface ValueType {
  readonly dtype: VDType;
  readonly lanes: number;
}

/** What a buffer may hold: a tensor's dtype, or f64 in a kernel's own scratch. */
export type StorageDType = DType | "f64";

export function isValueDType(name: string): name is ArithmeticDType {
  return valueDTypes.some((dtype) => dtype === name);
}

export function isFloatValue(dtype: VDType): boolean {
  return dtype === "f32" || dtype === "f64";
}

export function isIntValue(dtype: VDType): boolean {
  return dtype === "i32" || dtype === "u32";
}

const scalarTypes: Record<VDType, ValueType> = {
  f32: { dtype: "f32", lanes: 1 },
  f64: { dtype: "f64", lanes: 1 },
  i32: { dtype: "i32", lanes: 1 },
  u32: { dtype: "u32", lanes: 1 },
  bool: { dtype: "bool", lanes: 1 },
  i8: { dtype: "i8", lanes: 1 },
  u8: { dtype: "u8", lanes: 1 },
  i16: { dtype: "i16", lanes: 1 },
};

export function isPackedValue(dtype: VDType): dtype is PackedDType {
  return dtype === "i8" || dtype === "u8" || dtype === "i16";
}

export function valueType(dtype: VDType, lanes = 1): ValueType {
  return lanes === 1 ? scalarTypes[dtype] : { dtype, lanes };
}

export function sameValueType(a: ValueType, b: ValueType): boolean {
  return a.dtype === b.dtype && a.lanes === b.lanes;
}

/** `f32`, or `f32x4` for four lanes. */
export function showValueType(type: ValueType): string {
  return type.lanes === 1 ? type.dtype : `${type.dtype}x${type.lanes}`;
}

/** The type that a load from storage gives: small floats widen to f32, small integers to i32. */
export function loadedDType(storage: StorageDType): ArithmeticDType {
  switch (storage) {
    case "f64":
    case "u32":
    case "bool":
      return storage;
    default:
      return dtypeInfo(storage).kind === "float" ? "f32" : "i32";
  }
}

/** Storage size of one element in bits. */
export function storageBits(storage: StorageDType): number {
  return storage === "f64" ? 64 : dtypeInfo(storage).bits;
}

/**
 * A number as a value of type `dtype`, with the rules of a tensor store: f32 rounds to nearest even, integers truncate
 * and saturate with NaN giving 0, a bool is whether the number differs from 0.
 */
export function convert(dtype: VDType, value: number): number {
  switch (dtype) {
    case "f32":
      return Math.fround(value);
    case "f64":
      return value;
    case "bool":
      return value === 0 ? 0 : 1;
    case "i32":
      return saturate(value, -2147483648, 2147483647);
    case "u32":
      return saturate(value, 0, 4294967295);
    case "i8":
      return saturate(value, -128, 127);
    case "u8":
      return saturate(value, 0, 255);
    case "i16":
      return saturate(value, -32768, 32767);
  }
}

/** Applies a scalar op to operands of `dtype` (for `select`, of its last two). f32 rounds, f64 does not, integers wrap. */
export function evalValue(op: ScalarOp, dtype: VDType, args: readonly number[]): number {
  invariant(dtype !== "i16", () => `${op}: i16 takes intrinsics only`);
  if (dtype !== "f64") return evalScalar(op, dtype, args);
  const def: ScalarOpDef = scalarOps[op];
  return def.eval(...args);
}

function saturate(value: number, low: number, high: number): number {
  // `+ 0` turns the -0 that truncation may leave into 0.
  return Number.isNaN(value) ? 0 : Math.min(Math.max(Math.trunc(value), low), high) + 0;
}

/** The type a scalar op gives on operands of these types; throws InternalError where they do not fit. */
export function opType(name: ScalarOp, types: readonly ValueType[]): ValueType {
  const problem = opTypeProblem(name, types);
  invariant(problem === undefined, () => `${problem}, got ${name}(${types.map(showValueType).join(", ")})`);
  const last = types.at(-1)!;
  return scalarOps[name].result === "bool" ? valueType("bool", last.lanes) : last;
}

/** What is wrong with an op's operand types: all of one type, of a class the op takes; `select` begins with a bool. */
export function opTypeProblem(name: ScalarOp, types: readonly ValueType[]): string | undefined {
  const def: ScalarOpDef = scalarOps[name];
  const [first, last] = [types[0], types.at(-1)];
  if (types.length !== def.arity || first === undefined || last === undefined) {
    return `${name}: expected ${def.arity} operands`;
  }
  if (name === "select") {
    if (first.dtype !== "bool" || (first.lanes !== 1 && first.lanes !== last.lanes)) {
      return `${name}: expected a bool condition of one lane or ${last.lanes}`;
    }
  }
  if (types.some((type) => isPackedValue(type.dtype))) return `${name}: bytes take intrinsics only`;
  const same = name === "select" ? types.slice(1) : types;
  if (!same.every((type) => sameValueType(type, last))) return `${name}: expected operands of one type`;
  const fits =
    def.operands === "any" ||
    (def.operands === "bool" && last.dtype === "bool") ||
    (def.operands === "float" && isFloatValue(last.dtype)) ||
    (def.operands === "number" && last.dtype !== "bool");
  return fits ? undefined : `${name}: expected ${def.operands} operands`;
}

/** Indices and loop variables are i32 scalars. */
export function isIndex(type: ValueType): boolean {
  return type.dtype === "i32" && type.lanes === 1;
}
