/** What is wrong with a product of matrices, besides what every access must keep to (`verify.ts`). */
import type { Buf, Multiply } from "./kernel.ts";
import { matricesOf } from "./multiply.ts";

/** Each with the invariant that it breaks; `workgroup`: iterations of the loop around. */
export function multiplyProblems(
  stmt: Multiply,
  bufs: ReadonlyMap<string, Buf>,
  workgroup: number,
): readonly (readonly [id: string, what: string])[] {
  const { size, unit, from, over } = stmt;
  const problems: (readonly [string, string])[] = [];
  if (!Number.isInteger(Math.log2(over)) || workgroup % over !== 0)
    problems.push(["K7", `${workgroup} iterations cannot multiply by ${over} of them`]);
  if ((from | 0) !== from) problems.push(["K6", `sums begin with ${from}, which is no i32`]);
  for (const axis of ["m", "n", "k"] as const) {
    const whole = Number.isInteger(size[axis] / unit[axis]) && size[axis] > 0 && unit[axis] > 0;
    if (!whole) problems.push(["K6", `${axis} is ${size[axis]}, which units of ${unit[axis]} do not divide`]);
  }
  for (const { at, columns, stores } of matricesOf(stmt)) {
    const { dtype, space } = bufs.get(at.buf)!; // accesses are checked before
    const want = stores ? "i32" : "i8";
    if (space !== "shared" || dtype !== want)
      problems.push(["K3", `expected a shared buffer of ${want}, got ${at.buf}: ${space} ${dtype}`]);
    if (!Number.isInteger(at.stride) || at.stride < columns)
      problems.push(["K6", `rows of ${columns} elements of ${at.buf} are ${at.stride} apart`]);
  }
  return problems;
}
