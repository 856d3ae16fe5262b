/**
 * JavaScript text for every scalar op. Floats are computed in doubles and rounded by the emitter; 32-bit integers have
 * their own forms, with the wrapping that `emit.ts` leaves out where ranges show that nothing wraps.
 */
import type { ScalarOp } from "../../ir/scalar.ts";

/** How tightly a text binds, as JavaScript's grammar has it; larger is tighter. */
export const binds = {
  conditional: 1,
  or: 2,
  and: 3,
  bitOr: 4,
  bitAnd: 5,
  equality: 6,
  relation: 7,
  shift: 8,
  sum: 9,
  product: 10,
  power: 11,
  unary: 12,
  atom: 13,
} as const;

export interface Text {
  readonly text: string;
  readonly binds: number;
}

export interface Row {
  readonly emit: (...args: Text[]) => Text;
  /** Whether the result of f32 operands is always an f32 already, so that it needs no rounding. */
  readonly exact?: boolean;
}

export function atom(text: string): Text {
  return { text, binds: binds.atom };
}

/** The text, in parentheses if it binds less tightly than `level`. */
export function grouped(part: Text, level: number): string {
  return part.binds < level ? `(${part.text})` : part.text;
}

/** `a symbol b`, associating to the left. */
export function binary(symbol: string, level: number): Row["emit"] {
  return (a, b) => ({ text: `${grouped(a!, level)} ${symbol} ${grouped(b!, level + 1)}`, binds: level });
}

function call(name: string): Row["emit"] {
  return (...args) => atom(`${name}(${args.map((arg) => arg.text).join(", ")})`);
}

function unary(symbol: string): Row["emit"] {
  // A space keeps `- -x` from becoming a decrement.
  return (a) => {
    const inner = grouped(a!, binds.unary);
    return { text: `${symbol}${inner.startsWith(symbol) ? " " : ""}${inner}`, binds: binds.unary };
  };
}

export const scalarRows = {
  neg: { emit: unary("-"), exact: true },
  abs: { emit: call("Math.abs"), exact: true },
  exp: { emit: call("Math.exp") },
  log: { emit: call("Math.log") },
  sqrt: { emit: call("Math.sqrt") },
  rsqrt: { emit: (x) => binary("/", binds.product)(atom("1"), call("Math.sqrt")(x!)) },
  sin: { emit: call("Math.sin") },
  cos: { emit: call("Math.cos") },
  tanh: { emit: call("Math.tanh") },
  sigmoid: {
    emit: (x) =>
      binary("/", binds.product)(atom("1"), binary("+", binds.sum)(atom("1"), call("Math.exp")(unary("-")(x!)))),
  },
  floor: { emit: call("Math.floor"), exact: true },
  round: { emit: call("nearestEven"), exact: true },
  not: { emit: unary("!") },
  add: { emit: binary("+", binds.sum) },
  sub: { emit: binary("-", binds.sum) },
  mul: { emit: binary("*", binds.product) },
  div: { emit: binary("/", binds.product) },
  rem: { emit: binary("%", binds.product), exact: true },
  // A call, because the grammar refuses a sign before the base of `**`.
  pow: { emit: call("Math.pow") },
  min: { emit: call("Math.min"), exact: true },
  max: { emit: call("Math.max"), exact: true },
  and: { emit: binary("&&", binds.and) },
  or: { emit: binary("||", binds.or) },
  eq: { emit: binary("===", binds.equality) },
  ne: { emit: binary("!==", binds.equality) },
  lt: { emit: binary("<", binds.relation) },
  le: { emit: binary("<=", binds.relation) },
  gt: { emit: binary(">", binds.relation) },
  ge: { emit: binary(">=", binds.relation) },
  select: {
    emit: (condition, a, b) => ({
      text: `${grouped(condition!, binds.or)} ? ${grouped(a!, binds.or)} : ${grouped(b!, binds.conditional)}`,
      binds: binds.conditional,
    }),
    exact: true,
  },
} as const satisfies Record<ScalarOp, Row>;

/** Ops whose result on 32-bit integers is not the float text with wrapping. */
export const integerRows: Partial<Record<ScalarOp, Row["emit"]>> = {
  mul: call("Math.imul"),
  // 0 - x, since -x would make a -0 of 0.
  neg: (x) => binary("-", binds.sum)(atom("0"), x!),
};
