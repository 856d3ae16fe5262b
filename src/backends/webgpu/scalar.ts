/**
 * WGSL text for every scalar op. Where WGSL leaves open what the kernel IR defines (quotients by zero, NaN, powers of
 * negative numbers, infinities), a row names a function of `library.ts`.
 */
import type { ScalarOp } from "../../ir/scalar.ts";
import type { LibraryName } from "./library.ts";

/** How tightly a text binds; WGSL lets neither `&&` and `||` nor comparisons stand beside each other without parentheses. */
export const binds = { logic: 1, relation: 2, sum: 4, product: 5, unary: 6, atom: 7 } as const;

export interface Text {
  readonly text: string;
  readonly binds: number;
}

export type Emit = (...args: Text[]) => Text;

export interface Row {
  readonly emit: Emit;
  /** The library function it calls. */
  readonly uses?: LibraryName;
}

export function atom(text: string): Text {
  return { text, binds: binds.atom };
}

/** The text, in parentheses if it binds less tightly than `level`. */
export function grouped(part: Text, level: number): string {
  return part.binds < level ? `(${part.text})` : part.text;
}

/** `a symbol b`, associating to the left; `operands` is how tightly the left one must bind at least. */
export function binary(symbol: string, level: number, operands = level): Emit {
  return (a, b) => ({
    text: `${grouped(a!, operands)} ${symbol} ${grouped(b!, Math.max(level + 1, operands))}`,
    binds: level,
  });
}

export function call(name: string): Emit {
  return (...args) => atom(`${name}(${args.map((arg) => arg.text).join(", ")})`);
}

function calls(name: LibraryName): Row {
  return { emit: call(name), uses: name };
}

function unary(symbol: string): Emit {
  // A space keeps `- -x` from becoming a decrement.
  return (a) => {
    const inner = grouped(a!, binds.unary);
    return { text: `${symbol}${inner.startsWith(symbol) ? " " : ""}${inner}`, binds: binds.unary };
  };
}

const compare = (symbol: string): Row => ({ emit: binary(symbol, binds.relation, binds.sum) });

/** Floats and bools. */
export const scalarRows = {
  neg: { emit: unary("-") },
  abs: { emit: call("abs") },
  exp: { emit: call("exp") },
  log: { emit: call("log") },
  sqrt: { emit: call("sqrt") },
  rsqrt: { emit: call("inverseSqrt") },
  sin: calls("sin_of"),
  cos: calls("cos_of"),
  tanh: calls("tanh_of"),
  sigmoid: { emit: (x) => binary("/", binds.product)(atom("1.0"), atom(`(1.0 + exp(-${grouped(x!, binds.unary)}))`)) },
  floor: { emit: call("floor") },
  round: { emit: call("round") },
  not: { emit: unary("!") },
  add: { emit: binary("+", binds.sum) },
  sub: { emit: binary("-", binds.sum) },
  mul: { emit: binary("*", binds.product) },
  div: { emit: binary("/", binds.product) },
  rem: calls("remainder"),
  pow: calls("power"),
  min: { emit: call("min") },
  max: { emit: call("max") },
  and: { emit: binary("&&", binds.logic, binds.relation) },
  or: { emit: binary("||", binds.logic, binds.relation) },
  eq: compare("=="),
  // Vulkan drivers are given an ordered comparison for `!=`, which is false where an operand is NaN.
  ne: { emit: (a, b) => ({ text: `!(${compare("==").emit(a!, b!).text})`, binds: binds.unary }) },
  lt: compare("<"),
  le: compare("<="),
  gt: compare(">"),
  ge: compare(">="),
  // Both operands are evaluated, which is harmless: WGSL keeps loads in bounds and its arithmetic does not fail.
  select: { emit: (condition, a, b) => call("select")(b!, a!, condition!) },
} as const satisfies Record<ScalarOp, Row>;

/** Ops on 32-bit integers that are not written as those on floats. WGSL's wrap, as the kernel IR's do. */
export const integerRows: Partial<Record<ScalarOp, { readonly i32: Row; readonly u32: Row }>> = {
  neg: { i32: { emit: unary("-") }, u32: { emit: (x) => binary("-", binds.sum)(atom("0u"), x!) } },
  div: { i32: calls("quotient_i32"), u32: calls("quotient_u32") },
  rem: { i32: calls("remainder_i32"), u32: calls("remainder_u32") },
  ne: { i32: compare("!="), u32: compare("!=") },
};
