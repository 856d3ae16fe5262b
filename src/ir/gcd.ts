/** The greatest number that divides both; that of 0 and another is the other. */
export function gcd(a: number, b: number): number {
  return b === 0 ? Math.abs(a) : gcd(b, a % b);
}
