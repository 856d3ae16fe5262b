/**
 * Lowering for GPUs of maps that reduce rows (norms, softmax, sums): a workgroup per row. Its invocations take elements of
 * the row in turn and put their parts of each reduction together (`reduce` in values.ts).
 */
import type { Node } from "../../ir/graph.ts";
import { type Expr, iadd, int, op } from "../../ir/kernel/kernel.ts";
import { store, when } from "../../ir/kernel/stmt.ts";
import { opKind } from "../../ir/ops/all.ts";
import type { Workgroup } from "../../ir/target.ts";
import { sizeOf } from "../../ir/types.ts";
import { lowerColumns } from "./columns.ts";
import { flatten, range } from "./index-math.ts";
import type { KernelWriter, Together } from "./writer.ts";

/** Rows shorter than this are left to one invocation each, those up to twice as long to a subgroup, which needs no barriers. */
const shortRow = 32;

/** A power of two: as many invocations as there is work for, at least a subgroup's. */
export function workgroupFor(work: number, { invocations }: Pick<Workgroup, "invocations">): number {
  return Math.min(invocations, Math.max(shortRow, 2 ** Math.ceil(Math.log2(Math.max(work, 1)))));
}

/** Writes the root row by row where it reduces long rows; says whether it did. */
export function lowerRows(w: KernelWriter, workgroup: Workgroup): boolean {
  const { root } = w;
  const reductions = reductionsOf(w, root);
  const longest = Math.max(0, ...reductions.map((node) => node.ins[0]!.type.shape.at(-1)!));
  if (longest < shortRow) return false;
  const { shape } = root.type;
  if (lowerColumns(w, reductions, workgroup)) return true;
  // Where the reductions have a row for each element of the root, one of the workgroup stores it.
  const single = shape.length === 0 || reductions.some((node) => sizeOf(node.type.shape) === sizeOf(shape));
  const outer = single ? shape.length : shape.length - 1;
  const work = single ? longest : Math.max(longest, shape.at(-1)!);
  const size = workgroupFor(work <= 2 * shortRow ? shortRow : work, workgroup);
  const enter = (axis: number, idx: readonly Expr[]): void => {
    if (axis < outer) {
      w.loop("ijklm"[axis] ?? "i", shape[axis]!, (i) => enter(axis + 1, [...idx, i]), "grid");
      return;
    }
    w.workgroup(size, (together) => {
      if (single) storeByOne(w, together, idx);
      else storeRow(w, together, idx);
    });
  };
  enter(0, []);
  return true;
}

/** So many elements of an invocation are computed before the first is stored, so that all that they are made of is on its way at once. */
const mostAtOnce = 8;

function storeRow(w: KernelWriter, together: Together, idx: readonly Expr[]): void {
  const { shape } = w.root.type;
  const each = shape.at(-1)! / together.size;
  const storeAt = (i: Expr, value: Expr) => w.emit(store(w.out, flatten([...idx, i], shape), value));
  if (each > 1 && each <= mostAtOnce && Number.isInteger(each)) {
    const places = range(each).map((i) => w.bind("e", iadd(together.lane, int(i * together.size))));
    const values = places.map((i) => w.bind("value", w.value(w.root, [...idx, i])));
    for (const [i, place] of places.entries()) storeAt(place, values[i]!);
  } else w.strided(together, "e", shape.at(-1)!, (i) => storeAt(i, w.value(w.root, [...idx, i])));
}

function storeByOne(w: KernelWriter, { lane }: Together, idx: readonly Expr[]): void {
  const value = w.value(w.root, idx);
  w.emit(when(op("eq", lane, int(0)), [store(w.out, flatten(idx, w.root.type.shape), value)]));
}

/** The reductions that a node's expression contains. */
export function reductionsOf(w: KernelWriter, root: Node): Node[] {
  const found: Node[] = [];
  const seen = new Set<Node>();
  const visit = (node: Node): void => {
    if (seen.has(node) || w.isBuffer(node)) return;
    seen.add(node);
    if (opKind(node.op) === "reduce") found.push(node);
    node.ins.forEach(visit);
  };
  visit(root);
  return found;
}
