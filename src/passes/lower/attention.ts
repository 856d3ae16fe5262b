/**
 * Lowering of causal attention to one kernel: per token and tile of query heads that share a key head, scores of the
 * visible keys, their softmax, and the weighted sum of values. Each key and value is read once per tile of heads; keys
 * beyond the token's position are never touched, so time follows the length of the sequence, not of the cache. Where
 * columns of a value lie side by side in memory, its sum is kept in vectors of them.
 */
import { invariant } from "../../ir/errors.ts";
import { attrsOf, type Node } from "../../ir/graph.ts";
import {
  type Buf,
  cast,
  type Expr,
  extract,
  iadd,
  idiv,
  imul,
  int,
  intrinsic,
  irem,
  load,
  num,
  op,
  ref,
  splat,
} from "../../ir/kernel/kernel.ts";
import { assign, note, store, variable, when } from "../../ir/kernel/stmt.ts";
import { valueType } from "../../ir/kernel/value.ts";
import type { Workgroup } from "../../ir/target.ts";
import { lowerAttentionRow } from "./attention-row.ts";
import { liesInRows, widened } from "./attention-rows.ts";
import { lowerAttentionTiles } from "./attention-tiles.ts";
import { lowerAttentionTokens } from "./attention-tokens.ts";
import { clampTo, flatten, range } from "./index-math.ts";
import { forEachElement } from "./map.ts";
import type { KernelWriter } from "./writer.ts";

/** Everything the parts of the kernel share. */
interface Tile {
  readonly w: KernelWriter;
  /** Query heads that share a key head and are computed together. */
  readonly heads: number;
  /** Keys scored together, and columns of the values summed together. */
  readonly keys: number;
  readonly columns: number;
  readonly s: number;
  readonly d: number;
  readonly e: number;
  readonly q: Buf;
  /** [heads, pitch]: the last keys may be scored twice, so that tiles need not be cut. */
  readonly scores: Buf;
  readonly pitch: number;
  readonly visible: Expr;
}

/** For ops of parts: where these are made, there are workgroups to have them. */
export const ofWorkgroups =
  (lower: (w: KernelWriter, anchor: Node, workgroup: Workgroup) => void) =>
  (w: KernelWriter, anchor: Node): void => {
    const { workgroup } = w.target;
    invariant(workgroup !== null, () => `${anchor.op} is for workgroups`);
    lower(w, anchor, workgroup);
  };

export function lowerAttention(w: KernelWriter, anchor: Node): void {
  if (w.target.workgroup !== null) {
    if (!lowerAttentionTiles(w, anchor, w.target.workgroup)) lowerAttentionRow(w, anchor, w.target.workgroup);
    return;
  }
  if (lowerAttentionTokens(w, anchor)) return;
  const [q, k, v, positions, sequence] = anchor.ins as [Node, Node, Node, Node, Node]; // attention takes five operands
  const [n, h, d] = q.type.shape as [number, number, number]; // of rank 3
  const [b, s, g] = k.type.shape as [number, number, number]; // of rank 4
  const e = v.type.shape[3]!;
  const sums = w.target.lanes === 1 ? 8 : 12;
  // Heads that share a key head, as many as have room for their scores: half the scratch, the rest is for the query.
  const fits = (size: number) => (h / g) % size === 0 && (size === 1 || 4 * size * s <= w.target.scratchBytes / 2);
  const heads = (w.target.lanes === 1 ? [4, 2, 1] : [6, 4, 3, 2, 1]).find(fits)!;
  const scale = Number(attrsOf(anchor).scale);
  const [keys, columns] = [Math.floor(sums / heads), Math.floor(sums / heads)];
  const pitch = s + keys - 1;
  const queries = w.scratch("query", "f32", heads * d);
  const scores = w.scratch("scores", "f32", heads * pitch);
  // Tiles of heads are shared out as tokens are: one token alone is work for several threads.
  const tiles = h / heads;
  w.loop(
    "tile",
    n * tiles,
    (each) => {
      const [token, head] = [w.bind("token", idiv(each, int(tiles))), imul(irem(each, int(tiles)), int(heads))];
      const first = w.bind("head", head);
      const position = w.bind("position", w.value(positions, [token]));
      // Not position + 1 against s: the largest position would wrap.
      const visible = w.bind("visible", iadd(op("min", position, int(s - 1)), int(1)));
      const row = w.bind("row", clampTo(w.value(sequence, [token]), b));
      const group = w.bind("group", idiv(imul(first, int(g)), int(h)));
      const tile: Tile = { w, heads, keys, columns, s, d, e, q: queries, scores, pitch, visible };
      for (let i = 0; i < heads; i++) {
        forEachElement(w, q, [token, iadd(first, int(i)), null], (idx, value) => {
          w.emit(store(queries, iadd(idx[2]!, int(i * d)), value));
        });
      }
      const most = writeScores(tile, scale, (t, j) => w.value(k, [row, t, group, j]));
      const totals = writeWeights(tile, most);
      writeSums(
        tile,
        (t, j) => w.value(v, [row, t, group, j]),
        (i, j, sum) => {
          const at = flatten([token, iadd(first, int(i)), j], [n, h, e]);
          w.emit(store(w.out, at, cast("f32", op("div", sum, totals[i]!))));
        },
      );
    },
    "grid",
  );
}

/** scores[i, t] = scale * query[i] . key[t]; gives the largest score of each head. */
function writeScores(
  { w, heads, keys, d, q, scores, pitch, visible }: Tile,
  scale: number,
  key: (t: Expr, j: Expr) => Expr,
): Expr[] {
  const { accumulator } = w.target;
  const most = range(heads).map(() => ref(w.unique("most"), "f32"));
  for (const name of most) w.emit(variable(name.name, num("f32", Number.NEGATIVE_INFINITY)));
  const tileOfKeys = (t: Expr) => {
    // Past the last visible key the last one is scored again, which changes no maximum.
    const last = iadd(visible, int(-1));
    const at = range(keys).map((u) =>
      u === 0 ? t : w.bind("key", op("max", op("min", iadd(t, int(u)), last), int(0))),
    );
    const dots = most.map(() => at.map(() => ref(w.unique("dot"), accumulator)));
    for (const dot of dots.flat()) w.emit(variable(dot.name, num(accumulator, 0)));
    w.loop("j", d, (j) => {
      const values = at.map((each) => w.bind("x", cast(accumulator, key(each, j))));
      for (const [i, row] of dots.entries()) {
        const factor = w.bind("q", cast(accumulator, load(q, iadd(j, int(i * d)))));
        for (const [u, dot] of row.entries()) w.emit(assign(dot.name, op("add", dot, op("mul", factor, values[u]!))));
      }
    });
    for (const [i, row] of dots.entries()) {
      for (const [u, dot] of row.entries()) {
        const score = w.bind("score", cast("f32", op("mul", dot, num(accumulator, scale))));
        w.emit(store(scores, iadd(t, int(i * pitch + u)), score));
        w.emit(assign(most[i]!.name, op("max", most[i]!, score)));
      }
    }
  };
  w.loop("t", visible, tileOfKeys, "serial", keys);
  return most;
}

/** scores[i, t] = exp(scores[i, t] - most[i]); gives each head's total, 1 where nothing is visible. */
function writeWeights({ w, heads, scores, pitch, visible }: Tile, most: readonly Expr[]): Expr[] {
  const { accumulator } = w.target;
  const totals = range(heads).map(() => ref(w.unique("total"), accumulator));
  for (const [i, total] of totals.entries()) {
    w.emit(variable(total.name, num(accumulator, 0)));
    w.loop("t", visible, (t) => {
      const at = iadd(t, int(i * pitch));
      const weight = w.bind("weight", op("exp", op("sub", load(scores, at), most[i]!)));
      w.emit(store(scores, at, weight));
      w.emit(assign(total.name, op("add", total, cast(accumulator, weight))));
    });
  }
  // 0 / 1 is the 0 that a token without visible keys must give.
  const none = op("le", visible, int(0));
  w.emit(
    when(
      none,
      totals.map((total) => assign(total.name, num(accumulator, 1))),
    ),
  );
  return totals;
}

/** `done(i, j, sum over t of scores[i, t] * value[t, j])` for every head and column. */
function writeSums(tile: Tile, value: (t: Expr, j: Expr) => Expr, done: (i: number, j: Expr, sum: Expr) => void): void {
  const { w, heads, e, scores, pitch, visible } = tile;
  const { accumulator } = w.target;
  const lanes = e % w.target.lanes === 0 && liesInRows(w, value) ? w.target.lanes : 1;
  const type = valueType(accumulator, lanes);
  const wide = (x: Expr): Expr => (lanes === 1 ? x : splat(x, lanes));
  const columns = range(tile.columns + 1).findLast((size) => e % (size * lanes) === 0)!;
  w.emit(note(`tile: ${heads} heads by ${columns} columns of ${lanes}`));
  const tileOfColumns = (first: Expr) => {
    const at = (u: number) => iadd(first, int(u * lanes));
    const sums = range(heads).map(() => range(columns).map(() => ref(w.unique("sum"), type)));
    for (const sum of sums.flat()) w.emit(variable(sum.name, wide(num(accumulator, 0))));
    w.loop("t", visible, (t) => {
      const values = range(columns).map((u) => w.bind("x", cast(accumulator, widened(value(t, at(u)), lanes))));
      for (const [i, row] of sums.entries()) {
        const weight = w.bind("weight", wide(cast(accumulator, load(scores, iadd(t, int(i * pitch))))));
        for (const [u, sum] of row.entries()) {
          const x = values[u]!;
          const next = lanes === 1 ? op("add", sum, op("mul", weight, x)) : intrinsic("fma", weight, x, sum);
          w.emit(assign(sum.name, next));
        }
      }
    });
    for (const [i, row] of sums.entries()) {
      for (const [u, sum] of row.entries()) {
        if (lanes === 1) done(i, at(u), sum);
        else for (const lane of range(lanes)) done(i, iadd(at(u), int(lane)), extract(sum, lane));
      }
    }
  };
  w.loop("j", e, tileOfColumns, "serial", columns * lanes);
}
