/**
 * Lowering of causal attention for GPUs and many tokens: a workgroup has the rows of some tokens, each with all heads that
 * share a key head, and walks their keys in tiles with a streaming softmax. An invocation has four rows: it scores them with
 * some keys of the tile, then adds the tile's values to some columns of them. So a key that is loaded serves four rows in
 * registers, and all rows of the workgroup from shared memory.
 *
 * Tokens of a workgroup may be of several sequences: then the keys of each are walked in turn, and rows of others see none.
 */
import { attrsOf, type Node } from "../../ir/graph.ts";
import {
  cast,
  type Expr,
  extract,
  iadd,
  idiv,
  imul,
  int,
  intrinsic,
  irem,
  isub,
  num,
  op,
  type Ref,
  select,
  splat,
} from "../../ir/kernel/kernel.ts";
import { assign, barrier, note, store, when } from "../../ir/kernel/stmt.ts";
import type { Workgroup } from "../../ir/target.ts";
import { addValues, columnOf, type Keys, type Own, scoresOf } from "./attention-products.ts";
import { lowest } from "./attention-rows.ts";
import { type Attention, chooseAttentionTile, pitchOf, tileSize } from "./attention-tile-choice.ts";
import { clampTo, flatten, range } from "./index-math.ts";
import type { KernelWriter } from "./writer.ts";

const zero = num("f32", 0);

/** Says whether it lowered; what is too small, or fits into no workgroup, is for `attention-row.ts`. */
export function lowerAttentionTiles(w: KernelWriter, anchor: Node, workgroup: Workgroup): boolean {
  const [q, k, v, positions, sequence] = anchor.ins as [Node, Node, Node, Node, Node]; // attention takes five operands
  const [n, h, d] = q.type.shape as [number, number, number]; // of rank 3
  const [b, s, g] = k.type.shape as [number, number, number]; // of rank 4
  const e = v.type.shape[3]!;
  const heads = h / g;
  if (n < 8 * b || d % 4 !== 0 || e % 4 !== 0) return false;
  const tile = chooseAttentionTile({ n, heads, d, e }, workgroup);
  if (tile === undefined) return false;
  const { tokens, rows, perFour, keys } = tile;
  w.emit(note(`tile: ${tokens} tokens by ${heads} heads, ${keys} keys, ${perFour} invocations for 4 rows`));
  const shared = {
    queries: w.shared("query", "f32", rows * pitchOf(d)),
    tile: tile.staged ? w.shared("tile", "f32", keys * pitchOf(Math.max(d, e))) : undefined,
    weights: w.shared("weights", "f32", keys * rows),
  };
  const scale = num("f32", Number(attrsOf(anchor).scale));
  const given = { w, q, k, v, out: anchor, scale, heads, ...tile, ...shared };
  // Not position + 1 against s: the largest position would wrap.
  const visibleOf = (token: Expr) => iadd(op("min", w.value(positions, [token]), int(s - 1)), int(1));
  const sequenceOf = (token: Expr) => (b === 1 ? int(0) : clampTo(w.value(sequence, [token]), b));
  const enter = (first: Expr, group: Expr) =>
    w.workgroup(tileSize(tile), (together) => {
      const attention: Attention = { ...given, together };
      const tokenAt = (t: Expr) => (n % tokens === 0 ? iadd(first, t) : clampTo(iadd(first, t), n));
      const row = w.bind("row", imul(idiv(together.lane, int(perFour)), int(4)));
      const tokenOf = (i: number) => idiv(iadd(row, int(i)), int(heads));
      const mine = range(4).map((i) => w.bind("token", tokenAt(tokenOf(i))));
      const own: Own = {
        group,
        row,
        part: w.bind("part", irem(together.lane, int(perFour))),
        visible: mine.map((token) => w.bind("visible", visibleOf(token))),
        sequence: mine.map((token) => w.bind("of", sequenceOf(token))),
      };
      loadQueries(attention, group, tokenAt);
      const sums = newSums(attention);
      const all = range(tokens).map((t) => tokenAt(int(t)));
      const most = (values: readonly Expr[]) =>
        w.bind(
          "end",
          values.reduce((x, y) => op("max", x, y)),
        );
      if (b === 1) walkKeys(attention, own, int(0), most(all.map(visibleOf)), sums);
      else {
        w.loop("s", tokens, (each) => {
          const of = w.bind("of", sequenceOf(tokenAt(each)));
          const same = all.map((token) => op("eq", sequenceOf(token), of));
          const before = same.map((one, t) => op("and", one, op("lt", int(t), each))).reduce((x, y) => op("or", x, y));
          // A sequence that an earlier token is of has been walked.
          const end = most(all.map((token, t) => select(same[t]!, visibleOf(token), int(0))));
          walkKeys(attention, own, of, w.bind("end", select(before, int(0), end)), sums);
        });
      }
      const inside = (i: number) => (n % tokens === 0 ? undefined : op("lt", iadd(first, tokenOf(i)), int(n)));
      storeRows(attention, own, mine, sums, inside);
    });
  // The last tokens, which see most keys, first: then the shortest work is what others wait for.
  const last = Math.floor((n - 1) / tokens) * tokens;
  const inTurn = (i: Expr) => w.loop("group", g, (group) => enter(isub(int(last), i), group), "grid");
  w.loop("n", n, inTurn, "grid", tokens);
  return true;
}

function loadQueries({ w, q, queries, rows, heads, together }: Attention, group: Expr, token: (t: Expr) => Expr): void {
  const d = q.type.shape[2]!;
  w.strided(together, "i", (rows * d) / 4, (i) => {
    const [row, j] = [w.bind("from", idiv(i, int(d / 4))), w.bind("j", imul(irem(i, int(d / 4)), int(4)))];
    const head = iadd(imul(group, int(heads)), irem(row, int(heads)));
    const at = (r: number) => cast("f32", w.value(q, [token(idiv(row, int(heads))), head, iadd(j, int(r))]));
    const quad = intrinsic("join4", ...range(4).map((r) => w.bind("x", at(r))));
    w.emit(store(queries, iadd(imul(row, int(pitchOf(d))), j), quad));
  });
  w.emit(barrier);
}

interface Sums {
  /** Of the four rows in lanes. */
  readonly most: Ref;
  readonly total: Ref;
  /** Per row, and four columns. */
  readonly columns: readonly (readonly Ref[])[];
}

function newSums({ w, v, perFour }: Attention): Sums {
  const fours = Math.ceil(v.type.shape[3]! / 4 / perFour);
  return {
    most: w.variable("most", splat(lowest, 4)),
    total: w.variable("total", splat(zero, 4)),
    columns: range(4).map(() => range(fours).map(() => w.variable("sum", splat(zero, 4)))),
  };
}

/** Adds the keys below `end` of sequence `of`. */
function walkKeys(attention: Attention, own: Own, of: Expr, end: Expr, sums: Sums): void {
  const { w, weights, rows, perFour, keys, scale, k } = attention;
  const { most, total, columns } = sums;
  const several = k.type.shape[0]! > 1;
  const tile = (first: Expr) => {
    const tileKeys: Keys = { of, first, end };
    const dots = scoresOf(attention, own, tileKeys);
    const seen = dots.map((_, j) => {
      const key = w.bind("place", iadd(iadd(first, own.part), int(j * perFour)));
      return own.visible.map((visible, i) => {
        const there = op("lt", key, visible);
        return w.bind("seen", several ? op("and", there, op("eq", own.sequence[i]!, of)) : there);
      });
    });
    const score = (j: number, i: number) => select(seen[j]![i]!, op("mul", dots[j]![i]!, scale), lowest);
    const scores = dots.map((ofKey, j) => ofKey.map((_, i) => w.bind("score", score(j, i))));
    const largest = range(4).map((i) => scores.map((ofKey) => ofKey[i]!).reduce((x, y) => op("max", x, y)));
    const tileMost = w.combine("tile_most", "max", intrinsic("join4", ...largest), perFour);
    const next = w.bind("next", op("max", most, tileMost));
    const shrink = w.bind("shrink", op("exp", op("sub", most, next)));
    w.emit(assign(most.name, next));
    w.emit(assign(total.name, op("mul", total, shrink)));
    for (const [j, ofKey] of scores.entries()) {
      const each = ofKey.map((one, i) => select(seen[j]![i]!, op("exp", op("sub", one, extract(next, i))), zero));
      const weight = w.bind("weight", intrinsic("join4", ...each));
      w.emit(assign(total.name, op("add", total, weight)));
      w.emit(store(weights, iadd(imul(iadd(own.part, int(j * perFour)), int(rows)), own.row), weight));
    }
    for (const [i, ofRow] of columns.entries()) {
      for (const sum of ofRow) w.emit(assign(sum.name, op("mul", sum, splat(extract(shrink, i), 4))));
    }
    w.emit(barrier);
    addValues(attention, own, tileKeys, columns);
    w.emit(barrier);
  };
  w.loop("t", end, tile, "serial", keys);
}

function storeRows(
  attention: Attention,
  own: Own,
  tokens: readonly Expr[],
  { total, columns }: Sums,
  inside: (i: number) => Expr | undefined,
): void {
  const { w, out, v, heads, perFour } = attention;
  const fours = v.type.shape[3]! / 4;
  const whole = w.combine("whole", "add", total, perFour);
  for (const [i, ofRow] of columns.entries()) {
    // A token that sees no key gets 0.
    const seen = op("gt", own.visible[i]!, int(0));
    const divisor = w.bind("divisor", select(seen, extract(whole, i), num("f32", 1)));
    const head = w.bind("head", iadd(imul(own.group, int(heads)), irem(iadd(own.row, int(i)), int(heads))));
    for (const [c, sum] of ofRow.entries()) {
      const at = flatten([tokens[i]!, head, columnOf(attention, own, c)], out.type.shape);
      const stored = store(w.out, at, op("div", sum, splat(divisor, 4)));
      const there = (c + 1) * perFour <= fours ? undefined : op("lt", iadd(own.part, int(c * perFour)), int(fours));
      const conditions = [inside(i), there].filter((each) => each !== undefined);
      w.emit(
        conditions.length === 0
          ? stored
          : when(
              conditions.reduce((x, y) => op("and", x, y)),
              [stored],
            ),
      );
    }
  }
}
