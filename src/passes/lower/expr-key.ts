/** Structural keys of kernel expressions, and the names they refer to; each expression object is looked at once. */
import type { Expr } from "../../ir/kernel/kernel.ts";
import { operandsOf } from "../../ir/kernel/walk.ts";

const keys = new WeakMap<Expr, number>();
const interned = new Map<string, number>();

/** Equal numbers for equal expressions. */
export function exprKey(expr: Expr): number {
  const known = keys.get(expr);
  if (known !== undefined) return known;
  const { type, ...fields } = expr;
  const parts = Object.entries(fields).map(([name, value]) => `${name}=${showField(value)}`);
  const text = `${type.dtype}x${type.lanes} ${parts.join(" ")}`;
  let key = interned.get(text);
  if (key === undefined) {
    // Keys only need to be unequal for unequal expressions, so the table may start afresh when it has grown large.
    key = ++nextKey;
    if (interned.size > 200_000) interned.clear();
    interned.set(text, key);
  }
  keys.set(expr, key);
  return key;
}

let nextKey = 0;

function showField(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(showField).join()}]`;
  if (isExpr(value)) return `#${exprKey(value)}`;
  return Object.is(value, -0) ? "-0" : String(value);
}

function isExpr(value: unknown): value is Expr {
  return typeof value === "object" && value !== null && "k" in value;
}

const refs = new WeakMap<Expr, ReadonlySet<string>>();

/** Names of lets, vars and loops that the expression reads. */
export function freeRefs(expr: Expr): ReadonlySet<string> {
  let names = refs.get(expr);
  if (names === undefined) {
    names = expr.k === "ref" ? new Set([expr.name]) : new Set(operandsOf(expr).flatMap((e) => [...freeRefs(e)]));
    refs.set(expr, names);
  }
  return names;
}
