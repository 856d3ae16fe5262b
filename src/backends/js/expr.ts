/** Kernel expressions as JavaScript text with the fewest parentheses, roundings and wrappings. */
import { InternalError, UnsupportedError } from "../../ir/errors.ts";
import type { Cast, Expr, Num, Op } from "../../ir/kernel/kernel.ts";
import { assume, type Facts, fullRange, type Range, rangeOf } from "../../ir/kernel/range.ts";
import { isFloatValue, isIntValue, type VDType } from "../../ir/kernel/value.ts";
import type { ScalarOp } from "../../ir/scalar.ts";
import { atom, binary, binds, grouped, integerRows, type Row, scalarRows, type Text } from "./scalar.ts";
import { loadText } from "./storage.ts";

/** The JavaScript name of each name in the kernel. */
export type Names = ReadonlyMap<string, string>;

/**
 * The expression's text. Values are doubles holding exactly the value (f32, i32, u32) or booleans. `into: "f32"` says that
 * the place it goes to rounds to f32 by itself.
 */
export function emitExpr(expr: Expr, facts: Facts, names: Names, into?: "f32" | "f64"): Text {
  if (expr.type.lanes !== 1) {
    throw new UnsupportedError("kernel", "the JavaScript backend has no vectors", { hint: "Lower for one lane." });
  }
  switch (expr.k) {
    case "num":
      return emitNum(expr);
    case "ref":
      return atom(names.get(expr.name) ?? expr.name);
    case "load": {
      const buf = facts.bufs.get(expr.buf);
      if (buf === undefined) throw new InternalError("kernel", `has no buffer ${expr.buf}`);
      return loadText(buf, names.get(expr.buf) ?? expr.buf, emitExpr(expr.index, facts, names).text);
    }
    case "cast":
      return emitCast(expr, facts, names, into);
    case "op":
      return emitOp(expr, facts, names, into);
    default:
      throw new UnsupportedError("kernel", "the JavaScript backend has no vectors", { hint: "Lower for one lane." });
  }
}

function emitNum({ value, type }: Num): Text {
  if (type.dtype === "bool") return atom(value === 0 ? "false" : "true");
  const negative = value < 0 || Object.is(value, -0);
  return { text: Object.is(value, -0) ? "-0" : `${value}`, binds: negative ? binds.unary : binds.atom };
}

function fround(part: Text): Text {
  return atom(`Math.fround(${part.text})`);
}

function emitOp(expr: Op, facts: Facts, names: Names, into: "f32" | "f64" | undefined): Text {
  const { dtype } = expr.type;
  if (expr.op === "select") {
    const [condition, a, b] = expr.args;
    return scalarRows.select.emit(
      emitExpr(condition!, facts, names),
      emitExpr(a!, assume(condition!, true, facts), names, into),
      emitExpr(b!, assume(condition!, false, facts), names, into),
    );
  }
  const operands = expr.args[0]!.type.dtype;
  const args = expr.args.map((arg) => emitExpr(arg, facts, names));
  const row: Row = scalarRows[expr.op];
  if (isIntValue(operands) && dtype !== "bool") {
    return emitInteger(
      expr.op,
      dtype,
      args,
      expr.args.map((arg) => rangeOf(arg, facts)),
      exactRange(expr, facts),
    );
  }
  const result = row.emit(...args);
  return dtype === "f32" && row.exact !== true && into !== "f32" ? fround(result) : result;
}

/** The range of the mathematical result, before wrapping. */
function exactRange(expr: Op, facts: Facts): Range {
  const [a, b] = expr.args.map((arg) => rangeOf(arg, facts));
  switch (expr.op) {
    case "add":
      return { lo: a!.lo + b!.lo, hi: a!.hi + b!.hi };
    case "sub":
      return { lo: a!.lo - b!.hi, hi: a!.hi - b!.lo };
    case "neg":
      return { lo: -a!.hi, hi: -a!.lo };
    case "abs":
      return { lo: 0, hi: Math.max(-a!.lo, a!.hi) };
    case "mul":
      return { lo: Math.min(a!.lo * b!.lo, a!.lo * b!.hi, a!.hi * b!.lo), hi: Math.max(a!.lo * b!.lo, a!.hi * b!.hi) };
    default:
      return rangeOf(expr, facts);
  }
}

function emitInteger(op: ScalarOp, dtype: VDType, args: Text[], ranges: readonly Range[], exact: Range): Text {
  const full = fullRange(dtype);
  const fits = exact.lo >= full.lo && exact.hi <= full.hi;
  const natural = ranges.every((range) => range.lo >= 0);
  const [a] = args;
  const divisor = ranges[1]?.lo === ranges[1]?.hi ? ranges[1]?.lo : undefined;
  if (op === "div" || op === "rem") {
    const bits = divisor !== undefined && dtype === "i32" && natural ? Math.log2(divisor) : Number.NaN;
    if (Number.isInteger(bits) && op === "div") return binary(">>", binds.shift)(a!, atom(`${bits}`));
    if (Number.isInteger(bits)) return binary("&", binds.bitAnd)(a!, atom(`${divisor! - 1}`));
    const plain = scalarRows[op].emit(...args);
    // Division by zero gives NaN or an infinity, which `| 0` turns into the 0 that is wanted.
    return op === "rem" && natural && ranges[1]!.lo > 0 ? plain : wrapped(plain, dtype);
  }
  // A product with a negative factor may be -0, which is no integer.
  if (op === "mul" && fits && natural) return scalarRows.mul.emit(...args);
  const result = (integerRows[op] ?? scalarRows[op].emit)(...args);
  if (op === "min" || op === "max" || (op === "mul" && dtype === "i32")) return result;
  return fits && op !== "mul" ? result : wrapped(result, dtype);
}

function wrapped(part: Text, dtype: VDType): Text {
  return dtype === "u32" ? binary(">>>", binds.shift)(part, atom("0")) : binary("|", binds.bitOr)(part, atom("0"));
}

function emitCast(expr: Cast, facts: Facts, names: Names, into: "f32" | "f64" | undefined): Text {
  const [from, to] = [expr.value.type.dtype, expr.type.dtype];
  const value = emitExpr(expr.value, facts, names);
  if (to === "bool") return { text: `${grouped(value, binds.equality)} !== 0`, binds: binds.equality };
  if (from === "bool") return scalarRows.select.emit(value, atom("1"), atom("0"));
  const { lo, hi } = rangeOf(expr.value, facts);
  if (isFloatValue(to)) {
    // Every f32 is a double; integers up to 2^24 are f32 values.
    const exact = to === "f64" || (isIntValue(from) && lo >= -16777216 && hi <= 16777216);
    return exact || into === "f32" ? value : fround(value);
  }
  const full = fullRange(to);
  if (isIntValue(from) && lo >= full.lo && hi <= full.hi) return value;
  const clamped = atom(`Math.min(Math.max(${value.text}, ${full.lo}), ${full.hi})`);
  // `| 0` truncates, and makes 0 of NaN.
  return isIntValue(from) ? clamped : wrapped(clamped, to);
}
