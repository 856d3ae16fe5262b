/** Lowering for GPUs of the scales of codes of 8 bits: an invocation for each element, which find the largest together. */
import type { Node } from "../../ir/graph.ts";
import { type Expr, iadd, idiv, imul, int, irem, num, op, select } from "../../ir/kernel/kernel.ts";
import { store, when } from "../../ir/kernel/stmt.ts";
import { sizeOf } from "../../ir/types.ts";
import { bounded } from "./group-search.ts";
import { clampTo, flatten } from "./index-math.ts";
import type { KernelWriter } from "./writer.ts";

/** Smaller groups are left to one invocation each. */
const leastTogether = 16;
/** Invocations of a workgroup, where groups are smaller. */
const most = 128;
const fewGroups = 1024;

/** Writes the scales of groups of `size` elements; says whether it did. */
export function lowerScalesTogether(w: KernelWriter, anchor: Node, size: number): boolean {
  const { workgroup } = w.target;
  const x = anchor.ins[0]!;
  const { shape } = anchor.type;
  const fits = size >= leastTogether && Number.isInteger(Math.log2(size)) && x.type.shape.at(-1)! % size === 0;
  if (workgroup === null || size > workgroup.invocations || !fits) return false;
  const groups = shape.at(-1)!;
  // Few groups have a workgroup each, so that what computes their elements can go on with them.
  const few = sizeOf(shape) <= fewGroups;
  const together = few ? 1 : Math.max(1, Math.min(workgroup.invocations, most) / size);
  const body = (idx: readonly Expr[], first: Expr): void =>
    w.workgroup(size * together, ({ lane }) => {
      const mine = w.bind("mine", iadd(first, idiv(lane, int(size))));
      const group = groups % together === 0 ? mine : w.bind("group", clampTo(mine, groups));
      const element = w.bind("element", irem(lane, int(size)));
      const value = w.bind("x", w.value(x, [...idx, iadd(imul(group, int(size)), element)]));
      const magnitude = select(op("eq", value, value), op("abs", value), num("f32", 0)); // a NaN counts as 0
      const largest = w.combine("largest", "max", magnitude, size);
      const scale = bounded(op("div", largest, num("f32", 127)));
      const one = op("and", op("eq", element, int(0)), op("lt", mine, int(groups)));
      w.emit(when(one, [store(w.out, flatten([...idx, group], shape), scale)]));
    });
  const enter = (axis: number, idx: readonly Expr[]): void => {
    if (axis < shape.length - 1) w.loop("ijkl"[axis] ?? "i", shape[axis]!, (i) => enter(axis + 1, [...idx, i]), "grid");
    else w.loop("g", groups, (first) => body(idx, first), "grid", together);
  };
  enter(0, []);
  return true;
}
