/** Lowering of row updates: only the new rows are written; the plan puts the result where the old rows are. */
import type { Node } from "../../ir/graph.ts";
import { iadd, imul, int, op } from "../../ir/kernel/kernel.ts";
import { store, when } from "../../ir/kernel/stmt.ts";
import { sizeOf } from "../../ir/types.ts";
import { flatten } from "./index-math.ts";
import { forEachElement } from "./map.ts";
import { lowerUpdateRowsGroup } from "./update-group.ts";
import type { KernelWriter } from "./writer.ts";

export function lowerUpdateRows(w: KernelWriter, anchor: Node): void {
  if (w.target.workgroup !== null) {
    lowerUpdateRowsGroup(w, anchor, w.target.workgroup);
    return;
  }
  const [x, rows, slots] = anchor.ins as [Node, Node, Node]; // updateRows takes three operands
  const [size, ...rest] = x.type.shape as [number, ...number[]]; // of rank 1 or more
  // Later rows win, so the rows are written in order.
  w.loop("n", rows.type.shape[0]!, (n) => {
    const slot = w.bind("slot", w.value(slots, [n]));
    const inside = op("and", op("ge", slot, int(0)), op("lt", slot, int(size)));
    const body = w.nested(() =>
      forEachElement(w, rows, [n, ...rest.map(() => null)], (idx, value) => {
        const at = iadd(imul(slot, int(sizeOf(rest))), flatten(idx.slice(1), rest));
        w.emit(store(w.out, at, value));
      }),
    );
    w.emit(when(inside, body));
  });
}
