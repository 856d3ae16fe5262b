/**
 * Attention on GPUs of few tokens, or of keys too wide for tiles of tokens: a workgroup has a token, some of the query heads
 * that share a key head, and all of their keys or a part of them. `attention-walk.ts` says how its teams walk them, and
 * `attention-sums.ts` how what these found is put together. Parts, each with blocks of keys in turn, leave the largest score
 * and sums behind, which another launch puts together; a part whose first block is beyond the token's position walks nothing.
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
  intrinsic,
  irem,
  isub,
  load,
  num,
  op,
} from "../../ir/kernel/kernel.ts";
import { barrier, note, store } from "../../ir/kernel/stmt.ts";
import type { Workgroup } from "../../ir/target.ts";
import { rowSharesOf, workgroupSize } from "./attention-row-choice.ts";
import { lanesOf, NewRows, readerOf, readsAny, sharesRows, updateBehind } from "./attention-rows.ts";
import { storeSums } from "./attention-sums.ts";
import { type Walk, walkKeys } from "./attention-walk.ts";
import { clampTo, range } from "./index-math.ts";
import type { KernelWriter, Together } from "./writer.ts";

/** Lowers `attention` or `attentionParts`; with `newRows`, from caches as they were before this step's row. */
export function lowerAttentionRow(w: KernelWriter, anchor: Node, workgroup: Workgroup, newRows?: NewRows): void {
  const [q, k, v, positions, sequence] = anchor.ins as [Node, Node, Node, Node, Node]; // attention takes five operands
  const [n, h, d] = q.type.shape as [number, number, number]; // of rank 3
  const [b, s, g] = k.type.shape as [number, number, number]; // of rank 4
  const e = v.type.shape[3]!;
  const { parts = 1, block = s, scale } = attrsOf(anchor) as Record<string, number>; // those of both ops
  const lanes = lanesOf(w, [k, v]);
  const shares = rowSharesOf({ tokens: n, heads: h, groups: g, keys: s, d, e }, workgroup, lanes);
  const { perKey, heads, headTeams, teams, keysEach } = shares;
  w.emit(note(`tile: ${teams} by ${keysEach} keys, ${perKey} invocations a key, ${headTeams} by ${heads} heads`));
  const mine = heads * headTeams;
  const perGroup = h / g;
  const chunks = Math.ceil(perGroup / mine);
  const query = w.shared("query", "f32", mine * d);
  const enterHeads = (token: Expr, row: Expr, visible: Expr, part: Expr, chunk: Expr) => {
    const group = w.bind("group", idiv(chunk, int(chunks)));
    const first = w.bind("head", iadd(imul(group, int(perGroup)), imul(irem(chunk, int(chunks)), int(mine))));
    const end = w.bind("heads_end", imul(iadd(group, int(1)), int(perGroup)));
    w.workgroup(workgroupSize(shares), (together) => {
      const headOf = (i: Expr) =>
        perGroup % mine === 0 ? iadd(first, i) : op("min", iadd(first, i), isub(end, int(1)));
      stageQuery(w, { q, query, token, headOf, heads: mine, scale: num("f32", Number(scale)), lanes }, together);
      const at = [row, group] as const;
      const read = (node: Node) => newRows?.reader(node, at, together) ?? readerOf(w, node, at, lanes);
      const keys = read(k);
      const values = sharesRows(w, k, v) ? { ...keys, e } : read(v);
      w.emit(barrier);
      const team = w.bind("team", idiv(together.lane, int(perKey)));
      const own = w.bind("own", imul(idiv(team, int(teams)), int(heads)));
      const walk: Walk = {
        w,
        ...shares,
        lanes,
        team: w.bind("key_team", irem(team, int(teams))),
        place: w.bind("place", irem(together.lane, int(perKey))),
        query: (head, j) => load(query, iadd(imul(iadd(own, int(head)), int(d)), j), lanes),
        keys,
        values,
        visible,
        end: s,
        part,
        parts,
        block: parts === 1 ? shares.tile : block,
      };
      storeSums(walk, walkKeys(walk), anchor, { together, team, token, part, first, end });
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
      const enterPart = (part: Expr) =>
        w.loop("h", g * chunks, (chunk) => enterHeads(token, row, visible, part, chunk), "grid");
      // The first parts, which most positions need, begin first.
      w.loop("part", parts, enterPart, "grid");
    },
    "grid",
  );
}

interface Queries {
  readonly q: Node;
  /** [head, element] of the workgroup's heads. */
  readonly query: Buf;
  readonly token: Expr;
  readonly headOf: (i: Expr) => Expr;
  readonly heads: number;
  readonly scale: Expr;
  readonly lanes: number;
}

/** Brings queries times the scale to shared memory. */
function stageQuery(w: KernelWriter, queries: Queries, together: Together): void {
  const { q, query, token, headOf, heads, scale, lanes } = queries;
  const d = q.type.shape[2]!;
  const put = (i: Expr, j: Expr, head: Expr) => {
    const elements = range(lanes).map((lane) =>
      op("mul", cast("f32", w.value(q, [token, head, iadd(j, int(lane))])), scale),
    );
    w.emit(store(query, iadd(imul(i, int(d)), j), lanes === 1 ? elements[0]! : intrinsic("join4", ...elements)));
  };
  // What is reduced is so by all invocations, where the head is the same to all.
  let reduces = false;
  w.nested(() => {
    const index = w.bind("probe", iadd(together.lane, int(0)));
    reduces = w.nested(() => w.value(q, [token, int(0), index])).some(({ k }) => k !== "let");
  });
  const row = d / lanes;
  if (reduces) {
    for (const i of range(heads)) {
      const head = w.bind("head", headOf(int(i)));
      w.strided(together, "j", row, (j) => put(int(i), imul(j, int(lanes)), head));
    }
    return;
  }
  w.strided(together, "j", heads * row, (each) => {
    const i = w.bind("i", idiv(each, int(row)));
    put(i, imul(irem(each, int(row)), int(lanes)), headOf(i));
  });
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
