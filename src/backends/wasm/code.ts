/** Building blocks of instruction lists: an expression is the list that leaves its value on the stack. */
import {
  f32,
  f64,
  get,
  type Instr,
  i32,
  i64,
  ifElse,
  other,
  type PlainOp,
  plain,
  set,
  type Typed,
  type WasmFunc,
  type WasmType,
} from "./instr.ts";

export type Code = readonly Instr[];

/** Makes a local to hold a value between instructions. */
export type Temp = (type: WasmType) => string;

/** An instruction applied to the values of `args`. */
export function apply(op: PlainOp, ...args: readonly Code[]): Code {
  return [...args.flat(), plain(op)];
}

export const local = (name: string): Code => [get(name)];
export const assign = (name: string, value: Code): Code => [...value, set(name)];
export const int = (value: number): Code => [i32(value)];
export const single = (value: number): Code => [f32(value)];
export const double = (value: number): Code => [f64(value)];
export const long = (value: bigint): Code => [i64(value)];
export const choose = (type: WasmType, condition: Code, yes: Code, no: Code): Code => [
  ...yes,
  ...no,
  ...condition,
  { k: "select", type },
];
/** Leaves the function with a value where the condition holds. */
export const returnIf = (condition: Code, value: Code): Code => [
  ...condition,
  ifElse(null, [...value, other("return")]),
];

/** c[0] + x (c[1] + x (c[2] + ...)). */
export function polynomial(
  x: Code,
  coefficients: readonly number[],
  constant: (value: number) => Code = double,
  add: PlainOp = "f64.add",
  mul: PlainOp = "f64.mul",
): Code {
  return coefficients
    .slice(0, -1)
    .reduceRight<Code>((sum, c) => apply(add, constant(c), apply(mul, sum, x)), constant(coefficients.at(-1)!));
}

/** A function of parameters and locals written as `name: type`. */
export function func(
  name: string,
  params: Readonly<Record<string, WasmType>>,
  result: WasmType,
  locals: Readonly<Record<string, WasmType>>,
  ...body: readonly Code[]
): WasmFunc {
  const typed = (record: Readonly<Record<string, WasmType>>): Typed[] =>
    Object.entries(record).map(([each, type]) => ({ name: each, type }));
  return { name, params: typed(params), results: [result], locals: typed(locals), body: body.flat() };
}
