/** Arithmetic on an engine's f32 values in the notation of functions, for rows that say more than one primitive. */
import type { ScalarOp } from "../../ir/scalar.ts";
import { type DType, type Shape, sameShape } from "../../ir/types.ts";
import type { TensorEngine } from "./engine.ts";

export function floatMath<T>(engine: TensorEngine<T>) {
  const f32 = (value: T | number): T => (typeof value === "number" ? engine.fill("f32", value) : value);
  const binary = (op: ScalarOp) => (a: T | number, b: T | number) => engine.apply(op, "f32", [f32(a), f32(b)]);
  const unary = (op: ScalarOp) => (x: T) => engine.apply(op, "f32", [x]);
  return {
    add: binary("add"),
    sub: binary("sub"),
    mul: binary("mul"),
    div: binary("div"),
    min: binary("min"),
    max: binary("max"),
    eq: binary("eq"),
    ne: binary("ne"),
    lt: binary("lt"),
    abs: unary("abs"),
    neg: unary("neg"),
    floor: unary("floor"),
    round: unary("round"),
    select: (condition: T, a: T | number, b: T | number) => engine.apply("select", "f32", [condition, f32(a), f32(b)]),
  };
}

/** A value of any float or integer dtype in f32. */
export function asFloat<T>(engine: TensorEngine<T>, x: T, dtype: DType): T {
  return dtype === "f32" ? x : engine.cast(x, dtype, "f32");
}

/**
 * x [.., d] as [.., groups, group], where the last group of a row may be cut: what it lacks is `padding`.
 */
export function splitLast<T>(engine: TensorEngine<T>, x: T, shape: Shape, group: number, padding: number): T {
  const length = shape.at(-1)!;
  const groups = Math.ceil(length / group);
  const lead = shape.slice(0, -1);
  const missing = groups * group - length;
  const pad = () => engine.broadcastTo(engine.fill("f32", padding), [...lead, missing]);
  const full = missing === 0 ? x : engine.concat([x, pad()], lead.length);
  return engine.reshape(full, [...lead, groups, group]);
}

/** One value per group of elements, x [.., ceil(d / group)], for each of d elements. */
export function spreadLast<T>(engine: TensorEngine<T>, x: T, shape: Shape, group: number): T {
  const groups = Math.ceil(shape.at(-1)! / group);
  const lead = shape.slice(0, -1);
  const each = engine.broadcastTo(engine.reshape(x, [...lead, groups, 1]), [...lead, groups, group]);
  const padded = [...lead, groups * group];
  const flat = engine.reshape(each, padded);
  return sameShape(padded, shape)
    ? flat
    : engine.slice(
        flat,
        shape.map(() => 0),
        shape,
      );
}
