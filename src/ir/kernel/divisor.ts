/** Numbers that divide an index whatever its variables are: where a load of several elements begins. */
import type { Expr } from "./kernel.ts";
import type { Facts } from "./range.ts";

/** A number that divides the value of an integer expression; 0 where the value is 0. */
export function divisorOf(expr: Expr, facts: Facts): number {
  if (expr.k === "num") return expr.value;
  if (expr.k === "ref") {
    const known = facts.names.get(expr.name);
    if (known?.divisor !== undefined) return known.divisor;
    return known?.def === undefined ? 1 : divisorOf(known.def, facts);
  }
  if (expr.k !== "op") return 1;
  const divisors = expr.args.map((arg) => divisorOf(arg, facts));
  const [a, b, c] = divisors as [number, number, number]; // as many as the op takes
  switch (expr.op) {
    case "mul":
      return a * b;
    case "add":
    case "sub":
    case "min":
    case "max":
    case "rem":
      return gcd(a, b);
    case "select":
      return gcd(b, c);
    default:
      return 1;
  }
}

export function gcd(a: number, b: number): number {
  return b === 0 ? Math.abs(a) : gcd(b, a % b);
}
