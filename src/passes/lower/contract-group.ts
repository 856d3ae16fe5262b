/**
 * Lowering of contractions for GPUs. Axes are of four kinds: those of both operands and the result (batch), those of `a`
 * and the result (outer), those of `b` and the result (rows), and those summed. Three shapes, by the sizes of these:
 *
 * - *rows*: few outer indices and rows of `b` that lie in memory along the sum. Some invocations of a workgroup share a row,
 *   take elements of it in turn, each with a sum for every outer index of a tile, and put their sums together.
 * - *tiles*: many of both. A workgroup computes a square of the result; slices of both operands go through shared memory,
 *   and each invocation keeps the sums of a smaller square.
 * - *elements*: an invocation for each element of the result; where these are few, several that divide the sum.
 */
import { type Expr, iadd, idiv, int, irem, load, op } from "../../ir/kernel/kernel.ts";
import { barrier, note, store, when } from "../../ir/kernel/stmt.ts";
import type { Workgroup } from "../../ir/target.ts";
import type { Group } from "../fuse.ts";
import {
  accumulate,
  countOf,
  finish,
  type Index,
  indexOf,
  type Nest,
  newSum,
  overBatch,
  planNest,
  read,
} from "./contract-nest.ts";
import { lowerTiles, squaresOf } from "./contract-tiles.ts";
import { clampTo, range } from "./index-math.ts";
import type { KernelWriter, Together } from "./writer.ts";

export function lowerContractGroup(w: KernelWriter, group: Group, workgroup: Workgroup): void {
  const nest = planNest(w, group);
  const [outer, rows, summed] = [nest.outer, nest.rows, nest.summed].map((axes) => countOf(nest, axes)) as [
    number,
    number,
    number,
  ]; // as many as were mapped
  const alongSum = nest.summed.includes(nest.bAxes.at(-1) ?? "");
  const squares = countOf(nest, nest.batch) * squaresOf(outer, rows, workgroup);
  const tiles = outer >= 16 && rows >= 16 && summed >= 8;
  if (tiles && (squares >= fewSquares || !alongSum)) lowerTiles(nest, outer, rows, summed, workgroup);
  else if (alongSum && summed >= 32) lowerRowsOf(nest, outer, rows, summed, workgroup);
  else if (countOf(nest, nest.batch) * outer * rows <= fewElements && summed >= 64) {
    lowerSlices(nest, outer, rows, summed, workgroup);
  } else lowerElements(nest, outer, rows, summed);
}

/** So few workgroups would leave most of a GPU idle, however well each computes. */
const fewSquares = 32;

function lowerElements(nest: Nest, outer: number, rows: number, summed: number): void {
  const { w } = nest;
  w.emit(note("an invocation per element"));
  overBatch(nest, (batch) =>
    w.loop(
      "o",
      outer,
      (o) =>
        w.loop(
          "r",
          rows,
          (r) => {
            const [outerIndex, rowIndex] = [indexOf(nest, nest.outer, o), indexOf(nest, nest.rows, r)];
            const sum = newSum(w);
            w.loop("k", summed, (k) => {
              const summedIndex = indexOf(nest, nest.summed, k);
              const a = read(nest, nest.a, nest.aAxes, batch, outerIndex, summedIndex);
              accumulate(w, sum, a, read(nest, nest.b, nest.bAxes, batch, rowIndex, summedIndex));
            });
            finish(nest, sum, batch, outerIndex, rowIndex);
          },
          "grid",
        ),
      "grid",
    ),
  );
}

/** As many elements as a large GPU has invocations for, and more to spare. */
const fewElements = 1 << 14;
/** Neighbouring elements of a workgroup. */
const neighbours = 32;
/** So many terms of an invocation are written one after another, so that all are on their way at once. */
const mostUnrolled = 32;

/** Slices of the sum side by side: an invocation waits for memory a few times instead of as often as there are terms. */
function lowerSlices(nest: Nest, outer: number, rows: number, summed: number, { invocations }: Workgroup): void {
  const { w } = nest;
  const size = Math.max(neighbours, Math.min(invocations, 256));
  w.emit(note(`${size / neighbours} invocations per element`));
  const sums = w.shared("sums", "f32", size);
  const enter = (batch: Index, outerIndex: Index, first: Expr) =>
    w.workgroup(size, ({ lane }) => {
      const row = w.bind("row", iadd(first, irem(lane, int(neighbours))));
      const rowIndex = indexOf(nest, nest.rows, rows % neighbours === 0 ? row : w.bind("inside", clampTo(row, rows)));
      w.emit(store(sums, lane, sumOfSlice(nest, [batch, outerIndex, rowIndex], summed, { lane, size })));
      w.emit(barrier);
      const stores = w.nested(() => {
        const parts = range(size / neighbours).map((i): Expr => {
          return load(sums, irem(iadd(lane, int(i * neighbours)), int(size)));
        });
        const total = parts.reduce((a, b) => op("add", a, b));
        finish(nest, w.bind("total", total), batch, outerIndex, rowIndex);
      });
      w.emit(when(op("and", op("lt", lane, int(neighbours)), op("lt", row, int(rows))), stores));
    });
  overBatch(nest, (batch) => {
    const ofOuter = (o: Expr) => (first: Expr) => enter(batch, indexOf(nest, nest.outer, o), first);
    w.loop("o", outer, (o) => w.loop("r", rows, ofOuter(o), "grid", neighbours), "grid");
  });
}

/** An invocation's part of a sum: every so many-th term. */
function sumOfSlice(nest: Nest, [batch, outer, row]: readonly Index[], summed: number, { lane, size }: Together): Expr {
  const { w } = nest;
  const slices = size / neighbours;
  const slice = w.bind("slice", idiv(lane, int(neighbours)));
  const sum = newSum(w);
  const add = (k: Expr) => {
    const index = indexOf(nest, nest.summed, k);
    const a = read(nest, nest.a, nest.aAxes, batch!, outer!, index);
    accumulate(w, sum, a, read(nest, nest.b, nest.bAxes, batch!, row!, index));
  };
  if (summed % slices === 0 && summed / slices <= mostUnrolled) {
    for (const i of range(summed / slices)) add(iadd(slice, int(i * slices)));
  } else w.strided({ lane: slice, size: slices }, "k", summed, add);
  return sum;
}

/** Outer indices that a loaded element of `b` serves at once. */
const outerTile = 4;

function lowerRowsOf(nest: Nest, outer: number, rows: number, summed: number, { invocations }: Workgroup): void {
  const { w } = nest;
  // A subgroup's worth of invocations for each row where there are many rows, all of a workgroup where there are few.
  const perRow = rows >= 64 ? 32 : Math.min(128, invocations);
  const together = Math.max(1, Math.min(invocations / perRow, 2 ** Math.floor(Math.log2(Math.max(rows, 1)))));
  const tile = Math.min(outer, outerTile);
  w.emit(note(`tile: ${tile} by ${together} rows, ${perRow} invocations a row`));
  overBatch(nest, (batch) =>
    w.loop(
      "o",
      outer,
      (first) =>
        w.loop(
          "r",
          rows,
          (firstRow) =>
            w.workgroup(perRow * together, ({ lane }) => {
              // What is past the end is computed from the last row and not stored.
              const row = w.bind("row", iadd(firstRow, idiv(lane, int(perRow))));
              const start = w.bind("start", irem(lane, int(perRow)));
              const rowIndex = indexOf(
                nest,
                nest.rows,
                rows % together === 0 ? row : w.bind("inside", clampTo(row, rows)),
              );
              const outers = range(tile).map((t) => {
                const at = iadd(first, int(t));
                return indexOf(nest, nest.outer, outer % tile === 0 ? at : clampTo(at, outer));
              });
              const sums = outers.map(() => newSum(w));
              w.strided({ lane: start, size: perRow }, "k", summed, (k) => {
                const summedIndex = indexOf(nest, nest.summed, k);
                const b = w.bind("b", read(nest, nest.b, nest.bAxes, batch, rowIndex, summedIndex));
                for (const [t, sum] of sums.entries()) {
                  accumulate(w, sum, read(nest, nest.a, nest.aAxes, batch, outers[t]!, summedIndex), b);
                }
              });
              const totals = sums.map((sum) => w.combine("total", "add", sum, perRow));
              const mine = op("and", op("eq", start, int(0)), op("lt", row, int(rows)));
              const stores = w.nested(() => {
                for (const [t, total] of totals.entries()) {
                  const at = iadd(first, int(t));
                  const body = w.nested(() => finish(nest, total, batch, outers[t]!, rowIndex));
                  if (outer % tile === 0) for (const stmt of body) w.emit(stmt);
                  else w.emit(when(op("lt", at, int(outer)), body));
                }
              });
              w.emit(when(mine, stores));
            }),
          "grid",
          together,
        ),
      "grid",
      tile,
    ),
  );
}
