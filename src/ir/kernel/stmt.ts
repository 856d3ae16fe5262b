/** Constructors of statements. */
import {
  type Barrier,
  type Buf,
  type Combine,
  type CombineOp,
  type Expr,
  type For,
  type If,
  int,
  type Let,
  type LoopKind,
  type Multiply,
  type Note,
  type Set_,
  type Stmt,
  type Store,
  type Var,
} from "./kernel.ts";
import type { ValueType } from "./value.ts";

export function bind(name: string, value: Expr): Let {
  return { k: "let", name, value };
}
export function variable(name: string, init: Expr, type: ValueType = init.type): Var {
  return { k: "var", name, type, init };
}
export function assign(name: string, value: Expr): Set_ {
  return { k: "set", name, value };
}
export function store(buf: Buf, index: Expr, value: Expr): Store {
  return { k: "store", buf: buf.name, index, value };
}
/** A loop; numbers are i32 constants. */
export function loop(
  name: string,
  from: Expr | number,
  to: Expr | number,
  body: readonly Stmt[],
  how: LoopKind = "serial",
  step = 1,
): For {
  const bound = (x: Expr | number) => (typeof x === "number" ? int(x) : x);
  return { k: "for", name, from: bound(from), to: bound(to), step, how, body };
}
export function when(cond: Expr, then: readonly Stmt[], otherwise: readonly Stmt[] = []): If {
  return { k: "if", cond, then, else: otherwise };
}
export function note(text: string): Note {
  return { k: "note", text };
}
export function combine(name: string, op: CombineOp, value: Expr, over: number, apart = 1): Combine {
  return { k: "combine", name, op, value, over, apart };
}
export function multiply(rest: Omit<Multiply, "k">): Multiply {
  return { k: "multiply", ...rest };
}
export const barrier: Barrier = { k: "barrier" };
