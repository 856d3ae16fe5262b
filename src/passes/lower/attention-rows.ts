/** What the forms of attention share: how keys and values are read, several columns at once where they lie side by side in memory. */
import { type Expr, num, ref } from "../../ir/kernel/kernel.ts";
import { strideIn } from "../../ir/kernel/linear.ts";
import { valueType } from "../../ir/kernel/value.ts";
import type { KernelWriter } from "./writer.ts";

/** Below every score; not an infinity, which devices may take as absent. */
export const lowest = num("f32", -3.4028234663852886e38);

/** Whether column j of a value is a load of memory j elements from that of column 0. */
export function liesInRows(w: KernelWriter, value: (t: Expr, j: Expr) => Expr): boolean {
  const [t, j] = [ref(w.unique("t")), ref(w.unique("j"))];
  let runs = false;
  const stmts = w.nested(() => {
    const element = value(t, j);
    runs = element.k === "load" && element.type.dtype === "f32" && strideIn(element.index, j.name) === 1;
  }, [t.name, j.name]);
  return runs && stmts.every((stmt) => stmt.k === "let" && strideIn(stmt.value, j.name) === 0);
}

/** The load of an element as a load of `lanes` from there. */
export function widened(element: Expr, lanes: number): Expr {
  return lanes === 1 ? element : { ...element, type: valueType(element.type.dtype, lanes) };
}
