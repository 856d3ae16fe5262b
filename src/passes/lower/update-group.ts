/** Lowering of row updates for GPUs: a workgroup per row, which leaves a slot to the last row that is meant for it. */
import type { Node } from "../../ir/graph.ts";
import { iadd, imul, int, op, ref } from "../../ir/kernel/kernel.ts";
import { assign, store, variable, when } from "../../ir/kernel/stmt.ts";
import type { Workgroup } from "../../ir/target.ts";
import { sizeOf } from "../../ir/types.ts";
import { unflatten } from "./index-math.ts";
import { workgroupFor } from "./rows.ts";
import type { KernelWriter } from "./writer.ts";

export function lowerUpdateRowsGroup(w: KernelWriter, anchor: Node, workgroup: Workgroup): void {
  const [x, rows, slots] = anchor.ins as [Node, Node, Node]; // updateRows takes three operands
  const [size, ...rest] = x.type.shape as [number, ...number[]]; // of rank 1 or more
  const count = rows.type.shape[0]!;
  const length = sizeOf(rest);
  w.loop(
    "n",
    count,
    (n) => {
      const slot = w.bind("slot", w.value(slots, [n]));
      const last = ref(w.unique("last"), "bool");
      w.emit(variable(last.name, op("and", op("ge", slot, int(0)), op("lt", slot, int(size)))));
      if (count > 1) {
        w.loop("later", count, (later) => {
          const taken = op("and", op("gt", later, n), op("eq", w.value(slots, [later]), slot));
          w.emit(assign(last.name, op("and", last, op("not", taken))));
        });
      }
      // The clamp changes nothing where something is stored; it shows that stores stay inside.
      const row = w.bind("row", op("min", op("max", slot, int(0)), int(size - 1)));
      w.workgroup(workgroupFor(length, workgroup), (together) => {
        w.strided(together, "e", length, (e) => {
          const value = w.value(rows, [n, ...unflatten(e, rest)]);
          w.emit(when(last, [store(w.out, iadd(imul(row, int(length)), e), value)]));
        });
      });
    },
    "grid",
  );
}
