/**
 * Lowering of causal attention for GPUs: a workgroup per token and head walks the visible keys in tiles of one key per
 * invocation. The scores of long keys are computed by several invocations each; scores of a tile, their largest and their
 * sum are taken by all together. Then invocations add the tile's values: each has some columns of the result and, where
 * there are more invocations than columns, every so many-th key. What was summed before is scaled when a larger score
 * turns up, so that no scores are kept and the context may be of any length.
 */
import { attrsOf, type Node } from "../../ir/graph.ts";
import {
  type Buf,
  cast,
  type Expr,
  iadd,
  idiv,
  imul,
  int,
  irem,
  isub,
  load,
  num,
  op,
  type Ref,
  select,
} from "../../ir/kernel/kernel.ts";
import { assign, barrier, note, store, when } from "../../ir/kernel/stmt.ts";
import type { Workgroup } from "../../ir/target.ts";
import { lowerAttentionRow } from "./attention-row.ts";
import { lowest } from "./attention-rows.ts";
import { clampTo, flatten } from "./index-math.ts";
import { workgroupFor } from "./rows.ts";
import type { KernelWriter, Together } from "./writer.ts";

const zero = num("f32", 0);

/** Keys of so many elements are shared by so many invocations. */
const longKey = 32;
const sharedBy = 8;
/** Columns of an invocation that lie side by side, keys whose values are on their way at once, and invocations of a column. */
const sideBySide = 4;
const keysAtOnce = 4;
const mostSlices = 8;
/** Few workgroups take longer tiles: nobody else would use the GPU meanwhile. */
const fewWorkgroups = 512;
const [longTile, shortTile] = [256, 128];

/** How the invocations of a workgroup divide keys and columns. */
interface Shares {
  /** Invocations, and keys of a tile. */
  readonly size: number;
  /** Invocations that compute one key's score. */
  readonly perKey: number;
  /** Columns of an invocation. */
  readonly columns: number;
  /** Invocations that have the same columns and divide the keys. */
  readonly slices: number;
}

interface Attention extends Shares {
  readonly w: KernelWriter;
  readonly k: Node;
  readonly v: Node;
  readonly scale: Expr;
  readonly queries: Buf;
  readonly weights: Buf;
}

/** The token and head of a workgroup. */
interface Place {
  readonly row: Expr;
  readonly group: Expr;
  /** Keys that the token sees. */
  readonly visible: Expr;
  readonly together: Together;
}

export function lowerAttentionGroup(w: KernelWriter, anchor: Node, workgroup: Workgroup): void {
  const [q, k, v, positions, sequence] = anchor.ins as [Node, Node, Node, Node, Node]; // attention takes five operands
  const [n, h, d] = q.type.shape as [number, number, number]; // of rank 3
  const [b, s, g] = k.type.shape as [number, number, number]; // of rank 4
  if (n * h <= fewWorkgroups && lowerAttentionRow(w, anchor, workgroup)) return;
  const shares = sharesOf(q, v, workgroup);
  const { size, perKey, columns, slices } = shares;
  w.emit(
    note(
      `tile: ${size} keys, ${perKey} invocations a key, then ${columns} columns and 1 of ${slices} keys an invocation`,
    ),
  );
  const scale = num("f32", Number(attrsOf(anchor).scale));
  const queries = w.shared("query", "f32", d);
  const weights = w.shared("weights", "f32", size);
  const attention: Attention = { w, k, v, scale, queries, weights, ...shares };
  const enterHead = (token: Expr, row: Expr, visible: Expr, head: Expr) => {
    const group = w.bind("group", idiv(imul(head, int(g)), int(h)));
    w.workgroup(size, (together) => {
      w.strided(together, "j", d, (j) => w.emit(store(queries, j, cast("f32", w.value(q, [token, head, j])))));
      w.emit(barrier);
      const { total, sums } = walkTiles(attention, { row, group, visible, together });
      // A token that sees no key gets 0.
      const divisor = w.bind("divisor", select(op("gt", visible, int(0)), total, num("f32", 1)));
      storeColumns(attention, together, sums, divisor, (column) => flatten([token, head, column], anchor.type.shape));
    });
  };
  const enterToken = (token: Expr) => {
    const position = w.bind("position", w.value(positions, [token]));
    // Not position + 1 against s: the largest position would wrap.
    const visible = w.bind("visible", iadd(op("min", position, int(s - 1)), int(1)));
    const row = w.bind("row", clampTo(w.value(sequence, [token]), b));
    w.loop("h", h, (head) => enterHead(token, row, visible, head), "grid");
  };
  w.loop("n", n, enterToken, "grid");
}

function sharesOf(q: Node, v: Node, workgroup: Workgroup): Shares {
  const [n, h, d] = q.type.shape as [number, number, number]; // of rank 3
  const [, s, , e] = v.type.shape as [number, number, number, number]; // of rank 4
  const tile = n * h <= fewWorkgroups ? longTile : shortTile;
  const size = workgroupFor(Math.max(e, Math.min(s, tile)), workgroup);
  const perKey = d >= longKey && size >= sharedBy ? sharedBy : 1;
  const groups = e / sideBySide;
  const slices = Number.isInteger(groups) ? Math.min(mostSlices, 2 ** Math.floor(Math.log2(size / groups))) : 1;
  if (slices > 1) return { size, perKey, columns: sideBySide, slices };
  return { size, perKey, columns: Math.ceil(e / size), slices: 1 };
}

/** Sums of weights, and of weights times values for each of an invocation's columns. */
function walkTiles(attention: Attention, place: Place): { readonly total: Ref; readonly sums: readonly Ref[] } {
  const { w, size, weights, scale, columns } = attention;
  const { visible, together } = place;
  const most = w.variable("most", lowest);
  const total = w.variable("total", zero);
  const sums = Array.from({ length: columns }, () => w.variable("sum", zero));
  const tile = (first: Expr) => {
    const seen = w.bind("seen", op("lt", iadd(first, together.lane), visible));
    const count = w.bind("count", op("min", isub(visible, first), int(size)));
    const dot = scoreOf(attention, place, first, count);
    const score = w.bind("score", select(seen, op("mul", dot, scale), lowest));
    const next = w.bind("next", op("max", most, w.combine("tile_most", "max", score, size)));
    const weight = w.bind("weight", select(seen, op("exp", op("sub", score, next)), zero));
    w.emit(store(weights, together.lane, weight));
    const tileTotal = w.combine("tile_total", "add", weight, size);
    const shrink = w.bind("shrink", op("exp", op("sub", most, next)));
    w.emit(assign(most.name, next));
    w.emit(assign(total.name, op("add", op("mul", total, shrink), tileTotal)));
    for (const sum of sums) w.emit(assign(sum.name, op("mul", sum, shrink)));
    addValues(attention, place, first, count, sums);
    w.emit(barrier);
  };
  w.loop("t", visible, tile, "serial", size);
  return { total, sums };
}

/** Query times key `first` + lane. */
function scoreOf(attention: Attention, { row, group, together }: Place, first: Expr, count: Expr): Expr {
  const { w, k, queries, weights, size, perKey } = attention;
  const { lane } = together;
  const [, s, , d] = k.type.shape as [number, number, number, number]; // of rank 4
  const dotAt = (key: Expr, each: (body: (j: Expr) => void) => void): Expr => {
    // The clamp shows that nothing is read past the end.
    const at = w.bind("at", clampTo(key, s));
    const sum = w.variable("dot", zero);
    each((j) => {
      const product = op("mul", load(queries, j), cast("f32", w.value(k, [row, at, group, j])));
      w.emit(assign(sum.name, op("add", sum, product)));
    });
    return sum;
  };
  if (perKey === 1) return dotAt(iadd(first, lane), (body) => w.loop("j", d, body));
  // Invocations that share a key read neighbouring elements of it.
  const keys = size / perKey;
  const part = w.bind("part", irem(lane, int(perKey)));
  w.loop("pass", idiv(iadd(count, int(keys - 1)), int(keys)), (pass) => {
    const key = w.bind("place", iadd(imul(pass, int(keys)), idiv(lane, int(perKey))));
    const own = dotAt(iadd(first, key), (body) => w.strided({ lane: part, size: perKey }, "j", d, body));
    const whole = w.combine("whole", "add", own, perKey);
    w.emit(when(op("eq", part, int(0)), [store(weights, clampTo(key, size), whole)]));
  });
  w.emit(barrier);
  // Of keys that are not seen there is no score.
  return w.bind("dot", load(weights, clampTo(op("min", lane, isub(count, int(1))), size)));
}

/** sums += the weights of the tile times values; `count` keys of it are seen. */
function addValues(attention: Attention, place: Place, first: Expr, count: Expr, sums: readonly Ref[]): void {
  const { w, v, weights, size, slices } = attention;
  const { row, group, together } = place;
  const s = v.type.shape[1]!;
  const slice = w.bind("slice", irem(together.lane, int(slices)));
  const step = slices * keysAtOnce;
  w.loop(
    "u",
    count,
    (u) => {
      const keys = Array.from({ length: keysAtOnce }, (_, r) => {
        const key = w.bind("key", iadd(iadd(u, int(r * slices)), slice));
        const source = w.bind("from", clampTo(iadd(first, key), s));
        // Weights of keys that are not seen are 0; their values may be anything.
        const weight = w.bind("p", load(weights, clampTo(key, size)));
        const values = sums.map((_, i) =>
          cast("f32", w.value(v, [row, source, group, columnOf(attention, together, i)])),
        );
        const shown = values.map((value) => w.bind("value", select(op("lt", key, count), value, zero)));
        return { weight, values: shown };
      });
      for (const [i, sum] of sums.entries()) {
        const products = keys.map(({ weight, values }) => op("mul", weight, values[i]!));
        w.emit(
          assign(
            sum.name,
            products.reduce((all, product) => op("add", all, product), sum as Expr),
          ),
        );
      }
    },
    "serial",
    step,
  );
}

function storeColumns(
  { w, v, slices, columns }: Attention,
  together: Together,
  sums: readonly Ref[],
  divisor: Expr,
  offset: (column: Expr) => Expr,
): void {
  const e = v.type.shape[3]!;
  const whole = sums.map((sum) => (slices === 1 ? sum : w.combine("column", "add", sum, slices)));
  const mine = sums.map((_, i) => plainColumn(together, { slices, columns }, i));
  const stored = (column: Expr, i: number) => store(w.out, offset(column), op("div", whole[i]!, divisor));
  if (slices === 1) {
    for (const [i, column] of mine.entries()) {
      w.emit((i + 1) * together.size <= e ? stored(column, i) : when(op("lt", column, int(e)), [stored(column, i)]));
    }
    return;
  }
  const own = op("eq", irem(together.lane, int(slices)), int(0));
  const all = (together.size / slices) * columns === e;
  // Elsewhere all columns of an invocation are there or none, which the clamp shows.
  const there = all ? own : op("and", own, op("lt", mine[0]!, int(e)));
  w.emit(
    when(
      there,
      mine.map((column, i) => stored(all ? column : clampTo(column, e), i)),
    ),
  );
}

/** An invocation's column number `i`; beyond the last for invocations that have none. */
function plainColumn(
  { lane, size }: Together,
  { slices, columns }: Pick<Shares, "slices" | "columns">,
  i: number,
): Expr {
  return slices === 1 ? iadd(lane, int(i * size)) : iadd(imul(idiv(lane, int(slices)), int(columns)), int(i));
}

function columnOf(attention: Attention, together: Together, i: number): Expr {
  return clampTo(plainColumn(together, attention, i), attention.v.type.shape[3]!);
}
