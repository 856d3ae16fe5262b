/**
 * Lowering of causal attention to one kernel: per token and tile of query heads that share a key head, scores of the
 * visible keys, their softmax, and the weighted sum of values. Each key and value is read once per tile of heads; keys
 * beyond the token's position are never touched, so time follows the length of the sequence, not of the cache.
 */
import { attrsOf, type Node } from "../../ir/graph.ts";
import {
  assign,
  type Buf,
  cast,
  type Expr,
  iadd,
  idiv,
  imul,
  int,
  load,
  num,
  op,
  ref,
  store,
  variable,
  when,
} from "../../ir/kernel/kernel.ts";
import { clampTo, flatten } from "./index-math.ts";
import { forEachElement } from "./map.ts";
import type { KernelWriter } from "./writer.ts";

/** Everything the parts of the kernel share. */
interface Tile {
  readonly w: KernelWriter;
  readonly heads: number;
  readonly s: number;
  readonly d: number;
  readonly e: number;
  readonly q: Buf;
  readonly scores: Buf;
  readonly sums: Buf;
  readonly visible: Expr;
}

export function lowerAttention(w: KernelWriter, anchor: Node): void {
  const [q, k, v, positions, sequence] = anchor.ins as [Node, Node, Node, Node, Node]; // attention takes five operands
  const [n, h, d] = q.type.shape as [number, number, number]; // of rank 3
  const [b, s, g] = k.type.shape as [number, number, number]; // of rank 4
  const e = v.type.shape[3]!;
  const heads = [4, 2, 1].find((size) => (h / g) % size === 0)!;
  const scale = Number(attrsOf(anchor).scale);
  const { accumulator } = w.target;
  const scratch = {
    q: w.scratch("query", "f32", heads * d),
    scores: w.scratch("scores", "f32", heads * s),
    sums: w.scratch("sums", accumulator, heads * e),
  };
  w.loop(
    "n",
    n,
    (token) => {
      const position = w.bind("position", w.value(positions, [token]));
      const visible = w.bind("visible", iadd(op("min", position, int(s - 1)), int(1)));
      const row = w.bind("row", clampTo(w.value(sequence, [token]), b));
      w.loop(
        "h",
        h,
        (head) => {
          const group = w.bind("group", idiv(imul(head, int(g)), int(h)));
          const tile: Tile = { w, heads, s, d, e, ...scratch, visible };
          for (let i = 0; i < heads; i++) {
            forEachElement(w, q, [token, iadd(head, int(i)), null], (idx, value) => {
              w.emit(store(scratch.q, iadd(idx[2]!, int(i * d)), value));
            });
          }
          const most = writeScores(tile, scale, (t, j) => w.value(k, [row, t, group, j]));
          const totals = writeWeights(tile, most);
          writeSums(tile, (t, j) => w.value(v, [row, t, group, j]));
          for (let i = 0; i < heads; i++) {
            w.loop("e", e, (j) => {
              const sum = load(scratch.sums, iadd(j, int(i * e)));
              const at = flatten([token, iadd(head, int(i)), j], [n, h, e]);
              w.emit(store(w.out, at, cast("f32", op("div", sum, totals[i]!))));
            });
          }
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
  { w, heads, s, d, q, scores, visible }: Tile,
  scale: number,
  key: (t: Expr, j: Expr) => Expr,
): Expr[] {
  const { accumulator } = w.target;
  const most = range(heads).map(() => ref(w.unique("most"), "f32"));
  for (const name of most) w.emit(variable(name.name, num("f32", Number.NEGATIVE_INFINITY)));
  w.loop("t", visible, (t) => {
    const sums = most.map(() => ref(w.unique("dot"), accumulator));
    for (const sum of sums) w.emit(variable(sum.name, num(accumulator, 0)));
    w.loop("j", d, (j) => {
      const value = w.bind("key", cast(accumulator, key(t, j)));
      for (const [i, sum] of sums.entries()) {
        const factor = cast(accumulator, load(q, iadd(j, int(i * d))));
        w.emit(assign(sum.name, op("add", sum, op("mul", factor, value))));
      }
    });
    for (const [i, sum] of sums.entries()) {
      const score = w.bind("score", cast("f32", op("mul", sum, num(accumulator, scale))));
      w.emit(store(scores, iadd(t, int(i * s)), score));
      w.emit(assign(most[i]!.name, op("max", most[i]!, score)));
    }
  });
  return most;
}

/** scores[i, t] = exp(scores[i, t] - most[i]); gives each head's total, 1 where nothing is visible. */
function writeWeights({ w, heads, s, scores, visible }: Tile, most: readonly Expr[]): Expr[] {
  const { accumulator } = w.target;
  const totals = range(heads).map(() => ref(w.unique("total"), accumulator));
  for (const [i, total] of totals.entries()) {
    w.emit(variable(total.name, num(accumulator, 0)));
    w.loop("t", visible, (t) => {
      const at = iadd(t, int(i * s));
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

/** sums[i, j] = sum over t of scores[i, t] * value[t, j], value rows read in memory order. */
function writeSums({ w, heads, s, e, scores, sums, visible }: Tile, value: (t: Expr, j: Expr) => Expr): void {
  const { accumulator } = w.target;
  w.loop("j", heads * e, (j) => w.emit(store(sums, j, num(accumulator, 0))));
  w.loop("t", visible, (t) => {
    const weights = range(heads).map((i) => w.bind("weight", cast(accumulator, load(scores, iadd(t, int(i * s))))));
    w.loop("j", e, (j) => {
      const x = w.bind("value", cast(accumulator, value(t, j)));
      for (const [i, weight] of weights.entries()) {
        const at = iadd(j, int(i * e));
        w.emit(store(sums, at, op("add", load(sums, at), op("mul", weight, x))));
      }
    });
  });
}

const range = (length: number) => Array.from({ length }, (_, i) => i);
