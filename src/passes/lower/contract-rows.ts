/**
 * Contractions on GPUs with rows of `b` that lie in memory along the sum, and not so many outer indices that squares of the
 * result would fill workgroups: some invocations share a row, take four elements of it in turn with as many of each outer
 * index of a tile, and put their sums together. What an invocation needs is asked for before any of it is used.
 */
import {
  type Expr,
  extract,
  iadd,
  idiv,
  imul,
  int,
  intrinsic,
  irem,
  num,
  op,
  type Ref,
  splat,
  sum,
} from "../../ir/kernel/kernel.ts";
import { assign, note, when } from "../../ir/kernel/stmt.ts";
import type { Workgroup } from "../../ir/target.ts";
import { lanesAlong, readLanes } from "./contract-lanes.ts";
import { countOf, finish, type Index, indexOf, type Nest, overBatch } from "./contract-nest.ts";
import { clampTo, range } from "./index-math.ts";

/** Outer indices that a loaded element of `b` serves at once. */
export const outerTile = 4;
/** Vectors of a row that an invocation asks for at once. */
const atOnce = 4;
/** Invocations that keep a large GPU busy. */
const busy = 1 << 17;

export function lowerRowsOf(nest: Nest, outer: number, rows: number, summed: number, { invocations }: Workgroup): void {
  const { w } = nest;
  const lanes = lanesAlong(nest, nest.summed, operandsOf(nest));
  const tile = Math.min(outer, outerTile);
  const steps = summed / lanes;
  const results = countOf(nest, nest.batch) * Math.ceil(outer / tile) * rows;
  // A subgroup's worth of invocations for each row, or more where there are few rows for long sums.
  let perRow = Math.min(32, invocations);
  while (perRow < invocations && 2 * perRow * results <= busy && steps > atOnce * perRow) perRow *= 2;
  const together = Math.max(1, Math.min(invocations / perRow, 2 ** Math.floor(Math.log2(Math.max(rows, 1)))));
  w.emit(note(`tile: ${tile} by ${together} rows, ${perRow} invocations a row, ${lanes} elements at once`));
  const inRows = (batch: Index, first: Expr) => (firstRow: Expr) =>
    w.workgroup(perRow * together, ({ lane }) => {
      // What is past the end is computed from the last row and not stored.
      const row = w.bind("row", iadd(firstRow, idiv(lane, int(perRow))));
      const start = w.bind("start", irem(lane, int(perRow)));
      const inside = rows % together === 0 ? row : w.bind("inside", clampTo(row, rows));
      const rowIndex = indexOf(nest, nest.rows, inside);
      const outers = outersOf(nest, first, outer, tile);
      const place: Place = { batch, rowIndex, outers, lanes, start, perRow, steps };
      const totals = putTogether(nest, sumsOf(nest, place), perRow);
      const stores = w.nested(() => storeOuters(nest, { first, outer, outers, totals }, batch, rowIndex));
      w.emit(when(op("and", op("eq", start, int(0)), op("lt", row, int(rows))), stores));
    });
  overBatch(nest, (batch) => {
    const ofOuter = (first: Expr) => w.loop("r", rows, inRows(batch, first), "grid", together);
    w.loop("o", outer, ofOuter, "grid", tile);
  });
}

const operandsOf = ({ a, aAxes, b, bAxes }: Nest) =>
  [
    [a, aAxes],
    [b, bAxes],
  ] as const;

/** The indices of a tile of outer ones from `first` on; those past the end are the last. */
export function outersOf(nest: Nest, first: Expr, outer: number, tile: number): readonly Index[] {
  return range(tile).map((t) => {
    const at = iadd(first, int(t));
    return indexOf(nest, nest.outer, outer % tile === 0 ? at : clampTo(at, outer));
  });
}

interface Place {
  readonly batch: Index;
  readonly rowIndex: Index;
  readonly outers: readonly Index[];
  readonly lanes: 1 | 4;
  /** The invocation's number of those that share the row. */
  readonly start: Expr;
  readonly perRow: number;
  /** Vectors of the row. */
  readonly steps: number;
}

/** An invocation's part of each sum. */
function sumsOf(nest: Nest, { batch, rowIndex, outers, lanes, start, perRow, steps }: Place): readonly Expr[] {
  const { w } = nest;
  const [a, b] = operandsOf(nest);
  const sums = outers.map(() => w.variable("acc", splat(num(w.target.accumulator, 0), lanes)));
  const add = (from: Expr, count: number) => {
    const places = range(count).map((i) => w.bind("k", imul(iadd(from, int(i * perRow)), int(lanes))) as Ref); // not a number
    const axes = nest.summed;
    const bs = places.map((at) => w.bind("b", readLanes(nest, b, lanes, { at, axes }, batch, rowIndex)));
    for (const [i, at] of places.entries()) {
      for (const [t, each] of sums.entries()) {
        const value = readLanes(nest, a, lanes, { at, axes }, batch, outers[t]!);
        w.emit(assign(each.name, op("add", each, op("mul", value, bs[i]!))));
      }
    }
  };
  const each = steps / perRow;
  if (each <= 2 * atOnce && Number.isInteger(each)) add(start, each);
  else {
    const count = each % atOnce === 0 ? atOnce : 1;
    w.strided({ lane: start, size: perRow * count }, "j", steps - (count - 1) * perRow, (j) => add(j, count));
  }
  return sums.map((each) => sum(each));
}

/** Sums of four outer indices go together. */
function putTogether({ w }: Nest, sums: readonly Expr[], perRow: number): readonly Expr[] {
  if (sums.length !== 4) return sums.map((each) => w.combine("total", "add", each, perRow));
  const all = w.combine("totals", "add", intrinsic("join4", ...sums), perRow);
  return range(4).map((t) => extract(all, t));
}

interface Finished {
  readonly first: Expr;
  readonly outer: number;
  readonly outers: readonly Index[];
  readonly totals: readonly Expr[];
}

/** Stores a finished sum of each outer index of a tile. */
export function storeOuters(nest: Nest, { first, outer, outers, totals }: Finished, ...parts: readonly Index[]): void {
  const { w } = nest;
  for (const [t, total] of totals.entries()) {
    const body = w.nested(() => finish(nest, total, ...parts, outers[t]!));
    if (outer % outers.length === 0) for (const stmt of body) w.emit(stmt);
    else w.emit(when(op("lt", iadd(first, int(t)), int(outer)), body));
  }
}
