/** The two products of attention of many tokens: queries with a tile of keys, and the tile's weights with its values. */
import type { Node } from "../../ir/graph.ts";
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
  load,
  num,
  op,
  type Ref,
  splat,
  sum as sumOf,
} from "../../ir/kernel/kernel.ts";
import { assign, barrier, store, when } from "../../ir/kernel/stmt.ts";
import { liesInRows, widened } from "./attention-rows.ts";
import { type Attention, pitchOf } from "./attention-tile-choice.ts";
import { clampTo, range } from "./index-math.ts";
import type { KernelWriter } from "./writer.ts";

/** What an invocation works on. */
export interface Own {
  readonly group: Expr;
  /** Its first row, and which of those that have these rows it is. */
  readonly row: Expr;
  readonly part: Expr;
  /** Of each of the four rows: how many keys it sees, and of which sequence. */
  readonly visible: readonly Expr[];
  readonly sequence: readonly Expr[];
}

/** Keys `first` and following of sequence `of`, of which those from `end` on are seen by no row. */
export interface Keys {
  readonly of: Expr;
  readonly first: Expr;
  readonly end: Expr;
}

/** Keys whose values are on their way together. */
const keysAtOnce = 4;

/** The products of the four rows' queries with every `perFour`-th key of the tile, from the invocation's part on. */
export function scoresOf(attention: Attention, own: Own, keys: Keys): readonly (readonly Expr[])[] {
  const { w, q, k, queries, perFour } = attention;
  const d = q.type.shape[2]!;
  const slots = range(attention.keys / perFour).map((j) => iadd(own.part, int(j * perFour)));
  const key = rowsOf(attention, k, own, keys);
  const rows = slots.map((slot) => key.row(slot));
  const sums = slots.map(() => range(4).map(() => w.variable("dot", splat(num("f32", 0), 4))));
  w.loop(
    "j",
    d,
    (j) => {
      const qs = range(4).map((i) =>
        w.bind("q", load(queries, iadd(imul(iadd(own.row, int(i)), int(pitchOf(d))), j), 4)),
      );
      for (const [u, row] of rows.entries()) {
        const quad = w.bind("k", key.four(row, j));
        for (const [i, sum] of sums[u]!.entries()) w.emit(assign(sum.name, intrinsic("fma", qs[i]!, quad, sum)));
      }
    },
    "serial",
    4,
  );
  return sums.map((ofKey) => ofKey.map((sum) => w.bind("dot", sumOf(sum))));
}

/** sums += weights of the tile times values. */
export function addValues(attention: Attention, own: Own, keys: Keys, sums: readonly (readonly Ref[])[]): void {
  const { w, v, weights, rows } = attention;
  const value = rowsOf(attention, v, own, keys);
  const some = (u: Expr) => {
    for (const i of range(keysAtOnce)) {
      const slot = iadd(u, int(i));
      const row = value.row(slot);
      const weight = w.bind("p", load(weights, iadd(imul(slot, int(rows)), own.row), 4));
      for (const c of range(sums[0]!.length)) {
        const quad = w.bind("value", value.four(row, columnOf(attention, own, c)));
        for (const [r, ofRow] of sums.entries()) {
          const sum = ofRow[c]!;
          w.emit(assign(sum.name, intrinsic("fma", splat(extract(weight, r), 4), quad, sum)));
        }
      }
    }
  };
  w.loop("u", attention.keys, some, "serial", keysAtOnce);
}

/** The first column of an invocation's four number `c`: neighbours have neighbouring fours. */
export function columnOf({ v, perFour }: Attention, { part }: Own, c: number): Expr {
  const fours = v.type.shape[3]! / 4;
  const four = iadd(part, int(c * perFour));
  return imul((c + 1) * perFour <= fours ? four : clampTo(four, fours), int(4));
}

interface Rows {
  /** What stands for the row of a key of the tile. */
  readonly row: (slot: Expr) => Expr;
  /** Four columns of it from `j`. */
  readonly four: (row: Expr, j: Expr) => Expr;
}

/** How the tile's rows of `node` (keys or values) are read; if they are staged, statements that bring them are written here. */
function rowsOf(attention: Attention, node: Node, own: Own, { of, first, end }: Keys): Rows {
  const { w, tile, together, keys } = attention;
  const [, s, , width] = node.type.shape as [number, number, number, number]; // of rank 4
  const memory = fourOf(w, (t, j) => cast("f32", w.value(node, [of, t, own.group, j])));
  // Past the last key that a row sees, that one again: its weight there is 0, and others' values may be anything.
  const keyOf = (slot: Expr) => w.bind("key", clampTo(op("min", iadd(first, slot), isub(end, int(1))), s));
  if (tile === undefined) return { row: keyOf, four: memory };
  const quads = width / 4;
  const count = keys * quads;
  const bring = (i: Expr) => {
    const [slot, j] = [w.bind("slot", idiv(i, int(quads))), w.bind("j", imul(irem(i, int(quads)), int(4)))];
    w.emit(store(tile, iadd(imul(slot, int(pitchOf(width))), j), memory(keyOf(slot), j)));
  };
  const { lane, size } = together;
  for (const round of range(Math.floor(count / size))) bring(iadd(lane, int(round * size)));
  const rest = count % size;
  if (rest > 0) {
    const stmts = w.nested(() => bring(iadd(clampTo(lane, rest), int(count - rest))));
    w.emit(when(op("lt", lane, int(rest)), stmts));
  }
  w.emit(barrier);
  return {
    row: (slot) => imul(slot, int(pitchOf(width))),
    four: (row, j) => load(tile, iadd(row, j), 4),
  };
}

/** Four columns from `j` of a row: one load where they lie side by side. */
function fourOf(w: KernelWriter, element: (t: Expr, j: Expr) => Expr): (t: Expr, j: Expr) => Expr {
  if (liesInRows(w, element)) return (t, j) => widened(element(t, j), 4);
  return (t, j) => intrinsic("join4", ...range(4).map((i) => element(t, iadd(j, int(i)))));
}
