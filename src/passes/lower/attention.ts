/**
 * Lowering of causal attention to one kernel: per token and tile of query heads that share a key head, scores of the
 * visible keys, their softmax, and the weighted sum of values. Each key and value is read once per tile of heads; keys
 * beyond the token's position are never touched, so time follows the length of the sequence, not of the cache.
 */
import { attrsOf, type Node } from "../../ir/graph.ts";
import { type Buf, cast, type Expr, iadd, idiv, imul, int, load, num, op, ref } from "../../ir/kernel/kernel.ts";
import { assign, note, store, variable, when } from "../../ir/kernel/stmt.ts";
import { lowerAttentionGroup } from "./attention-group.ts";
import { clampTo, flatten } from "./index-math.ts";
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

export function lowerAttention(w: KernelWriter, anchor: Node): void {
  if (w.target.workgroup !== null) {
    lowerAttentionGroup(w, anchor, w.target.workgroup);
    return;
  }
  const [q, k, v, positions, sequence] = anchor.ins as [Node, Node, Node, Node, Node]; // attention takes five operands
  const [n, h, d] = q.type.shape as [number, number, number]; // of rank 3
  const [b, s, g] = k.type.shape as [number, number, number]; // of rank 4
  const e = v.type.shape[3]!;
  // Heads that share a key head, as many as have room for their scores: half the scratch, the rest is for the query.
  const fits = (size: number) => (h / g) % size === 0 && (size === 1 || 4 * size * s <= w.target.scratchBytes / 2);
  const heads = [4, 2, 1].find(fits)!;
  const scale = Number(attrsOf(anchor).scale);
  // Eight sums in registers: more spill, fewer load too much.
  const [keys, columns] = [8 / heads, [4, 2, 1].find((size) => e % size === 0 && size * heads <= 8)!];
  const pitch = s + keys - 1;
  w.emit(note(`tile: ${heads} heads by ${keys} keys, then by ${columns} columns`));
  const queries = w.scratch("query", "f32", heads * d);
  const scores = w.scratch("scores", "f32", heads * pitch);
  w.loop(
    "n",
    n,
    (token) => {
      const position = w.bind("position", w.value(positions, [token]));
      // Not position + 1 against s: the largest position would wrap.
      const visible = w.bind("visible", iadd(op("min", position, int(s - 1)), int(1)));
      const row = w.bind("row", clampTo(w.value(sequence, [token]), b));
      w.loop(
        "h",
        h,
        (head) => {
          const group = w.bind("group", idiv(imul(head, int(g)), int(h)));
          const tile: Tile = { w, heads, keys, columns, s, d, e, q: queries, scores, pitch, visible };
          for (let i = 0; i < heads; i++) {
            forEachElement(w, q, [token, iadd(head, int(i)), null], (idx, value) => {
              w.emit(store(queries, iadd(idx[2]!, int(i * d)), value));
            });
          }
          const most = writeScores(tile, scale, (t, j) => w.value(k, [row, t, group, j]));
          const totals = writeWeights(tile, most);
          writeSums(
            tile,
            (t, j) => w.value(v, [row, t, group, j]),
            (i, j, sum) => {
              const at = flatten([token, iadd(head, int(i)), j], [n, h, e]);
              w.emit(store(w.out, at, cast("f32", op("div", sum, totals[i]!))));
            },
          );
        },
        "serial",
        heads,
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
function writeSums(
  { w, heads, columns, e, scores, pitch, visible }: Tile,
  value: (t: Expr, j: Expr) => Expr,
  done: (i: number, j: Expr, sum: Expr) => void,
): void {
  const { accumulator } = w.target;
  const tileOfColumns = (first: Expr) => {
    const sums = range(heads).map(() => range(columns).map(() => ref(w.unique("sum"), accumulator)));
    for (const sum of sums.flat()) w.emit(variable(sum.name, num(accumulator, 0)));
    w.loop("t", visible, (t) => {
      const values = range(columns).map((u) => w.bind("x", cast(accumulator, value(t, iadd(first, int(u))))));
      for (const [i, row] of sums.entries()) {
        const weight = w.bind("weight", cast(accumulator, load(scores, iadd(t, int(i * pitch)))));
        for (const [u, sum] of row.entries()) w.emit(assign(sum.name, op("add", sum, op("mul", weight, values[u]!))));
      }
    });
    for (const [i, row] of sums.entries()) {
      for (const [u, sum] of row.entries()) done(i, iadd(first, int(u)), sum);
    }
  };
  w.loop("j", e, tileOfColumns, "serial", columns);
}

const range = (length: number) => Array.from({ length }, (_, i) => i);
