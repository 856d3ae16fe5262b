/** Sharing out the things that a workgroup brings to shared memory. */
import { type Expr, iadd, int, op } from "../../ir/kernel/kernel.ts";
import { when } from "../../ir/kernel/stmt.ts";
import { clampTo, range } from "./index-math.ts";
import type { KernelWriter, Together } from "./writer.ts";

/** Each of `count` things by one invocation; where one has several, their loads are on their way together. */
export function shareOut(w: KernelWriter, { lane, size }: Together, count: number, body: (i: Expr) => void): void {
  const rounds = Math.floor(count / size);
  for (const round of range(rounds)) body(iadd(lane, int(round * size)));
  const rest = count - rounds * size;
  if (rest === 0) return;
  const stmts = w.nested(() => body(clampTo(iadd(lane, int(rounds * size)), count)));
  w.emit(when(op("lt", lane, int(rest)), stmts));
}
