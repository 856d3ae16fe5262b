/**
 * Lowering of what puts parts of attention together: a workgroup has some columns of a head. Its invocations weigh the parts
 * first, then divide them, so that none waits for one part after another.
 */
import type { Node } from "../../ir/graph.ts";
import { type Buf, type Expr, iadd, idiv, imul, int, irem, load, num, op, select } from "../../ir/kernel/kernel.ts";
import { assign, barrier, store, when } from "../../ir/kernel/stmt.ts";
import type { Workgroup } from "../../ir/target.ts";
import { clampTo, flatten, range } from "./index-math.ts";
import type { KernelWriter, Together } from "./writer.ts";

/** Columns of a workgroup, and its invocations at most. */
const [columns, mostInvocations] = [32, 256];
/** So many parts of an invocation are written one after another, so that all are on their way at once. */
const mostUnrolled = 16;

/** What a workgroup puts together: the columns from `first` on of one head. */
interface Merge extends Together {
  readonly w: KernelWriter;
  /** Element `column` of a part. */
  readonly at: (part: Expr, column: Expr) => Expr;
  readonly parts: number;
  readonly e: number;
  /** Invocations of a column, and parts of each. */
  readonly slices: number;
  readonly each: number;
  /** By part, 0 for those beyond the last. */
  readonly weights: Buf;
  readonly sums: Buf;
}

export function lowerMergeParts(w: KernelWriter, anchor: Node, { invocations }: Workgroup): void {
  const [x] = anchor.ins as [Node]; // it takes one operand
  const [n, h, parts] = x.type.shape as [number, number, number]; // of rank 4
  const e = anchor.type.shape[2]!;
  const size = Math.max(columns, Math.min(invocations, mostInvocations));
  const slices = size / columns;
  const each = Math.ceil(parts / slices);
  const weights = w.shared("weights", "f32", each * slices);
  const sums = w.shared("sums", "f32", size);
  const enter = (token: Expr, head: Expr, first: Expr) =>
    w.workgroup(size, ({ lane }) => {
      const at = (part: Expr, column: Expr) => w.value(x, [token, head, part, column]);
      const merge: Merge = { w, lane, size, at, parts, e, slices, each, weights, sums };
      const total = weigh(merge);
      const column = w.bind("column", iadd(first, irem(lane, int(columns))));
      const inside = w.bind("inside", e % columns === 0 ? column : clampTo(column, e));
      const whole = addParts(merge, inside);
      const result = op("div", whole, op("max", total, num("f32", 1)));
      const isFirst = op("lt", lane, int(columns));
      const out = store(w.out, flatten([token, head, inside], anchor.type.shape), result);
      w.emit(when(op("and", isFirst, op("lt", column, int(e))), [out]));
    });
  const ofHead = (token: Expr) => (head: Expr) => w.loop("j", e, (j) => enter(token, head, j), "grid", columns);
  w.loop("n", n, (token) => w.loop("h", h, ofHead(token), "grid"), "grid");
}

/** Leaves the parts' weights in shared memory; gives the sum of all. */
function weigh({ w, lane, size, at, parts, e, slices, each, weights }: Merge): Expr {
  const mine = range(Math.ceil((each * slices) / size)).map((i) => {
    const number = w.bind("number", iadd(lane, int(i * size)));
    const part = w.bind("part", clampTo(number, parts));
    return { number, most: w.bind("most", at(part, int(e))), total: w.bind("total", at(part, int(e + 1))) };
  });
  // The last of the parts may be there several times, which changes no maximum.
  const own = mine.map(({ most }) => most).reduce((a, b) => op("max", a, b));
  const largest = w.combine("largest", "max", own, size);
  const shrunk = mine.map(({ number, most, total }) => {
    const is = op("lt", number, int(parts));
    const weight = w.bind("weight", select(is, op("exp", op("sub", most, largest)), num("f32", 0)));
    const put = store(weights, clampTo(number, each * slices), weight);
    w.emit(when(op("lt", number, int(each * slices)), [put]));
    return op("mul", weight, total);
  });
  const all = w.combine(
    "all",
    "add",
    shrunk.reduce((a, b) => op("add", a, b)),
    size,
  );
  w.emit(barrier);
  return all;
}

/** The sum of a column's elements of all parts by their weights, for the first invocation of those that share it. */
function addParts({ w, lane, size, at, parts, slices, each, weights, sums }: Merge, column: Expr): Expr {
  const slice = w.bind("slice", idiv(lane, int(columns)));
  const sum = w.variable("sum", num("f32", 0));
  const add = (i: Expr) => {
    const part = w.bind("part", iadd(imul(i, int(slices)), slice));
    const value = w.bind("x", at(parts % slices === 0 ? part : clampTo(part, parts), column));
    w.emit(assign(sum.name, op("add", sum, op("mul", load(weights, part), value))));
  };
  if (each > mostUnrolled) w.loop("i", each, add);
  else for (const i of range(each)) add(int(i));
  w.emit(store(sums, lane, sum));
  w.emit(barrier);
  const found = range(slices).map((i): Expr => load(sums, irem(iadd(lane, int(i * columns)), int(size))));
  return w.bind(
    "whole",
    found.reduce((a, b) => op("add", a, b)),
  );
}
