/** Kernel expressions as WGSL text. */
import { InternalError, UnsupportedError } from "../../ir/errors.ts";
import type { Cast, Expr, Intrinsic, Num, Op } from "../../ir/kernel/kernel.ts";
import { assume, type Facts, rangeOf } from "../../ir/kernel/range.ts";
import { isFloatValue, isIntValue, isPackedValue, loadedDType, type ValueType } from "../../ir/kernel/value.ts";
import { elementsText, fourHalves, fourShort, halfText, halvesText, intrinsicRows, wordsText } from "./bytes.ts";
import type { LibraryName } from "./library.ts";
import { atom, binary, binds, type Emit, grouped, integerRows, type Row, scalarRows, type Text } from "./scalar.ts";
import { isPacked, wgslType } from "./storage.ts";
import { type Vectors, vectorText } from "./vectors.ts";

/** What an emitted kernel needs besides its body. */
export interface Needs {
  readonly library: Set<LibraryName>;
  /** Packed buffers with a function that loads, that stores. */
  readonly loads: Set<string>;
  readonly stores: Set<string>;
  /** Those with words that are put together of elements. */
  readonly words: Set<string>;
}

export interface Context {
  /** Buffers declared as vectors: how many words each element has. */
  readonly wide: ReadonlyMap<string, number>;
  readonly vectors: Vectors;
  readonly names: ReadonlyMap<string, string>;
  /** Buffers with atomic words. */
  readonly atomic: ReadonlySet<string>;
  readonly needs: Needs;
}

export function emitExpr(expr: Expr, facts: Facts, context: Context): Text {
  switch (expr.k) {
    case "num":
      return emitNum(expr, context);
    case "ref":
      return atom(nameOf(context, expr.name));
    case "load":
      return emitLoad(expr, facts, context);
    case "cast":
      return emitCast(expr, facts, context);
    case "op":
      return emitOp(expr, facts, context);
    case "splat":
      return atom(`${typeText(expr.type)}(${emitExpr(expr.value, facts, context).text})`);
    case "extract":
      return atom(`${grouped(emitExpr(expr.value, facts, context), binds.atom)}.${"xyzw"[expr.lane]}`);
    case "sum": {
      const { lanes } = expr.value.type;
      const value = emitExpr(expr.value, facts, context).text;
      return atom(`dot(${value}, ${typeText({ dtype: expr.type.dtype, lanes })}(1))`);
    }
    case "intrinsic":
      return emitIntrinsic(expr, facts, context);
  }
}

export function nameOf({ names }: Context, name: string): string {
  const found = names.get(name);
  if (found === undefined) throw new InternalError("kernel", `${name} has no WGSL name`);
  return found;
}

export function typeText({ dtype, lanes }: ValueType): string {
  // Bytes stay in the words in which they lie.
  if (dtype !== "i16" && isPackedValue(dtype)) return typeText({ dtype: "u32", lanes: lanes / 4 });
  if (isPackedValue(dtype)) throw unsupported("vectors of 16-bit integers");
  if (lanes > 4) throw unsupported(`vectors of ${lanes} lanes`);
  const scalar = wgslType(dtype);
  return lanes === 1 ? scalar : `vec${lanes}<${scalar}>`;
}

function unsupported(what: string): UnsupportedError {
  return new UnsupportedError("kernel", `the WebGPU backend has no ${what.replace(/^the /, "")}`);
}

function emitNum({ value, type }: Num, { needs }: Context): Text {
  const negative = value < 0 || Object.is(value, -0);
  const signed = (text: string): Text => ({ text, binds: negative ? binds.unary : binds.atom });
  switch (type.dtype) {
    case "bool":
      return atom(value === 0 ? "false" : "true");
    case "i32":
      return signed(`${value}`);
    case "u32":
      return atom(`${value}u`);
    default: {
      if (Number.isNaN(value)) {
        needs.library.add("nan");
        return atom("nan()");
      }
      if (!Number.isFinite(value)) {
        needs.library.add("infinity");
        return signed(`${value < 0 ? "-" : ""}infinity()`);
      }
      const text = Object.is(value, -0) ? "-0" : `${value}`;
      return signed(/^-?\d+$/.test(text) ? `${text}.0` : text);
    }
  }
}

function emitLoad(expr: Extract<Expr, { k: "load" }>, facts: Facts, context: Context): Text {
  const buf = facts.bufs.get(expr.buf);
  if (buf === undefined) throw new InternalError("kernel", `has no buffer ${expr.buf}`);
  const name = nameOf(context, expr.buf);
  const index = emitExpr(expr.index, facts, context);
  const vector = context.vectors.get(expr.buf);
  if (vector !== undefined) return atom(vectorText(name, index, vector, expr.type.lanes));
  if (isPackedValue(expr.type.dtype)) return wordsText(expr, buf, { ...context, name, index, facts });
  const elements = elementsText(expr, buf, { ...context, name, index, facts });
  if (elements !== undefined) {
    if (buf.dtype === "bf16") context.needs.library.add(fourShort);
    return elements;
  }
  const packed = isPacked(buf.dtype) && buf.space === "global";
  if (packed) context.needs.loads.add(expr.buf);
  const element = (at: string) => (packed ? `load_${name}(${at})` : `${name}[${at}]`);
  if (expr.type.lanes === 1) return atom(element(index.text));
  const lanes = Array.from({ length: expr.type.lanes }, (_, i) =>
    element(i === 0 ? index.text : `${grouped(index, binds.sum)} + ${i}`),
  );
  return atom(`${typeText({ dtype: loadedDType(buf.dtype), lanes: expr.type.lanes })}(${lanes.join(", ")})`);
}

function emitIntrinsic(expr: Intrinsic, facts: Facts, context: Context): Text {
  const [value] = expr.args;
  if (expr.name === "finite" && value?.k === "load") {
    const buf = facts.bufs.get(value.buf);
    const index = emitExpr(value.index, facts, context);
    const place = { ...context, name: nameOf(context, value.buf), index, facts };
    const half = buf && halfText(value, buf, place, context.atomic.has(buf.name));
    if (half !== undefined) return half;
    const halves = buf === undefined ? undefined : halvesText(value, buf, place);
    if (halves !== undefined) {
      context.needs.library.add(fourHalves);
      return halves;
    }
  }
  const row = intrinsicRows[expr.name];
  if (row === undefined) throw unsupported(`the intrinsic ${expr.name}`);
  if (row.uses !== undefined) context.needs.library.add(row.uses);
  return row.emit(...expr.args.map((arg) => emitExpr(arg, facts, context)));
}

/** Whether a float is clamped between numbers that integers have. */
function isSmall(value: Expr): boolean {
  const isNumber = (bound: Expr | undefined) => bound?.k === "num" && Math.abs(bound.value) < 2 ** 24;
  if (value.k !== "op" || value.op !== "min" || !isNumber(value.args[1])) return false;
  const [below] = value.args;
  return below?.k === "op" && below.op === "max" && isNumber(below.args[1]);
}

function emitOp(expr: Op, facts: Facts, context: Context): Text {
  if (expr.op === "select") {
    const [condition, a, b] = expr.args;
    return scalarRows.select.emit(
      emitExpr(condition!, facts, context),
      emitExpr(a!, assume(condition!, true, facts), context),
      emitExpr(b!, assume(condition!, false, facts), context),
    );
  }
  const { dtype } = expr.args[0]!.type;
  const plain = expr.args.map((arg) => emitExpr(arg, facts, context));
  // WGSL orders no bools.
  const ordered = dtype === "bool" && orders.has(expr.op);
  const args = ordered ? plain.map(({ text }) => atom(`u32(${text})`)) : plain;
  if (isFloatValue(dtype) && sameOperands(expr)) {
    context.needs.library.add("is_nan");
    return { text: `${expr.op === "eq" ? "!" : ""}is_nan(${args[0]!.text})`, binds: binds.unary };
  }
  const row: Row = isIntValue(dtype) ? integerRow(expr, facts) : scalarRows[expr.op];
  if (row.uses !== undefined) {
    if (expr.type.lanes > 1) throw unsupported(`${expr.op} of vectors`);
    context.needs.library.add(row.uses);
  }
  return row.emit(...args);
}

const orders: ReadonlySet<string> = new Set(["lt", "le", "gt", "ge"]);

/** `x == x` and `x != x`, which ask whether x is NaN. */
function sameOperands({ op, args: [a, b] }: Op): boolean {
  return (op === "eq" || op === "ne") && a!.k === "ref" && b!.k === "ref" && a!.name === b!.name;
}

function integerRow(expr: Op, facts: Facts): Row {
  const { dtype } = expr.args[0]!.type;
  if (expr.op === "div" || expr.op === "rem") {
    const [a, b] = expr.args.map((arg) => rangeOf(arg, facts));
    const bits = b!.lo === b!.hi && b!.lo > 0 ? Math.log2(b!.lo) : Number.NaN;
    if (Number.isInteger(bits) && a!.lo >= 0) return { emit: byShift(expr.op, bits) };
    if (b!.lo > 0) return { emit: binary(expr.op === "div" ? "/" : "%", binds.product) };
  }
  return integerRows[expr.op]?.[dtype === "u32" ? "u32" : "i32"] ?? scalarRows[expr.op];
}

/** The quotient or remainder of a natural number by a power of two. */
function byShift(op: "div" | "rem", bits: number): Emit {
  // Operands of shifts and of `&` stand alone in WGSL.
  return (a) => ({
    text: op === "div" ? `${grouped(a!, binds.atom)} >> ${bits}u` : `${grouped(a!, binds.atom)} & ${2 ** bits - 1}`,
    binds: 0,
  });
}

function emitCast(expr: Cast, facts: Facts, context: Context): Text {
  const [from, to] = [expr.value.type.dtype, expr.type.dtype];
  const value = emitExpr(expr.value, facts, context);
  const convert = () => atom(`${typeText(expr.type)}(${value.text})`);
  if (to === "bool") {
    // A NaN is true, as it equals nothing.
    const zero = isFloatValue(from) ? "0.0" : from === "u32" ? "0u" : "0";
    const equal = { text: `${grouped(value, binds.sum)} == ${zero}`, binds: binds.relation };
    return { text: `!${grouped(equal, binds.unary)}`, binds: binds.unary };
  }
  if (from === "bool" || isFloatValue(to)) return convert();
  if (expr.type.lanes > 1) throw unsupported(`conversion of vectors to ${to}`);
  const { lo, hi } = rangeOf(expr.value, facts);
  if (isFloatValue(from)) {
    const name = to === "u32" ? "f32_to_u32" : isSmall(expr.value) ? "small_to_i32" : "f32_to_i32";
    context.needs.library.add(name);
    return atom(`${name}(${value.text})`);
  }
  if (to === "u32" && lo < 0) return atom(`u32(max(${value.text}, 0))`);
  if (to === "i32" && hi > 2147483647) return atom(`i32(min(${value.text}, 2147483647u))`);
  return convert();
}
