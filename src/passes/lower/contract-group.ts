/**
 * Lowering of contractions for GPUs. Axes are of four kinds: those of both operands and the result (batch), those of `a`
 * and the result (outer), those of `b` and the result (rows), and those summed. Four shapes, by the sizes of these:
 *
 * - *rows*: few outer indices and rows of `b` that lie in memory along the sum (`contract-rows.ts`).
 * - *slices*: few outer indices and sums that do not run along memory. Some invocations divide each sum of some outer indices.
 * - *tiles*: many of both. A workgroup computes a square of the result; slices of both operands go through shared memory,
 *   and each invocation keeps the sums of a smaller square.
 * - *elements*: an invocation for each element of the result.
 */
import { type Expr, extract, iadd, idiv, imul, int, irem, num, op, type Ref, splat } from "../../ir/kernel/kernel.ts";
import { assign, note, when } from "../../ir/kernel/stmt.ts";
import type { Workgroup } from "../../ir/target.ts";
import type { Group } from "../fuse.ts";
import { lanesAlong, readLanes } from "./contract-lanes.ts";
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
import { lowerRowsOf, outersOf, outerTile, storeOuters } from "./contract-rows.ts";
import { lowerTiles, squaresOf } from "./contract-tiles.ts";
import { range } from "./index-math.ts";
import type { KernelWriter } from "./writer.ts";

export function lowerContractGroup(w: KernelWriter, group: Group, workgroup: Workgroup): void {
  const nest = planNest(w, group);
  const [outer, rows, summed] = [nest.outer, nest.rows, nest.summed].map((axes) => countOf(nest, axes)) as [
    number,
    number,
    number,
  ]; // as many as were mapped
  const alongSum = nest.summed.includes(nest.bAxes.at(-1) ?? "");
  const squares = countOf(nest, nest.batch) * squaresOf(outer, rows, workgroup);
  const few = outer < fewOuter;
  const tiles = outer >= 16 && rows >= 16 && summed >= 8;
  if (alongSum && summed >= 32 && (few || !tiles || squares < fewSquares))
    lowerRowsOf(nest, outer, rows, summed, workgroup);
  else if (!alongSum && few && summed >= 64) lowerSlices(nest, outer, rows, workgroup);
  else if (tiles) lowerTiles(nest, outer, rows, summed, workgroup);
  else lowerElements(nest, outer, rows, summed);
}

/** So few workgroups would leave most of a GPU idle, however well each computes. */
const fewSquares = 32;
/** With fewer outer indices an invocation of a square has a sum or four, and meets the others for each sixteen terms. */
const fewOuter = 64;

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

/** Neighbouring elements, or fours of them, of a workgroup. */
const [fewestColumns, mostColumns] = [8, 32];
/** Invocations that keep a large GPU busy. */
const busy = 1 << 16;
/** So many terms of an invocation are written one after another, so that all are on their way at once. */
const mostUnrolled = 32;

/** How a workgroup divides sums that do not run along memory. */
interface Slices {
  /** Elements of a row that an invocation has at once, and outer indices. */
  readonly lanes: 1 | 4;
  readonly tile: number;
  readonly columns: number;
  /** Invocations that share a sum. */
  readonly slices: number;
}

/** Slices of the sum side by side: an invocation waits for memory a few times instead of as often as there are terms. */
function lowerSlices(nest: Nest, outer: number, rows: number, { invocations }: Workgroup): void {
  const { w } = nest;
  const lanes = lanesAlong(nest, nest.rows, [[nest.b, nest.bAxes]]);
  const tile = Math.min(outer, outerTile);
  const size = Math.max(mostColumns, Math.min(invocations, 256));
  const all = (countOf(nest, nest.batch) * Math.ceil(outer / tile) * rows) / lanes;
  let columns = fewestColumns;
  while (columns < mostColumns && (all * size) / columns > busy) columns *= 2;
  const form: Slices = { lanes, tile, columns, slices: size / columns };
  w.emit(note(`tile: ${tile} by ${columns} times ${lanes} elements, ${form.slices} invocations for each`));
  const width = columns * lanes;
  const enter = (batch: Index, first: Expr) => (firstRow: Expr) =>
    w.workgroup(size, ({ lane }) => {
      const column = w.bind("row", iadd(firstRow, imul(irem(lane, int(columns)), int(lanes))));
      const inside = op("min", column, int(rows - lanes));
      const row = rows % width === 0 ? column : w.bind("inside", inside);
      const slice = w.bind("slice", idiv(lane, int(columns)));
      const outers = outersOf(nest, first, outer, tile);
      const sums = sumsOfSlice(nest, form, slice, batch, outers, row as Ref); // not a number
      const totals = sums.map((each) => w.combine("total", "add", each, form.slices, columns));
      const stores = w.nested(() => {
        for (const i of range(lanes)) {
          const mine = totals.map((each) => extract(each, i));
          storeOuters(nest, { first, outer, outers, totals: mine }, batch, indexOf(nest, nest.rows, iadd(row, int(i))));
        }
      });
      w.emit(when(op("and", op("eq", slice, int(0)), op("lt", column, int(rows))), stores));
    });
  overBatch(nest, (batch) => {
    w.loop("o", outer, (first) => w.loop("r", rows, enter(batch, first), "grid", width), "grid", tile);
  });
}

/** An invocation's part of the sums: a run of their terms. */
function sumsOfSlice(
  nest: Nest,
  { lanes, slices }: Slices,
  slice: Expr,
  batch: Index,
  outers: readonly Index[],
  row: Ref,
): readonly Expr[] {
  const { w } = nest;
  const [a, b] = [[nest.a, nest.aAxes] as const, [nest.b, nest.bAxes] as const];
  const sums = outers.map(() => w.variable("acc", splat(num(w.target.accumulator, 0), lanes)));
  const summed = countOf(nest, nest.summed);
  const each = summed / slices;
  const terms = each % 4 === 0 ? lanesAlong(nest, nest.summed, [a]) : 1;
  const add = (k: Expr) => {
    const at = w.bind("k", k) as Ref; // not a number
    const bs = range(terms).map((i) => {
      const term = indexOf(nest, nest.summed, iadd(at, int(i)));
      return w.bind("b", readLanes(nest, b, lanes, { at: row, axes: nest.rows }, batch, term));
    });
    for (const [t, own] of sums.entries()) {
      const value = w.bind("a", readLanes(nest, a, terms, { at, axes: nest.summed }, batch, outers[t]!));
      for (const [i, factor] of bs.entries()) {
        const one = splat(extract(value, i), lanes);
        w.emit(assign(own.name, op("add", own, op("mul", one, factor))));
      }
    }
  };
  const first = imul(slice, int(each));
  if (!Number.isInteger(each)) w.strided({ lane: slice, size: slices }, "k", summed, add);
  else if (each <= mostUnrolled) for (let i = 0; i < each; i += terms) add(iadd(first, int(i)));
  else w.loop("j", each, (j) => add(iadd(first, j)), "serial", terms);
  return sums;
}
