/**
 * Attention of many tokens on processors with vectors. A tile has the rows of some tokens and heads that share a key head, a
 * row to a lane. Keys, and then values, are brought to scratch some at a time, since neighbours may lie many kilobytes apart;
 * from there each element that is loaded serves all rows of the tile, and each query or weight several keys or columns. All
 * scores of a tile are kept until its softmax is known.
 *
 * Tokens of a tile may be of several sequences: then the keys of each are walked in turn, and rows of others see none.
 */
import { attrsOf, type Node } from "../../ir/graph.ts";
import { type Expr, iadd, idiv, imul, int, irem, load, num, op, select } from "../../ir/kernel/kernel.ts";
import { assign, note, store, when } from "../../ir/kernel/stmt.ts";
import { keysAtOnce, type RowTile, sumsAtOnce, type Tile, walkKeys } from "./attention-keys.ts";
import { clampTo, flatten, range } from "./index-math.ts";
import { forEachElement } from "./map.ts";
import type { KernelWriter } from "./writer.ts";

/** Rows of a tile: more would share what is brought to scratch, but see more keys that are not theirs. */
const mostRows = 48;
/** Fewer tokens of a sequence, on average, are computed one by one. */
const fewestTokens = 8;

/** Heads and tokens of a tile: whole blocks of sixteen rows where there are so many, as many as may be. */
function chooseRows(n: number, shared: number, mostScores: number): RowTile | undefined {
  const heads = range(shared)
    .map((i) => shared - i)
    .filter((size) => shared % size === 0);
  const all = heads.flatMap((size) =>
    [32, 16, 8, 4, 2, 1].map((tokens) => ({ tokens, heads: size, rows: tokens * size })),
  );
  const fitting = all.filter(({ tokens, rows }) => tokens <= n && rows <= Math.min(mostRows, mostScores));
  for (const whole of [16, 8]) {
    const best = fitting.filter(({ rows }) => rows % whole === 0).sort((x, y) => y.rows - x.rows)[0];
    if (best !== undefined) return best;
  }
  return undefined;
}

/** Says whether it lowered; what is too small, or has too many keys, goes token by token. */
export function lowerAttentionTokens(w: KernelWriter, anchor: Node): boolean {
  const [q, k, v] = anchor.ins as [Node, Node, Node, ...Node[]]; // attention takes five operands
  const [n, h, d] = q.type.shape as [number, number, number]; // of rank 3
  const [b, s, g] = k.type.shape as [number, number, number]; // of rank 4
  const e = v.type.shape[3]!;
  if (w.target.lanes !== 4 || n < fewestTokens * b || e % 4 !== 0) return false;
  const pitch = s + keysAtOnce;
  const chosen = chooseRows(n, h / g, Math.floor(w.target.scratchBytes / 4 / (4 * pitch)));
  if (chosen === undefined) return false;
  const { tokens, heads, rows } = chosen;
  const block = rows % 16 === 0 ? 16 : 8;
  w.emit(note(`tile: ${tokens} tokens by ${heads} heads, ${block} rows by ${(4 * sumsAtOnce) / block} keys at a time`));
  const buffers = {
    queries: w.scratch("query", "f32", d * rows),
    near: w.scratch("near", "f32", keysAtOnce * Math.max(d, e)),
    scores: w.scratch("scores", "f32", pitch * rows),
    visible: w.scratch("visible", "i32", rows),
    most: w.scratch("most", "f32", rows),
    totals: w.scratch("totals", "f32", rows),
    sums: w.scratch("sums", "f32", rows * e),
  };
  const given = { w, k, v, scale: num("f32", Number(attrsOf(anchor).scale)), ...chosen, block, ...buffers };
  const tiles = Math.ceil(n / tokens);
  const enter = (each: Expr) => {
    const first = w.bind("first", imul(irem(each, int(tiles)), int(tokens)));
    const head = w.bind("head", imul(idiv(each, int(tiles)), int(heads)));
    const group = w.bind("group", idiv(imul(head, int(g)), int(h)));
    writeTile({ ...given, group }, anchor, first, head);
  };
  // Tiles of one head follow each other: its keys and values may still be in a cache.
  w.loop("tile", (h / heads) * tiles, enter, "grid");
  return true;
}

/** The tile of tokens from `first` on and heads from `head` on. */
function writeTile(tile: Tile, anchor: Node, first: Expr, head: Expr): void {
  const { w, rows, heads, tokens, queries, sums, totals } = tile;
  const [q, k, v, positions, sequence] = anchor.ins as [Node, Node, Node, Node, Node]; // attention takes five operands
  const [n, [b, s], e] = [q.type.shape[0]!, k.type.shape as [number, number, ...number[]], v.type.shape[3]!]; // of rank 4
  const tokenOf = (row: Expr) => w.bind("token", clampTo(iadd(first, idiv(row, int(heads))), n));
  const headOf = (row: Expr) => w.bind("own", iadd(head, irem(row, int(heads))));
  w.loop("r", rows, (row) => {
    forEachElement(w, q, [tokenOf(row), headOf(row), null], (idx, value) => {
      w.emit(store(queries, iadd(imul(idx[2]!, int(rows)), row), value));
    });
  });
  w.loop("i", rows * e, (i) => w.emit(store(sums, i, num("f32", 0))));
  w.loop("r", rows, (row) => w.emit(store(totals, row, num("f32", 0))));
  // Not position + 1 against s: the largest position would wrap.
  const visibleOf = (token: Expr) => iadd(op("min", w.value(positions, [token]), int(s - 1)), int(1));
  const sequenceOf = (token: Expr) => (b === 1 ? int(0) : clampTo(w.value(sequence, [token]), b));
  walkSequences(tile, b, (row) => {
    const token = tokenOf(row);
    return [sequenceOf(token), visibleOf(token)];
  });
  w.loop("r", rows, (row) => {
    const at = (column: Expr) => flatten([tokenOf(row), headOf(row), column], anchor.type.shape);
    const stored = w.nested(() => writeRow(tile, row, (column, value) => w.emit(store(w.out, at(column), value))));
    const inside = op("lt", iadd(first, idiv(row, int(heads))), int(n));
    for (const stmt of n % tokens === 0 ? stored : [when(inside, stored)]) w.emit(stmt);
  });
}

/** Adds up keys and values of each sequence that a row is of; `of(row)` is its sequence, and how many keys it sees. */
function walkSequences(tile: Tile, b: number, of: (row: Expr) => readonly [Expr, Expr]): void {
  const { w, rows, heads, tokens, visible } = tile;
  const walk = (own: Expr, before?: Expr) => {
    const end = w.variable("end", int(0));
    w.loop("r", rows, (row) => {
      const [sequence, count] = of(row);
      const seen = b === 1 ? count : w.bind("seen", select(op("eq", sequence, own), count, int(0)));
      w.emit(store(visible, row, seen));
      w.emit(assign(end.name, op("max", end, seen)));
    });
    // A sequence that an earlier token is of has been walked.
    const all = w.bind("keys", before === undefined ? end : select(before, int(0), end));
    const keys = w.bind("keys", clampTo(all, tile.k.type.shape[1]! + 1));
    w.emit(
      when(
        op("gt", keys, int(0)),
        w.nested(() => walkKeys(tile, own, keys)),
      ),
    );
  };
  if (b === 1) {
    walk(int(0));
    return;
  }
  w.loop("run", tokens, (run) => {
    const own = w.bind("of", of(imul(run, int(heads)))[0]);
    const before = w.variable("before", op("lt", int(0), int(0)));
    w.loop("r", run, (earlier) => {
      const same = op("eq", of(imul(earlier, int(heads)))[0], own);
      w.emit(assign(before.name, op("or", before, same)));
    });
    walk(own, before);
  });
}

/** The quotients of a row's sums and total; 0 where it saw nothing. */
function writeRow({ w, v, sums, totals }: Tile, row: Expr, write: (column: Expr, value: Expr) => void): void {
  const e = v.type.shape[3]!;
  const total = w.bind("total", load(totals, row));
  const divisor = w.bind("divisor", select(op("eq", total, num("f32", 0)), num("f32", 1), total));
  w.loop("c", e, (c) => write(c, op("div", load(sums, iadd(imul(row, int(e)), c)), divisor)));
}
