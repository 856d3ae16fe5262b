/**
 * Lowering for GPUs of reductions whose neighbours read the same: sums of one row from several thresholds on, sums up to each
 * element of a row, or sums of columns. A workgroup computes a run of results, an invocation for each and several that share
 * its row; what all of them read is brought to shared memory once.
 */
import { isOp, type Node } from "../../ir/graph.ts";
import { type Expr, idiv, int, irem, load, op } from "../../ir/kernel/kernel.ts";
import { barrier, store, when } from "../../ir/kernel/stmt.ts";
import { opDef, opKind } from "../../ir/ops/all.ts";
import type { Workgroup } from "../../ir/target.ts";
import { sameShape, sizeOf } from "../../ir/types.ts";
import { clampTo, flatten } from "./index-math.ts";
import type { KernelWriter, Together } from "./writer.ts";

/** Fewer results beside each other are rows of their own. */
const fewest = 8;
/** So many elements, of all rows of a run, are read in any order. */
const fewElements = 4096;
/** Of the shared memory: the rest is for what invocations put together, and for launches done again. */
const mostShared = 5 / 8;
/** Elements of its row that an invocation takes at least, where there are more than the workgroup has. */
const each = 4;

/** Writes a root with one reduction by runs along its last axis, where they read the same; says whether it did. */
export function lowerColumns(w: KernelWriter, reductions: readonly Node[], workgroup: Workgroup): boolean {
  const { shape } = w.root.type;
  const [reduction, other] = reductions.filter((node) => sameShape(node.type.shape, shape));
  // At most one element for each row of results: the same for all that a run writes.
  const fixed = (node: Node) => sizeOf(node.type.shape) * (shape.at(-1) ?? 1) <= sizeOf(shape);
  if (reduction === undefined || other !== undefined) return false;
  if (!reductions.every((node) => node === reduction || fixed(node))) return false;
  const operand = reduction.ins[0]!;
  const [count, length] = [shape.at(-1) ?? 1, operand.type.shape.at(-1)!];
  const shared = sharedRows(w, operand, shape.length > 1 && count * length <= fewElements);
  const wide = 2 ** Math.ceil(Math.log2(count));
  const most = workgroup.most ?? workgroup.invocations;
  if (shared === null || count < fewest || wide > most || shared.length * 4 * length > workgroup.bytes * mostShared)
    return false;
  const size = Math.min(most, Math.max(32, wide * 2 ** Math.floor(Math.log2(Math.max(1, length / each)))));
  const enter = (axis: number, idx: readonly Expr[]): void => {
    if (axis < shape.length - 1)
      w.loop("ijklm"[axis] ?? "i", shape[axis]!, (i) => enter(axis + 1, [...idx, i]), "grid");
    else w.workgroup(size, (together) => lowerRun(w, together, { shared, idx, length, wide }));
  };
  enter(0, []);
  return true;
}

interface Run {
  /** What all results of the run read, and the elements of each. */
  readonly shared: readonly Node[];
  readonly length: number;
  /** The index of the run, without the last axis. */
  readonly idx: readonly Expr[];
  /** Invocations beside each other that have a result each. */
  readonly wide: number;
}

function lowerRun(w: KernelWriter, together: Together, { shared, idx, length, wide }: Run): void {
  const rows = shared.map((node) => ({ node, buf: w.shared("row", "f32", length) }));
  if (rows.length > 0) {
    w.strided(together, "j", length, (j) => {
      for (const { node, buf } of rows) w.emit(store(buf, j, w.value(node, [...idx, int(0), j])));
    });
    w.emit(barrier);
  }
  for (const { node, buf } of rows) w.hold(node, (at) => load(buf, at.at(-1)!));
  const { shape } = w.root.type;
  const count = shape.at(-1)!;
  const column = w.bind("column", irem(together.lane, int(wide)));
  const at = [...idx, wide === count ? column : w.bind("own", clampTo(column, count))];
  const slice = w.bind("slice", idiv(together.lane, int(wide)));
  w.sharing({ lane: slice, size: together.size / wide, apart: wide }, () => {
    const value = w.value(w.root, at);
    const stores = op("and", op("eq", slice, int(0)), op("lt", column, int(count)));
    w.emit(when(stores, [store(w.out, flatten(at, shape), value)]));
  });
}

/** Parts of a reduction's operand [.., t, r] that are the same for all t, if nothing else of it varies from row to row but what lies along t; else null. */
function sharedRows(w: KernelWriter, operand: Node, few: boolean): Node[] | null {
  const rank = operand.type.shape.length;
  const found = new Set<Node>();
  const seen = new Set<Node>();
  const fits = (node: Node): boolean => {
    if (seen.has(node)) return true;
    seen.add(node);
    if (w.isBuffer(node)) return few;
    if (opKind(node.op) === "source") return true;
    if (opDef(node.op).scalar !== undefined) return node.ins.every(fits);
    // Neighbours read neighbours.
    if (isOp(node, "transpose")) return few || node.attrs.perm[rank - 2] === rank - 1;
    if (!isOp(node, "broadcast")) return few;
    const { shape } = node.ins[0]!.type;
    const [perColumn, perElement] = [shape.at(-2) ?? 1, shape.at(-1) ?? 1].map((dim) => dim > 1);
    if (!perElement) return true;
    if (perColumn || node.type.dtype !== "f32") return few;
    found.add(node);
    return true;
  };
  return rank > 1 && fits(operand) ? [...found] : null;
}
