/**
 * Lowering for GPUs of top-k and arg-max: a workgroup per row. For each pick every invocation looks through its part of
 * the row for the best element that comes after the last pick (smaller, or as large and of a higher index), so that
 * nothing has to be marked as taken; then all together find the best of these.
 */
import type { Node } from "../../ir/graph.ts";
import { type Expr, iadd, imul, int, num, op, ref, select } from "../../ir/kernel/kernel.ts";
import { assign, store, variable, when } from "../../ir/kernel/stmt.ts";
import type { Workgroup } from "../../ir/target.ts";
import { clampTo, flatten } from "./index-math.ts";
import { workgroupFor } from "./rows.ts";
import type { KernelWriter } from "./writer.ts";

/** Rows up to this length are looked through by one subgroup, which needs no barriers. */
const shortRow = 256;
/** Below every negated index. */
const none = -2147483648;

export function lowerPicksGroup(
  w: KernelWriter,
  x: Node,
  k: number,
  pick: "value" | "index",
  workgroup: Workgroup,
): void {
  const lead = x.type.shape.slice(0, -1);
  const length = x.type.shape.at(-1)!;
  const enter = (axis: number, idx: readonly Expr[]): void => {
    if (axis < lead.length) {
      w.loop("ijkl"[axis] ?? "i", lead[axis]!, (i) => enter(axis + 1, [...idx, i]), "grid");
      return;
    }
    const first = imul(flatten(idx, lead), int(k));
    const size = workgroupFor(length <= shortRow ? 1 : length, workgroup);
    w.workgroup(size, (together) => {
      const declare = (hint: string, init: Expr) => {
        const name = w.unique(hint);
        w.emit(variable(name, init));
        return ref(name, init.type) as Extract<Expr, { k: "ref" }>; // made by `ref`
      };
      const infinity = num("f32", Number.NEGATIVE_INFINITY);
      const [last, lastAt] = [declare("last", infinity), declare("last_at", int(-1))];
      w.loop("pick", k, (rank) => {
        const [best, most] = [declare("best", int(-1)), declare("most", infinity)];
        w.strided(together, "j", length, (j) => {
          const raw = w.bind("x", w.value(x, [...idx, j]));
          const value = w.bind("rank", select(op("eq", raw, raw), raw, infinity));
          const level = op("and", op("eq", value, last), op("gt", j, lastAt));
          const after = op("or", op("lt", lastAt, int(0)), op("or", op("lt", value, last), level));
          const better = op("or", op("lt", best, int(0)), op("gt", value, most));
          w.emit(when(op("and", after, better), [assign(best.name, j), assign(most.name, value)]));
        });
        const top = w.combine("top", "max", most, size);
        const found = op("and", op("ge", best, int(0)), op("eq", most, top));
        const lowestAt = w.combine("lowest_at", "max", select(found, op("neg", best), int(none)), size);
        const at = w.bind("at", clampTo(op("neg", lowestAt), length));
        w.emit(assign(last.name, top));
        w.emit(assign(lastAt.name, at));
        // The element itself, which may be NaN.
        const value = pick === "index" ? at : w.value(x, [...idx, at]);
        w.emit(when(op("eq", together.lane, int(0)), [store(w.out, iadd(first, rank), value)]));
      });
    });
  };
  enter(0, []);
}
