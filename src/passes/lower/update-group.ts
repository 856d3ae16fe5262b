/** Lowering of row updates for GPUs: a workgroup per row, which leaves a slot to the last row that is meant for it. */
import type { Node } from "../../ir/graph.ts";
import { type Expr, iadd, imul, int, op, ref, select } from "../../ir/kernel/kernel.ts";
import { assign, store, variable, when } from "../../ir/kernel/stmt.ts";
import type { Workgroup } from "../../ir/target.ts";
import { sizeOf } from "../../ir/types.ts";
import { unflatten } from "./index-math.ts";
import { workgroupFor } from "./rows.ts";
import type { KernelWriter, Together } from "./writer.ts";

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
      const inside = w.bind("inside", op("and", op("ge", slot, int(0)), op("lt", slot, int(size))));
      const takes = (later: Expr) => op("and", op("gt", later, n), op("eq", w.value(slots, [later]), slot));
      // The clamp changes nothing where something is stored; it shows that stores stay inside.
      const row = w.bind("row", op("min", op("max", slot, int(0)), int(size - 1)));
      const alone = count <= fewRows ? lastOfFew(w, inside, count, takes) : undefined;
      w.workgroup(workgroupFor(length, workgroup), (together) => {
        const last = alone ?? lastOfMany(w, together, inside, count, takes);
        w.strided(together, "e", length, (e) => {
          const value = w.value(rows, [n, ...unflatten(e, rest)]);
          w.emit(when(last, [store(w.out, iadd(imul(row, int(length)), e), value)]));
        });
      });
    },
    "grid",
  );
}

/** So many rows that each invocation looks through them for itself. */
const fewRows = 8;

/** Whether no later row takes the slot. */
function lastOfFew(w: KernelWriter, inside: Expr, count: number, takes: (later: Expr) => Expr): Expr {
  if (count === 1) return inside;
  const last = ref(w.unique("last"), "bool");
  w.emit(variable(last.name, inside));
  w.loop("later", count, (later) => w.emit(assign(last.name, op("and", last, op("not", takes(later))))));
  return last;
}

/** The same, found by all invocations together. */
function lastOfMany(
  w: KernelWriter,
  together: Together,
  inside: Expr,
  count: number,
  takes: (later: Expr) => Expr,
): Expr {
  const taken = ref(w.unique("taken"));
  w.emit(variable(taken.name, int(0)));
  w.strided(together, "later", count, (later) => w.emit(assign(taken.name, select(takes(later), int(1), taken))));
  const any = w.combine("any", "max", taken, together.size);
  return w.bind("last", op("and", inside, op("eq", any, int(0))));
}
