/** Lowering of ops that pick from a row: top-k and arg-max. The row is computed into scratch, then scanned k times. */
import { attrsOf, type Node } from "../../ir/graph.ts";
import { type Expr, iadd, imul, int, load, num, op, ref, select } from "../../ir/kernel/kernel.ts";
import { assign, store, variable, when } from "../../ir/kernel/stmt.ts";
import { clampTo, flatten } from "./index-math.ts";
import { forEachElement } from "./map.ts";
import { lowerPicksGroup } from "./select-group.ts";
import type { KernelWriter } from "./writer.ts";

/** What is stored for each pick. */
type Pick = "value" | "index";

export const lowerTopKIndices = (w: KernelWriter, anchor: Node): void =>
  lowerPicks(w, anchor, Number(attrsOf(anchor).k), "index");
export const lowerTopKValues = (w: KernelWriter, anchor: Node): void =>
  lowerPicks(w, anchor, Number(attrsOf(anchor).k), "value");
export const lowerArgMax = (w: KernelWriter, anchor: Node): void => lowerPicks(w, anchor, 1, "index");

function lowerPicks(w: KernelWriter, anchor: Node, k: number, pick: Pick): void {
  const [x] = anchor.ins as [Node]; // these ops take one operand
  if (w.target.workgroup !== null) {
    lowerPicksGroup(w, x, k, pick, w.target.workgroup);
    return;
  }
  const lead = x.type.shape.slice(0, -1);
  const length = x.type.shape.at(-1)!;
  const row = w.scratch("row", "f32", length);
  const taken = w.scratch("taken", "i32", length);
  const enter = (axis: number, idx: readonly Expr[]): void => {
    if (axis < lead.length) {
      const how = axis === 0 ? "grid" : "serial";
      w.loop("ijkl"[axis] ?? "i", lead[axis]!, (i) => enter(axis + 1, [...idx, i]), how);
      return;
    }
    forEachElement(w, x, [...idx, null], (at, value) => {
      w.emit(store(row, at.at(-1)!, value));
      w.emit(store(taken, at.at(-1)!, int(0)));
    });
    const first = imul(flatten(idx, lead), int(k));
    w.loop("pick", k, (rank) => {
      const best = scan(w, row, taken, length);
      w.emit(store(taken, best, int(1)));
      w.emit(store(w.out, iadd(first, rank), pick === "index" ? best : load(row, best)));
    });
  };
  enter(0, []);
}

/** The lowest index of the largest element not taken yet; NaN counts as -inf. */
function scan(
  w: KernelWriter,
  row: Parameters<typeof load>[0],
  taken: Parameters<typeof load>[0],
  length: number,
): Expr {
  const best = ref(w.unique("best"), "i32");
  const most = ref(w.unique("most"), "f32");
  w.emit(variable(best.name, int(-1)));
  w.emit(variable(most.name, num("f32", Number.NEGATIVE_INFINITY)));
  w.loop("j", length, (j) => {
    const free = op("eq", load(taken, j), int(0));
    const raw = w.bind("x", load(row, j));
    const x = w.bind("rank", select(op("eq", raw, raw), raw, num("f32", Number.NEGATIVE_INFINITY)));
    const better = op("or", op("lt", best, int(0)), op("gt", x, most));
    w.emit(when(op("and", free, better), [assign(best.name, j), assign(most.name, x)]));
  });
  return w.bind("at", clampTo(best, length));
}
