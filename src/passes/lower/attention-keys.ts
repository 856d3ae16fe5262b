/** What a tile of attention of many tokens does with the keys of a sequence: scores, their softmax, and sums of values. */
import type { Node } from "../../ir/graph.ts";
import {
  type Buf,
  type Expr,
  iadd,
  imul,
  int,
  intrinsic,
  isub,
  load,
  num,
  op,
  type Ref,
  select,
  splat,
} from "../../ir/kernel/kernel.ts";
import { assign, store } from "../../ir/kernel/stmt.ts";
import { lowest } from "./attention-rows.ts";
import { clampTo, range } from "./index-math.ts";
import { forEachElement } from "./map.ts";
import type { KernelWriter } from "./writer.ts";

/** Keys that are in scratch at once: with values of 128 columns, half of a first cache. */
export const keysAtOnce = 32;
/** Sums in registers, beside what is multiplied. */
export const sumsAtOnce = 8;

const zero = splat(num("f32", 0), 4);

export interface RowTile {
  readonly tokens: number;
  /** Query heads, all of one key head. */
  readonly heads: number;
  readonly rows: number;
}

export interface Tile extends RowTile {
  readonly w: KernelWriter;
  readonly k: Node;
  readonly v: Node;
  readonly scale: Expr;
  /** Rows whose queries are in registers together, a multiple of four. */
  readonly block: number;
  /** The key head. */
  readonly group: Expr;
  /** [j, row] */
  readonly queries: Buf;
  /** Some keys, or some values. */
  readonly near: Buf;
  /** [key, row]: scores, then weights. */
  readonly scores: Buf;
  /** [row]: how many keys it sees in this walk, its largest score, and the sum of its weights. */
  readonly visible: Buf;
  readonly most: Buf;
  readonly totals: Buf;
  /** [row, column] */
  readonly sums: Buf;
}

/** Walks the keys of sequence `of` below `end`. */
export function walkKeys(tile: Tile, of: Expr, end: Expr): void {
  const { w, rows, most } = tile;
  w.loop("r", rows, (row) => w.emit(store(most, row, lowest)));
  const inPieces = (node: Node, body: (first: Expr, count: Expr) => void) =>
    w.loop(
      "t",
      end,
      (first) => {
        const count = w.bind("count", op("min", isub(end, first), int(keysAtOnce)));
        bring(tile, node, of, first, count);
        body(first, count);
      },
      "serial",
      keysAtOnce,
    );
  inPieces(tile.k, (first, count) => writeScores(tile, first, count));
  writeWeights(tile, end);
  inPieces(tile.v, (first, count) => addValues(tile, first, count));
}

/** Brings keys, or values, from `first` on near; so many that the last is there again where they are taken together. */
function bring({ w, near, group }: Tile, node: Node, of: Expr, first: Expr, count: Expr): void {
  const [, s, , width] = node.type.shape as [number, number, number, number]; // of rank 4
  const last = w.bind("last", iadd(first, isub(count, int(1))));
  const wanted = w.bind("wanted", op("min", iadd(count, int(sumsAtOnce)), int(keysAtOnce)));
  w.loop("u", wanted, (u) => {
    const key = w.bind("key", clampTo(op("min", iadd(first, u), last), s));
    forEachElement(w, node, [of, key, group, null], (idx, value) => {
      w.emit(store(near, iadd(imul(u, int(width)), idx[3]!), value));
    });
  });
}

/** Scores of the keys that are near, the lowest where a row does not see one, and the largest of each row. */
function writeScores(
  { w, k, rows, block, scale, queries, near, scores, visible, most }: Tile,
  first: Expr,
  count: Expr,
): void {
  const d = k.type.shape[3]!;
  const fours = range(block / 4);
  const keys = range((4 * sumsAtOnce) / block);
  const someKeys = (row: Expr) => (u: Expr) => {
    const sums = keys.map(() => fours.map(() => w.variable("dot", zero)));
    w.loop("j", d, (j) => {
      const qs = fours.map((i) => w.bind("q", load(queries, iadd(imul(j, int(rows)), iadd(row, int(4 * i))), 4)));
      for (const [a, ofKey] of sums.entries()) {
        const x = w.bind("x", splat(load(near, iadd(imul(iadd(u, int(a)), int(d)), j)), 4));
        for (const [i, sum] of ofKey.entries()) w.emit(assign(sum.name, intrinsic("fma", qs[i]!, x, sum)));
      }
    });
    for (const [a, ofKey] of sums.entries()) {
      const t = w.bind("t", iadd(first, iadd(u, int(a))));
      for (const [i, sum] of ofKey.entries()) {
        const at = iadd(row, int(4 * i));
        const seen = op("lt", splat(t, 4), load(visible, at, 4));
        const score = w.bind("score", select(seen, op("mul", sum, splat(scale, 4)), splat(lowest, 4)));
        w.emit(store(scores, iadd(imul(t, int(rows)), at), score));
        w.emit(store(most, at, op("max", load(most, at, 4), score)));
      }
    }
  };
  w.loop("row", rows, (row) => w.loop("u", count, someKeys(row), "serial", keys.length), "serial", block);
}

/** scores = exp(scores - most), 0 where a row does not see a key; adds them to the totals. */
function writeWeights({ w, rows, block, scores, visible, most, totals }: Tile, end: Expr): void {
  const ofBlock = (row: Expr) => {
    const fours = range(block / 4).map((i) => {
      const at = iadd(row, int(4 * i));
      const kept = [w.bind("seen", load(visible, at, 4)), w.bind("most", load(most, at, 4))] as const;
      return { at, kept, total: w.variable("total", load(totals, at, 4)) };
    });
    w.loop("t", end, (t) => {
      for (const { at, kept, total } of fours) {
        const own = iadd(imul(t, int(rows)), at);
        const power = op("exp", op("sub", load(scores, own, 4), kept[1]));
        const weight = w.bind("weight", select(op("lt", splat(t, 4), kept[0]), power, zero));
        w.emit(store(scores, own, weight));
        w.emit(assign(total.name, op("add", total, weight)));
      }
    });
    for (const { at, total } of fours) w.emit(store(totals, at, total));
  };
  w.loop("row", rows, ofBlock, "serial", block);
}

/** sums += weights of the keys that are near, times their values. */
function addValues({ w, v, rows, near, scores, sums }: Tile, first: Expr, count: Expr): void {
  const e = v.type.shape[3]!;
  const fours = range(e % 8 === 0 ? 2 : 1);
  const some = (row: Expr) => (column: Expr) => {
    const at = (r: number, c: number) => iadd(imul(iadd(row, int(r)), int(e)), iadd(column, int(4 * c)));
    const own: (readonly Ref[])[] = range(4).map((r) => fours.map((c) => w.variable("sum", load(sums, at(r, c), 4))));
    w.loop("u", count, (u) => {
      const xs = fours.map((c) => w.bind("x", load(near, iadd(imul(u, int(e)), iadd(column, int(4 * c))), 4)));
      for (const [r, ofRow] of own.entries()) {
        const weight = w.bind("p", splat(load(scores, iadd(imul(iadd(first, u), int(rows)), iadd(row, int(r)))), 4));
        for (const [c, sum] of ofRow.entries()) w.emit(assign(sum.name, intrinsic("fma", weight, xs[c]!, sum)));
      }
    });
    for (const [r, ofRow] of own.entries()) for (const [c, sum] of ofRow.entries()) w.emit(store(sums, at(r, c), sum));
  };
  w.loop("row", rows, (row) => w.loop("c", e, some(row), "serial", 4 * fours.length), "serial", 4);
}
