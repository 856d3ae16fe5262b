/**
 * Attention on GPUs of few tokens, or of keys too wide for tiles of tokens: a workgroup has a token and a head, and all of its
 * keys or a part of them. `attention-walk.ts` says how it walks them. Parts, each with tiles of keys in turn, leave the
 * largest score and sums behind, which another launch puts together; a part whose first tile is beyond the token's position
 * has nothing to walk.
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
  irem,
  isub,
  load,
  num,
  op,
  select,
} from "../../ir/kernel/kernel.ts";
import { barrier, note, store, when } from "../../ir/kernel/stmt.ts";
import type { Workgroup } from "../../ir/target.ts";
import { perKey, rowSharesOf } from "./attention-row-choice.ts";
import { lanesOf, NewRows, readerOf, readsAny, updateBehind } from "./attention-rows.ts";
import { columnOf, isWhole, type Sums, type Walk, walkKeys } from "./attention-walk.ts";
import { clampTo, flatten, range } from "./index-math.ts";
import type { KernelWriter } from "./writer.ts";

/** How keys are dealt out to parts: so many at a time. */
interface Dealt {
  readonly parts: number;
  readonly block: number;
}

/** Lowers `attention` or `attentionParts`; with `newRows`, from caches as they were before this step's row. */
export function lowerAttentionRow(w: KernelWriter, anchor: Node, workgroup: Workgroup, newRows?: NewRows): void {
  const [q, k, v, positions, sequence] = anchor.ins as [Node, Node, Node, Node, Node]; // attention takes five operands
  const [n, h, d] = q.type.shape as [number, number, number]; // of rank 3
  const [b, s, g] = k.type.shape as [number, number, number]; // of rank 4
  const e = v.type.shape[3]!;
  const { scale, parts = 1, block = s } = attrsOf(anchor) as Record<string, number>; // those of both ops
  const dealt = { parts, block };
  const lanes = lanesOf(w, [k, v]);
  const shares = rowSharesOf({ tokens: n, heads: h, keys: s, columns: e }, workgroup, lanes);
  w.emit(
    note(
      `tile: ${shares.tile} keys, ${perKey} invocations a key, then ${shares.columns} columns and 1 of ${shares.slices} keys an invocation`,
    ),
  );
  const query = w.shared("query", "f32", d);
  const enterHead = (token: Expr, row: Expr, visible: Expr, part: Expr, head: Expr) => {
    const group = w.bind("group", idiv(imul(head, int(g)), int(h)));
    const count = parts === 1 ? visible : w.bind("visible", keysOfPart(dealt, part, visible));
    w.workgroup(shares.size, (together) => {
      w.strided(together, "j", d, (j) => w.emit(store(query, j, cast("f32", w.value(q, [token, head, j])))));
      const readers = [k, v].map((node) => {
        const at = [row, group] as const;
        return newRows?.reader(node, at, together) ?? readerOf(w, node, at, lanes);
      });
      w.emit(barrier);
      const walk: Walk = {
        w,
        ...shares,
        lanes,
        d,
        lane: together.lane,
        scale: num("f32", Number(scale)),
        query: (j) => load(query, j, lanes),
        keys: readers[0]!,
        values: readers[1]!,
        count,
        keyAt: (index) => (parts === 1 ? index : keyOfPart(dealt, part, index)),
        end: s,
      };
      storeSums(walk, walkKeys(walk), anchor, { visible, at: [token, head, part] });
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
      const enterPart = (part: Expr) => w.loop("h", h, (head) => enterHead(token, row, visible, part, head), "grid");
      // The first parts, which most positions need, begin first.
      w.loop("part", parts, enterPart, "grid");
    },
    "grid",
  );
}

/**
 * The same where the kernel computes the row itself by which keys and values are updated. Says whether it lowered: that needs
 * one token, and keys and values that are read by fours from what one row updates.
 */
export function lowerAttentionEarly(w: KernelWriter, anchor: Node, workgroup: Workgroup): boolean {
  const [q, k, v, ...others] = anchor.ins as [Node, Node, Node, ...Node[]]; // attention takes five operands
  const behind = [k, v].map((node) => updateBehind(w, node));
  if (q.type.shape[0] !== 1 || !behind.every((each) => each !== undefined)) return false;
  const updates = new Set(behind.map(({ update }) => update));
  const apart = [q, ...others, ...behind.flatMap(({ update, indices }) => [...update.ins, ...indices])];
  if (readsAny(w, apart, updates)) return false;
  const newRows = new NewRows(w, updates);
  if (lanesOf(w, [k, v]) !== 4) return false;
  lowerAttentionRow(w, anchor, workgroup, newRows);
  return true;
}

/** How many of the first `visible` keys a part has. */
function keysOfPart({ parts, block }: Dealt, part: Expr, visible: Expr): Expr {
  const seen = op("max", visible, int(0));
  const rest = isub(irem(seen, int(parts * block)), imul(part, int(block)));
  return iadd(imul(idiv(seen, int(parts * block)), int(block)), op("max", op("min", rest, int(block)), int(0)));
}

/** The number of the key that is `index`-th of a part. */
function keyOfPart({ parts, block }: Dealt, part: Expr, index: Expr): Expr {
  const turn = iadd(imul(idiv(index, int(block)), int(parts)), part);
  return iadd(imul(turn, int(block)), irem(index, int(block)));
}

interface Place {
  readonly visible: Expr;
  /** Token, head, and part where there are parts. */
  readonly at: readonly Expr[];
}

/** Stores the quotients of sums for a whole walk, and sums for a part. */
function storeSums(
  walk: Walk,
  { most, total, columns }: Sums,
  { type: { shape } }: Node,
  { visible, at }: Place,
): void {
  const { w, slices, lanes, lane } = walk;
  const { e } = walk.values;
  const isPart = shape.length > 3;
  // A token that sees no key gets 0.
  const divisor = w.bind("divisor", select(op("gt", visible, int(0)), total, num("f32", 1)));
  const whole = columns.map((each) => (slices === 1 ? each : w.combine("columns", "add", each, slices)));
  const offset = (column: Expr) => flatten([...at.slice(0, shape.length - 1), column], shape);
  const stores = whole.flatMap((value, i) =>
    range(lanes).map((j) => {
      const column = iadd(columnOf(walk), int(lanes * i + j));
      const result = isPart ? extract(value, j) : op("div", extract(value, j), divisor);
      if (isWhole(walk)) return store(w.out, offset(column), result);
      return when(op("lt", column, int(e)), [store(w.out, offset(clampTo(column, e)), result)]);
    }),
  );
  if (slices === 1) for (const each of stores) w.emit(each);
  else w.emit(when(op("eq", irem(lane, int(slices)), int(0)), stores));
  if (!isPart) return;
  const last = [store(w.out, offset(int(e)), most), store(w.out, offset(int(e + 1)), total)];
  w.emit(when(op("eq", lane, int(0)), last));
}
