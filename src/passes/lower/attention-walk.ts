/**
 * The walk over one token's keys by a workgroup that has one of its heads: what counts is how often an invocation waits for
 * memory. Keys are taken in tiles of half the invocations. Eight invocations share a key, reading neighbouring elements; each
 * has several keys of the tile at once. Values are asked for before the scores are known, as far as registers hold them. What
 * was summed before is scaled when a larger score turns up, so that no scores are kept and the context may be of any length.
 */
import {
  type Expr,
  iadd,
  idiv,
  imul,
  int,
  intrinsic,
  irem,
  isub,
  load,
  num,
  op,
  type Ref,
  select,
  splat,
  sum,
} from "../../ir/kernel/kernel.ts";
import { assign, barrier, store, when } from "../../ir/kernel/stmt.ts";
import { keysEach, perKey, type RowShares } from "./attention-row-choice.ts";
import { lowest, type RowReader } from "./attention-rows.ts";
import { clampTo, range } from "./index-math.ts";
import type { KernelWriter } from "./writer.ts";

/** Keys of an invocation whose values are on their way at once, where it has two vectors of columns. */
const valuesAtOnce = 8;
/** Steps of a product of query and key that are written one after another. */
const mostUnrolled = 32;

export interface Walk extends RowShares {
  readonly w: KernelWriter;
  readonly lane: Expr;
  readonly scale: Expr;
  /** Elements of a key, and how many of them are read together. */
  readonly d: number;
  readonly lanes: number;
  /** Elements of the query from `j` on. */
  readonly query: (j: Expr) => Expr;
  readonly keys: RowReader;
  readonly values: RowReader;
  /** Keys that this workgroup sees, and the number of the key that is so many-th of them. */
  readonly count: Expr;
  readonly keyAt: (index: Expr) => Expr;
  /** The largest number of a key, and one more. */
  readonly end: number;
}

export interface Sums {
  readonly most: Ref;
  readonly total: Ref;
  /** Vectors of the invocation's columns. */
  readonly columns: readonly Ref[];
}

/** The largest score, the sum of weights, and the sums of weights times values for each of an invocation's columns. */
export function walkKeys(walk: Walk): Sums {
  const { w, lane, tile, slices, lanes, count } = walk;
  const weights = w.shared("weights", "f32", tile);
  const sums: Sums = {
    most: w.variable("most", lowest),
    total: w.variable("total", num("f32", 0)),
    columns: range(walk.columns / lanes).map(() => w.variable("sum", splat(num("f32", 0), lanes))),
  };
  const part = w.bind("part", irem(lane, int(perKey)));
  const own = w.bind("own", idiv(lane, int(perKey)));
  const fresh = freshKey(walk, part);
  const slice = w.bind("slice", irem(lane, int(slices)));
  const readColumns = columnReader(walk);
  const each = tile / slices;
  const atOnce = Math.max(1, (2 * valuesAtOnce) / sums.columns.length);
  const early = each <= atOnce;
  const seenKeys = range(keysEach).map((i) => w.bind("key", iadd(own, int((i * walk.size) / perKey))));
  w.loop(
    "t",
    count,
    (first) => {
      const left = w.bind("count", op("min", isub(count, first), int(tile)));
      // The last key that is seen stands for those that are not.
      const sourceOf = (key: Expr) => sourceAt(walk, iadd(first, op("min", key, isub(left, int(1)))));
      const valuesOf = (from: Expr, some: number) =>
        range(some).map((i) => {
          const key = w.bind("key", iadd(iadd(from, int(i * slices)), slice));
          return { key, vectors: readColumns(sourceOf(key)) };
        });
      const parts = seenKeys.map((key) => dotOf(walk, walk.keys.row(sourceOf(key)).at, part));
      const values = early ? valuesOf(int(0), each) : [];
      for (const [i, key] of seenKeys.entries()) {
        const whole = w.combine("whole", "add", parts[i]!, perKey);
        w.emit(when(op("eq", part, int(0)), [store(weights, key, whole)]));
      }
      const mine = clampTo(lane, tile);
      const isNew = fresh && walk.keys.row(sourceOf(mine)).isNew;
      w.emit(barrier);
      const found = load(weights, mine);
      const dot = isNew === undefined ? found : select(isNew, fresh!, found);
      weigh(walk, sums, { weights, seen: w.bind("seen", op("lt", lane, left)), dot });
      const add = (some: ReturnType<typeof valuesOf>) => {
        for (const { key, vectors } of some) {
          const weight = w.bind("p", splat(load(weights, early ? key : clampTo(key, tile)), lanes));
          for (const [i, value] of vectors.entries()) {
            const column = sums.columns[i]!;
            w.emit(assign(column.name, timesPlus(weight, value, column)));
          }
        }
      };
      if (early) add(values);
      else w.loop("u", left, (u) => add(valuesOf(u, atOnce)), "serial", slices * atOnce);
      w.emit(barrier);
    },
    "serial",
    tile,
  );
  return sums;
}

function sourceAt({ w, keyAt, end }: Walk, index: Expr): Expr {
  return w.bind("source", clampTo(keyAt(index), end));
}

/** The new key's product with the query, if this kernel computes a new key. */
function freshKey(walk: Walk, part: Expr): Expr | undefined {
  const { fresh } = walk.keys;
  if (fresh === undefined) return undefined;
  return walk.w.combine("fresh", "add", dotOf(walk, fresh, part), perKey);
}

/** An invocation's part of the product of the query and a key: every so many-th vector of elements. */
function dotOf({ w, d, lanes, query }: Walk, key: (j: Expr) => Expr, part: Expr): Expr {
  const all = w.variable("dot", splat(num("f32", 0), lanes));
  const vectors = d / lanes;
  const add = (i: Expr) => {
    const j = imul(i, int(lanes));
    w.emit(assign(all.name, timesPlus(query(j), key(j), all)));
  };
  const whole = vectors > mostUnrolled * perKey ? 0 : vectors - (vectors % perKey);
  for (let i = 0; i < whole; i += perKey) add(iadd(part, int(i)));
  if (whole < vectors) {
    w.strided({ lane: part, size: perKey }, "j", vectors - whole, (i) => add(iadd(i, int(whole))));
  }
  return w.bind("part_of_dot", sum(all));
}

/** Reads an invocation's columns of a value. */
function columnReader(walk: Walk): (source: Expr) => Expr[] {
  const { w, values, lanes } = walk;
  const first = columnOf(walk);
  const { e } = values;
  const even = e % walk.columns === 0;
  const begin = w.bind("column", isWhole(walk) || !even ? first : clampTo(first, e - walk.columns + 1));
  const columns = range(walk.columns / lanes).map((i) => {
    const column = iadd(begin, int(i * lanes));
    return even ? column : w.bind("column", clampTo(column, e - lanes + 1));
  });
  const { fresh } = values;
  const own = fresh && columns.map((column) => w.bind("fresh_value", fresh(column)));
  return (source) => {
    const row = values.row(source);
    return columns.map((column, i) => {
      const value = w.bind("value", row.at(column));
      return own === undefined ? value : w.bind("value", select(row.isNew!, own[i]!, value));
    });
  };
}

/** The weights of a tile's keys, one of an invocation, by the largest score so far. */
function weigh(
  { w, lane, size, tile, lanes, scale }: Walk,
  { most, total, columns }: Sums,
  { weights, seen, dot }: { readonly weights: Parameters<typeof store>[0]; readonly seen: Expr; readonly dot: Expr },
): void {
  const mine = w.bind("mine", op("mul", dot, scale));
  const score = w.bind("score", select(seen, mine, lowest));
  const next = w.bind("next", op("max", most, w.combine("tile_most", "max", score, size)));
  const weight = w.bind("weight", select(seen, op("exp", op("sub", score, next)), num("f32", 0)));
  w.emit(when(op("lt", lane, int(tile)), [store(weights, clampTo(lane, tile), weight)]));
  const tileTotal = w.combine("tile_total", "add", weight, size);
  const shrink = w.bind("shrink", op("exp", op("sub", most, next)));
  w.emit(assign(most.name, next));
  w.emit(assign(total.name, op("add", op("mul", total, shrink), tileTotal)));
  for (const each of columns) w.emit(assign(each.name, op("mul", each, splat(shrink, lanes))));
}

/** The first of an invocation's columns; beyond the last for invocations that have none. */
export function columnOf({ lane, slices, columns }: Pick<Walk, "lane" | "slices" | "columns">): Expr {
  return imul(idiv(lane, int(slices)), int(columns));
}

/** Whether every invocation has columns, and all of them. */
export function isWhole({ size, slices, columns, values }: Walk): boolean {
  return (size / slices) * columns === values.e;
}

function timesPlus(a: Expr, b: Expr, c: Expr): Expr {
  return c.type.lanes > 1 ? intrinsic("fma", a, b, c) : op("add", op("mul", a, b), c);
}
