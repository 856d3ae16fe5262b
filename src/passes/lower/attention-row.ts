/**
 * Attention on GPUs where there are few workgroups, as for one token: what counts is how often an invocation waits for
 * memory. A workgroup has a token and a head and takes keys in tiles of half its invocations. Eight invocations share a
 * key, reading four neighbouring elements at a time; each has several keys of the tile at once. Values are read eight
 * columns at a time and are asked for before the scores are known, as far as registers hold them.
 */
import { invariant } from "../../ir/errors.ts";
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
  load,
  num,
  op,
  type Ref,
  select,
  splat,
  sum,
} from "../../ir/kernel/kernel.ts";
import { assign, barrier, note, store, when } from "../../ir/kernel/stmt.ts";
import { valueType } from "../../ir/kernel/value.ts";
import type { Workgroup } from "../../ir/target.ts";
import { liesInRows, lowest, widened } from "./attention-rows.ts";
import { clampTo, flatten } from "./index-math.ts";
import type { KernelWriter, Together } from "./writer.ts";

const zero = num("f32", 0);
const four = 4;
/** Invocations of a key, keys of an invocation, and so keys of a tile. */
const perKey = 8;
const keysEach = 4;
/** Columns of an invocation. */
const columns = 8;
/** Keys of an invocation whose values are on their way at once, and invocations of a workgroup. */
const valuesAtOnce = 8;
const mostInvocations = 512;

interface Row {
  readonly w: KernelWriter;
  readonly size: number;
  readonly tile: number;
  /** Invocations that have the same columns and divide the keys. */
  readonly slices: number;
  readonly lane: Expr;
  readonly visible: Expr;
  /** Four elements of a key, and of a value, from `j` on. */
  readonly key: (at: Expr, j: Expr) => Expr;
  readonly value: (at: Expr, j: Expr) => Expr;
  readonly keys: number;
}

/** Lowers attention so where keys and values lie in memory in rows of fours; says whether it did. */
export function lowerAttentionRow(w: KernelWriter, anchor: Node, workgroup: Workgroup): boolean {
  const [q, k, v, positions, sequence] = anchor.ins as [Node, Node, Node, Node, Node]; // attention takes five operands
  const [n, h, d] = q.type.shape as [number, number, number]; // of rank 3
  const [b, s, g] = k.type.shape as [number, number, number]; // of rank 4
  const e = v.type.shape[3]!;
  const size = Math.min(workgroup.most ?? workgroup.invocations, mostInvocations);
  const slices = (size * columns) / e;
  const fits = d % four === 0 && size >= 4 * perKey && slices >= 1 && slices <= size / 2 && Number.isInteger(slices);
  if (!fits || !Number.isInteger(Math.log2(slices)) || ![k, v].every((node) => liesInFours(w, node))) return false;
  const tile = (size / perKey) * keysEach;
  w.emit(
    note(
      `tile: ${tile} keys, ${perKey} invocations a key, then ${columns} columns and 1 of ${slices} keys an invocation`,
    ),
  );
  const scale = num("f32", Number(attrsOf(anchor).scale));
  const query = w.shared("query", "f32", d);
  const weights = w.shared("weights", "f32", tile);
  const enterHead = (token: Expr, row: Expr, visible: Expr, head: Expr) => {
    const group = w.bind("group", idiv(imul(head, int(g)), int(h)));
    w.workgroup(size, (together) => {
      const { lane } = together;
      w.strided(together, "j", d, (j) => w.emit(store(query, j, cast("f32", w.value(q, [token, head, j])))));
      w.emit(barrier);
      const at = (node: Node) => (key: Expr, j: Expr) => fourAt(w.value(node, [row, key, group, int(0)]), j);
      const of: Row = { w, size, tile, slices, lane, visible, key: at(k), value: at(v), keys: s };
      const queries = (j: Expr) => ({ ...load(query, j), type: valueType("f32", four) }) as Expr; // a load of four
      const { total, sums } = walkTiles(of, (score) => store(weights, score.key, score.value), {
        dot: (key, each) => dotOf(of, key, queries, d, each),
        scale,
        weight: (key) => load(weights, key),
      });
      // A token that sees no key gets 0.
      const divisor = w.bind("divisor", select(op("gt", visible, int(0)), total, num("f32", 1)));
      storeColumns(of, together, sums, divisor, (column) => flatten([token, head, column], anchor.type.shape));
    });
  };
  w.loop(
    "n",
    n,
    (token) => {
      const position = w.bind("position", w.value(positions, [token]));
      // Not position + 1 against s: the largest position would wrap.
      const visible = w.bind("visible", iadd(op("min", position, int(s - 1)), int(1)));
      const row = w.bind("row", clampTo(w.value(sequence, [token]), b));
      w.loop("h", h, (head) => enterHead(token, row, visible, head), "grid");
    },
    "grid",
  );
  return true;
}

interface Scores {
  /** The invocation's part of a key's score. */
  readonly dot: (key: Expr, parts: Expr) => Expr;
  readonly scale: Expr;
  readonly weight: (key: Expr) => Expr;
}

/** Sums of weights, and of weights times values for each of an invocation's columns. */
function walkTiles(
  row: Row,
  keep: (score: { key: Expr; value: Expr }) => ReturnType<typeof store>,
  { dot, scale, weight }: Scores,
): { readonly total: Ref; readonly sums: readonly Ref[] } {
  const { w, size, tile, slices, lane, visible, keys } = row;
  const most = w.variable("most", lowest);
  const total = w.variable("total", zero);
  const sums = [0, 1].map(() => w.variable("sum", splat(zero, four)));
  const part = w.bind("part", irem(lane, int(perKey)));
  const own = w.bind("own", idiv(lane, int(perKey)));
  const [slice, column] = [w.bind("slice", irem(lane, int(slices))), w.bind("column", columnOf(row))];
  const each = tile / slices;
  const early = each <= valuesAtOnce;
  w.loop(
    "t",
    visible,
    (first) => {
      const count = w.bind("count", op("min", isub(visible, first), int(tile)));
      // The last key that is seen stands for those that are not.
      const sourceOf = (key: Expr) => w.bind("source", clampTo(iadd(first, op("min", key, isub(count, int(1)))), keys));
      const valuesOf = (from: Expr, some: number) =>
        Array.from({ length: some }, (_, i) => {
          const key = w.bind("key", iadd(iadd(from, int(i * slices)), slice));
          const source = sourceOf(key);
          const fours = [0, four].map((j) => w.bind("value", row.value(source, iadd(column, int(j)))));
          return { key, fours };
        });
      const seenKeys = Array.from({ length: keysEach }, (_, i) => w.bind("key", iadd(own, int((i * size) / perKey))));
      const parts = seenKeys.map((key) => dot(sourceOf(key), part));
      const values = early ? valuesOf(int(0), each) : [];
      for (const [i, key] of seenKeys.entries()) {
        const whole = w.combine("whole", "add", parts[i]!, perKey);
        w.emit(when(op("eq", part, int(0)), [keep({ key, value: whole })]));
      }
      w.emit(barrier);
      const seen = w.bind("seen", op("lt", lane, count));
      const mine = w.bind("mine", op("mul", weight(clampTo(lane, tile)), scale));
      const score = w.bind("score", select(seen, mine, lowest));
      const next = w.bind("next", op("max", most, w.combine("tile_most", "max", score, size)));
      const own1 = w.bind("weight", select(seen, op("exp", op("sub", score, next)), zero));
      w.emit(when(op("lt", lane, int(tile)), [keep({ key: clampTo(lane, tile), value: own1 })]));
      const tileTotal = w.combine("tile_total", "add", own1, size);
      const shrink = w.bind("shrink", op("exp", op("sub", most, next)));
      w.emit(assign(most.name, next));
      w.emit(assign(total.name, op("add", op("mul", total, shrink), tileTotal)));
      for (const each of sums) w.emit(assign(each.name, op("mul", each, splat(shrink, four))));
      const add = (some: ReturnType<typeof valuesOf>) => {
        for (const { key, fours } of some) {
          const p = w.bind("p", splat(weight(early ? key : clampTo(key, tile)), four));
          for (const [i, value] of fours.entries()) w.emit(assign(sums[i]!.name, intrinsic("fma", p, value, sums[i]!)));
        }
      };
      if (early) add(values);
      else w.loop("u", count, (u) => add(valuesOf(u, valuesAtOnce)), "serial", slices * valuesAtOnce);
      w.emit(barrier);
    },
    "serial",
    tile,
  );
  return { total, sums };
}

/** An invocation's part of the product of the query and a key: every so many-th four elements. */
function dotOf({ w, key }: Row, at: Expr, query: (j: Expr) => Expr, d: number, part: Expr): Expr {
  const all = w.variable("dot", splat(zero, four));
  const fours = d / four;
  const add = (i: Expr) => {
    const j = imul(i, int(four));
    w.emit(assign(all.name, intrinsic("fma", query(j), key(at, j), all)));
  };
  const whole = fours - (fours % perKey);
  for (let i = 0; i < whole; i += perKey) add(iadd(part, int(i)));
  if (whole < fours) w.strided({ lane: part, size: perKey }, "j", fours - whole, (i) => add(iadd(i, int(whole))));
  return w.bind("part_of_dot", sum(all));
}

function storeColumns(
  row: Row,
  { lane }: Together,
  sums: readonly Ref[],
  divisor: Expr,
  offset: (column: Expr) => Expr,
): void {
  const { w, slices } = row;
  const whole = sums.map((each) => (slices === 1 ? each : w.combine("columns", "add", each, slices)));
  const stores = whole.flatMap((value, i) =>
    [0, 1, 2, 3].map((j) =>
      store(w.out, offset(iadd(columnOf(row), int(four * i + j))), op("div", extract(value, j), divisor)),
    ),
  );
  w.emit(when(op("eq", irem(lane, int(slices)), int(0)), stores));
}

/** The first of an invocation's columns. */
function columnOf({ lane, slices }: Pick<Row, "lane" | "slices">): Expr {
  return imul(idiv(lane, int(slices)), int(columns));
}

/** Elements from `j` on, of the element 0 of the same row. */
function fourAt(element: Expr, j: Expr): Expr {
  invariant(element.k === "load", () => "attention reads its keys from memory"); // liesInFours says so
  return widened({ ...element, index: iadd(element.index, j) }, four);
}

/** Whether the rows of an operand of attention lie in memory by fours. */
function liesInFours(w: KernelWriter, node: Node): boolean {
  return node.type.shape[3]! % four === 0 && liesInRows(w, (key, j) => w.value(node, [int(0), key, int(0), j]));
}
