/** Interval arithmetic on the integer and bool ops. */

/** Lowest and highest value, both included. */
export interface Range {
  readonly lo: number;
  readonly hi: number;
}

export const bit: Range = { lo: 0, hi: 1 };
export const anything: Range = { lo: Number.NEGATIVE_INFINITY, hi: Number.POSITIVE_INFINITY };

/** The range of an integer or bool op on operands of these ranges, before wrapping. */
export function combine(op: string, a: Range, b: Range): Range {
  const corners = (f: (x: number, y: number) => number) => {
    const values = [f(a.lo, b.lo), f(a.lo, b.hi), f(a.hi, b.lo), f(a.hi, b.hi)];
    // `+ 0` so that no -0 gets into a range.
    return { lo: Math.min(...values) + 0, hi: Math.max(...values) + 0 };
  };
  const decided = (yes: boolean, no: boolean): Range => (yes ? { lo: 1, hi: 1 } : no ? { lo: 0, hi: 0 } : bit);
  switch (op) {
    case "add":
      return { lo: a.lo + b.lo, hi: a.hi + b.hi };
    case "sub":
      return { lo: a.lo - b.hi, hi: a.hi - b.lo };
    case "mul":
      return corners((x, y) => x * y);
    case "neg":
      return { lo: 0 - a.hi, hi: 0 - a.lo };
    case "abs":
      return { lo: a.lo > 0 ? a.lo : a.hi < 0 ? -a.hi : 0, hi: Math.max(-a.lo, a.hi) };
    case "min":
      return { lo: Math.min(a.lo, b.lo), hi: Math.min(a.hi, b.hi) };
    case "max":
      return { lo: Math.max(a.lo, b.lo), hi: Math.max(a.hi, b.hi) };
    case "div": {
      if (b.lo > 0 || b.hi < 0) return corners((x, y) => Math.trunc(x / y));
      const size = Math.max(Math.abs(a.lo), Math.abs(a.hi));
      return { lo: -size, hi: size };
    }
    case "rem": {
      const size = Math.max(Math.abs(b.lo), Math.abs(b.hi), 1) - 1;
      return { lo: a.lo >= 0 ? 0 : Math.max(-size, a.lo), hi: a.hi <= 0 ? 0 : Math.min(size, a.hi) };
    }
    case "lt":
      return decided(a.hi < b.lo, a.lo >= b.hi);
    case "le":
      return decided(a.hi <= b.lo, a.lo > b.hi);
    case "gt":
      return decided(a.lo > b.hi, a.hi <= b.lo);
    case "ge":
      return decided(a.lo >= b.hi, a.hi < b.lo);
    case "eq":
      return decided(a.lo === a.hi && b.lo === b.hi && a.lo === b.lo, a.hi < b.lo || a.lo > b.hi);
    case "ne":
      return decided(a.hi < b.lo || a.lo > b.hi, a.lo === a.hi && b.lo === b.hi && a.lo === b.lo);
    case "not":
      return { lo: 1 - a.hi, hi: 1 - a.lo };
    case "and":
      return { lo: Math.min(a.lo, b.lo), hi: Math.min(a.hi, b.hi) };
    case "or":
      return { lo: Math.max(a.lo, b.lo), hi: Math.max(a.hi, b.hi) };
    default:
      return anything;
  }
}

/** The greatest number that divides both; that of 0 and another is the other. */
export function gcd(a: number, b: number): number {
  return b === 0 ? Math.abs(a) : gcd(b, a % b);
}
