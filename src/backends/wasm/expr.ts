/** Kernel expressions as instruction lists that leave the value, or one 128-bit part of a vector, on the stack. */
import { InternalError, UnsupportedError } from "../../ir/errors.ts";
import { bitsFromF32 } from "../../ir/half.ts";
import { divisorOf } from "../../ir/kernel/divisor.ts";
import type { IntrinsicName } from "../../ir/kernel/intrinsics.ts";
import type { Cast, Expr, Intrinsic, Load, Num, Op, Sum } from "../../ir/kernel/kernel.ts";
import { assume, rangeOf } from "../../ir/kernel/range.ts";
import { isPackedValue, type ValueType, valueType } from "../../ir/kernel/value.ts";
import { addressOf, farther, nibbleAddress } from "./address.ts";
import { apply, type Code, double, int, local, single } from "./code.ts";
import { bufOf, type Frame, kindOf, partsOf, wasmTypeOf } from "./frame.ts";
import { type Instr, ifElse, laneOf, type MemoryOp, memory, plain, set, splatBits } from "./instr.ts";
import { intrinsicRows } from "./rules.ts";
import { castRows, type Kind, ruleCode, type ScalarRow, scalarRows } from "./scalar.ts";
import { loadCode, loadFiniteF16, loadNibble, loadNibbles, loadShrunkF16, loadVector } from "./storage.ts";

/** A scalar's value. */
export function emitScalar(frame: Frame, expr: Expr): Code {
  return emitPart(frame, expr, 0);
}

/** Part `part` of a vector (four lanes of 32 bits), or a scalar where there is one lane. */
export function emitPart(frame: Frame, expr: Expr, part: number): Code {
  checkType(expr.type);
  switch (expr.k) {
    case "num":
      return emitNum(expr);
    case "ref":
      return local(frame.names.get(expr.name)![part]!); // verified: K1
    case "load":
      return emitLoad(frame, expr, part);
    case "op":
      return emitOp(frame, expr, part);
    case "cast":
      return emitCast(frame, expr, part);
    case "splat":
      return emitSplat(frame, expr.value);
    case "extract":
      return [...emitPart(frame, expr.value, expr.lane >> 2), ...takeLane(kindOf(expr.value.type), expr.lane & 3)];
    case "sum":
      return emitSum(frame, expr);
    case "intrinsic":
      return emitIntrinsic(frame, expr, part);
  }
}

function checkType({ dtype, lanes }: ValueType): void {
  if (isPackedValue(dtype) ? lanes >= 4 : lanes === 1 || (dtype !== "f64" && lanes % 4 === 0)) return;
  throw new UnsupportedError("kernel", `the WebAssembly backend has no vectors of ${lanes} x ${dtype}`, {
    hint: "It has those of 4, 8 and 16 lanes of 32 bits.",
  });
}

function emitNum({ value, type }: Num): Code {
  if (type.dtype === "f32") return single(value);
  return type.dtype === "f64" ? double(value) : int(value);
}

function emitSplat(frame: Frame, value: Expr): Code {
  const { dtype } = value.type;
  if (value.k === "num") {
    const bits = dtype === "f32" ? bitsFromF32(value.value) : dtype === "bool" ? -value.value : value.value;
    return [splatBits(bits | 0)];
  }
  if (value.k === "load" && ["f32", "i32", "u32"].includes(bufOf(frame, value.buf).dtype)) {
    const { code, offset } = addressOf(frame, value.buf, value.index);
    return [...code, memory("v128.load32_splat", offset)];
  }
  const code = emitScalar(frame, value);
  if (dtype === "bool") return apply("i32x4.splat", apply("i32.sub", int(0), code));
  return apply(dtype === "f32" ? "f32x4.splat" : "i32x4.splat", code);
}

/** What follows a part to take one lane. */
function takeLane(kind: Kind, lane: number): Code {
  if (kind === "f32x4") return [laneOf("f32x4.extract_lane", lane)];
  const taken = laneOf("i32x4.extract_lane", lane);
  return kind === "boolx4" ? [taken, { k: "const", type: "i32", value: 1 }, plain("i32.and")] : [taken];
}

/** What follows a part and a scalar to put the scalar into a lane. */
function putLane(kind: Kind, lane: number): Code {
  if (kind === "f32x4") return [laneOf("f32x4.replace_lane", lane)];
  const put = laneOf("i32x4.replace_lane", lane);
  return kind === "boolx4" ? [{ k: "const", type: "i32", value: -1 }, plain("i32.mul"), put] : [put];
}

/** Four scalars as one part. */
function gather(kind: Kind, lanes: readonly Code[]): Code {
  return [splatBits(0), ...lanes.flatMap((scalar, lane) => [...scalar, ...putLane(kind, lane)])];
}

function emitIntrinsic(frame: Frame, { name, type, args }: Intrinsic, part: number): Code {
  if (type.lanes === 1) throw new UnsupportedError("kernel", `${name} of one lane in WebAssembly`);
  const [bytes] = args;
  const direct = bytes?.k === "load" ? emitLoadFor(frame, name, bytes, part) : undefined;
  if (direct !== undefined) return direct;
  const { rules, locals } = frame;
  const types = args.map((arg) => arg.type);
  const row = intrinsicRows[name];
  if (row === undefined) throw new InternalError(`intrinsic ${name}`, "WebAssembly has none: only kernels for GPUs do");
  return row(rules, locals.temp, types, ...args.map((arg) => emitPart(frame, arg, part)));
}

/** An intrinsic on what is loaded, where one instruction does both. */
function emitLoadFor(frame: Frame, name: IntrinsicName, { buf, index, type }: Load, part: number): Code | undefined {
  const from = (): { code: Code; offset: number } => addressOf(frame, buf, index);
  if (name === "repeat4") {
    const { code, offset } = from();
    return [...code, memory("v128.load32_splat", offset)];
  }
  if (name === "widen8") {
    const { code, offset } = from();
    return [...code, memory(type.dtype === "i8" ? "v128.load8x8_s" : "v128.load8x8_u", offset)];
  }
  if ((name === "finite" || name === "shrunk") && bufOf(frame, buf).dtype === "f16") {
    const { code, offset } = from();
    return [...code, ...(name === "finite" ? loadFiniteF16 : loadShrunkF16)(offset + 8 * part)];
  }
  return undefined;
}

/** Bytes as they are, from the lowest lane; the rest is zero. */
const byteLoads: Readonly<Record<number, MemoryOp>> = { 4: "v128.load32_zero", 8: "v128.load64_zero", 16: "v128.load" };

function emitLoad(frame: Frame, expr: Load, part: number): Code {
  if (isPackedValue(expr.type.dtype)) {
    const { code, offset } = addressOf(frame, expr.buf, expr.index);
    return [...code, memory(byteLoads[expr.type.lanes]!, offset)];
  }
  const { dtype } = bufOf(frame, expr.buf);
  const { temp } = frame.locals;
  if (dtype === "i4" || dtype === "u4") {
    const at = (index: Expr) => [
      ...nibbleAddress(frame, expr.buf, index),
      ...emitScalar(frame, index),
      ...loadNibble(dtype, temp),
    ];
    if (expr.type.lanes === 1) return at(expr.index);
    // Four that begin in the low half of a byte are two bytes.
    if (divisorOf(expr.index, frame.facts) % 2 === 0)
      return [...nibbleAddress(frame, expr.buf, expr.index), ...loadNibbles(dtype, 2 * part)];
    const index = frame.locals.make(`${expr.buf}.index`, "i32");
    const lane = (i: number): Code => [
      ...farther(
        frame,
        local(expr.buf),
        apply("i32.shr_u", apply("i32.add", local(index), int(4 * part + i)), int(1)),
        false,
      ),
      ...apply("i32.add", local(index), int(4 * part + i)),
      ...loadNibble(dtype, temp),
    ];
    return [...emitScalar(frame, expr.index), set(index), ...gather("i32x4", [0, 1, 2, 3].map(lane))];
  }
  const { code, offset } = addressOf(frame, expr.buf, expr.index);
  if (expr.type.lanes === 1) return [...code, ...loadCode(dtype, offset, temp)];
  const size = dtype === "f64" ? 8 : elementBytes(dtype);
  const vector = loadVector(dtype, offset + 4 * part * size, temp);
  if (vector !== undefined) return [...code, ...vector];
  const at = frame.locals.make(`${expr.buf}.lanes`, frame.address.type);
  const lane = (i: number): Code => [...local(at), ...loadCode(dtype, offset + (4 * part + i) * size, temp)];
  return [...code, set(at), ...gather(kindOf(expr.type), [0, 1, 2, 3].map(lane))];
}

export function elementBytes(dtype: Exclude<Parameters<typeof loadCode>[0], "f64">): number {
  const sizes = { f32: 4, i32: 4, u32: 4, f16: 2, bf16: 2, f8e4m3: 1, f8e8m0: 1, i8: 1, u8: 1, bool: 1 };
  return sizes[dtype];
}

function emitOp(frame: Frame, expr: Op, part: number): Code {
  const [first] = expr.args;
  if (expr.op === "select" && first!.type.lanes === 1) {
    const branch = (i: 1 | 2) =>
      emitPart({ ...frame, facts: assume(first!, i === 1, frame.facts) }, expr.args[i]!, part);
    return [...emitScalar(frame, first!), ifElse(wasmTypeOf(expr.type), branch(1), branch(2))];
  }
  if (expr.op === "select") {
    return [1, 2, 0].flatMap((i) => emitPart(frame, expr.args[i]!, part)).concat(plain("v128.bitselect"));
  }
  const kind = kindOf(first!.type);
  const row: ScalarRow = scalarRows[expr.op];
  const args = expr.args.map((arg) => emitPart(frame, arg, part));
  const bounded = clamp(frame, expr, args);
  if (bounded !== undefined) return bounded;
  const divided = simpleDivision(frame, expr);
  if (divided !== undefined) return [...args.flat(), ...divided];
  const rule = row[kind];
  if (rule !== undefined) {
    return [...args.flat(), ...ruleCode(rule, frame.locals.temp, frame.rules.tier === "relaxed")];
  }
  // Lane by lane.
  const scalarKind = kind.slice(0, -2) as Kind; // "f32x4" without its lanes
  const scalarRule = row[scalarKind];
  if (scalarRule === undefined) throw new UnsupportedError("kernel", `${expr.op} of ${kind} in WebAssembly`);
  const parts = args.map(() => frame.locals.temp("v128"));
  const lane = (i: number): Code => [
    ...parts.flatMap((name) => [...local(name), ...takeLane(kind, i)]),
    ...ruleCode(scalarRule, frame.locals.temp),
  ];
  return [
    ...args.flatMap((arg, i): Instr[] => [...arg, set(parts[i]!)]),
    ...gather(kindOf(expr.type), [0, 1, 2, 3].map(lane)),
  ];
}

/**
 * min and max of f32 lanes and a number. pmin and pmax give the first operand where neither is less, so NaN of `x` stays;
 * from min and max they differ by which zero they give, and where the second operand is NaN.
 */
function clamp(frame: Frame, { op, args }: Op, codes: readonly Code[]): Code | undefined {
  if ((op !== "min" && op !== "max") || kindOf(args[0]!.type) !== "f32x4") return undefined;
  const bound = args.findIndex((arg) => {
    const value = splatNumber(frame, arg);
    return value !== undefined && value !== 0 && !Number.isNaN(value);
  });
  return bound === -1 ? undefined : apply(`f32x4.p${op}`, codes[1 - bound]!, codes[bound]!);
}

/** Whether every lane is NaN or, by a min and a max of constants, a number that i32 has. */
function isClamped(frame: Frame, expr: Expr): boolean {
  const bounds = (outer: Expr, name: "min" | "max"): readonly [Expr, number] | undefined => {
    if (outer.k !== "op" || outer.op !== name) return undefined;
    const numbers = outer.args.map((arg) => splatNumber(frame, arg));
    const at = numbers.findIndex((value) => value !== undefined && Math.abs(value) < 2 ** 31);
    return at === -1 ? undefined : [outer.args[1 - at]!, numbers[at]!];
  };
  const [first, second] = expr.k === "op" && expr.op === "min" ? (["min", "max"] as const) : (["max", "min"] as const);
  const inner = bounds(expr, first)?.[0];
  return inner !== undefined && bounds(inner, second) !== undefined;
}

/** The number that all lanes are, where it is a constant. */
function splatNumber({ facts }: Frame, expr: Expr): number | undefined {
  const known = expr.k === "ref" ? facts.names.get(expr.name)?.def : expr;
  return known?.k === "splat" && known.value.k === "num" ? known.value.value : undefined;
}

/** An integer division whose divisor is never 0 and that does not overflow needs no guard. */
function simpleDivision(frame: Frame, expr: Op): Code | undefined {
  const { dtype, lanes } = expr.type;
  if (lanes !== 1 || (expr.op !== "div" && expr.op !== "rem") || (dtype !== "i32" && dtype !== "u32")) return undefined;
  const [a, b] = expr.args.map((arg) => rangeOf(arg, frame.facts));
  if (b!.lo <= 0 && (b!.hi >= 0 || b!.hi >= -1)) return undefined;
  const natural = dtype === "u32" || (a!.lo >= 0 && b!.lo > 0);
  return [plain(`i32.${expr.op}_${natural ? "u" : "s"}`)];
}

function emitCast(frame: Frame, expr: Cast, part: number): Code {
  const [from, to] = [kindOf(expr.value.type), kindOf(expr.type)];
  const rule = castRows[`${from} ${to}`];
  if (to === "i32x4" && frame.rules.tier === "relaxed" && isClamped(frame, expr.value)) {
    // NaN becomes 0 first, since truncation is only defined for numbers that fit.
    const x = frame.locals.temp("v128");
    const ordered = apply("v128.and", local(x), apply("f32x4.eq", local(x), local(x)));
    return [...emitPart(frame, expr.value, part), set(x), ...apply("i32x4.relaxed_trunc_f32x4_s", ordered)];
  }
  if (rule === undefined) throw new UnsupportedError("kernel", `a cast from ${from} to ${to} in WebAssembly`);
  return [...emitPart(frame, expr.value, part), ...ruleCode(rule, frame.locals.temp)];
}

/** Halves are added until one lane is left: whole parts first, then the upper two lanes to the lower, then the last. */
function emitSum(frame: Frame, { value, type }: Sum): Code {
  const four = valueType(type.dtype, 4);
  const row: ScalarRow = scalarRows.add;
  const add = row[kindOf(four)];
  const addOne = row[kindOf(type)];
  if (add === undefined || addOne === undefined)
    throw new UnsupportedError("kernel", `a sum of ${type.dtype} lanes in WebAssembly`);
  let parts = Array.from({ length: partsOf(value.type) }, (_, i) => emitPart(frame, value, i));
  while (parts.length > 1) {
    const half = parts.length / 2;
    const whole = parts;
    parts = whole.slice(0, half).map((part, i) => [...part, ...whole[i + half]!, ...ruleCode(add, frame.locals.temp)]);
  }
  const total = frame.locals.temp("v128");
  const upper: Instr = { k: "shuffle", lanes: [8, 9, 10, 11, 12, 13, 14, 15, 8, 9, 10, 11, 12, 13, 14, 15] };
  return [
    ...parts[0]!,
    set(total),
    ...local(total),
    ...local(total),
    ...local(total),
    upper,
    ...ruleCode(add, frame.locals.temp),
    set(total),
    ...local(total),
    ...takeLane(kindOf(four), 0),
    ...local(total),
    ...takeLane(kindOf(four), 1),
    ...ruleCode(addOne, frame.locals.temp),
  ];
}
