/**
 * Lowering of causal attention for GPUs: a workgroup per token and head walks the visible keys in tiles of one key per
 * invocation; the scores of long keys are computed by several invocations each. Scores of a tile, their largest and their sum are taken by all together; then each invocation adds the
 * tile's values to its own columns of the result. What was summed before is scaled when a larger score turns up, so that
 * no scores are kept and the context may be of any length.
 */
import { attrsOf, type Node } from "../../ir/graph.ts";
import { cast, type Expr, iadd, idiv, imul, int, irem, load, num, op, ref, select } from "../../ir/kernel/kernel.ts";
import { assign, barrier, note, store, variable, when } from "../../ir/kernel/stmt.ts";
import type { Workgroup } from "../../ir/target.ts";
import { clampTo, flatten } from "./index-math.ts";
import { workgroupFor } from "./rows.ts";
import type { KernelWriter } from "./writer.ts";

/** Below every score; not an infinity, which devices may take as absent. */
const lowest = num("f32", -3.4028234663852886e38);

/** Keys of so many elements are shared by so many invocations. */
const longKey = 32;
const sharedBy = 8;

export function lowerAttentionGroup(w: KernelWriter, anchor: Node, workgroup: Workgroup): void {
  const [q, k, v, positions, sequence] = anchor.ins as [Node, Node, Node, Node, Node]; // attention takes five operands
  const [n, h, d] = q.type.shape as [number, number, number]; // of rank 3
  const [b, s, g] = k.type.shape as [number, number, number]; // of rank 4
  const e = v.type.shape[3]!;
  const scale = num("f32", Number(attrsOf(anchor).scale));
  const size = workgroupFor(Math.max(e, Math.min(s, 128)), workgroup);
  const columns = Math.ceil(e / size);
  const share = d >= longKey && size >= sharedBy ? sharedBy : 1;
  w.emit(note(`tile: ${size} keys, ${share} invocations a key, then ${columns} columns an invocation`));
  const queries = w.shared("query", "f32", d);
  const weights = w.shared("weights", "f32", size);
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
          w.workgroup(size, (together) => {
            const { lane } = together;
            w.strided(together, "j", d, (j) => w.emit(store(queries, j, cast("f32", w.value(q, [token, head, j])))));
            w.emit(barrier);
            const most = newVariable(w, "most", lowest);
            const total = newVariable(w, "total", num("f32", 0));
            const sums = Array.from({ length: columns }, () => newVariable(w, "sum", num("f32", 0)));
            w.loop(
              "t",
              visible,
              (first) => {
                const dotAt = (t: Expr, each: (body: (j: Expr) => void) => void): Expr => {
                  const at = w.bind("at", clampTo(t, s));
                  const sum = newVariable(w, "dot", num("f32", 0));
                  each((j) => {
                    const product = op("mul", load(queries, j), cast("f32", w.value(k, [row, at, group, j])));
                    w.emit(assign(sum.name, op("add", sum, product)));
                  });
                  return sum;
                };
                const t = w.bind("key", iadd(first, lane));
                const seen = w.bind("seen", op("lt", t, visible));
                if (share > 1) {
                  // Invocations that share a key read neighbouring elements of it.
                  w.loop("pass", share, (pass) => {
                    const key = w.bind("place", iadd(imul(pass, int(size / share)), idiv(lane, int(share))));
                    const part = w.bind("part", irem(lane, int(share)));
                    const own = dotAt(iadd(first, key), (body) => w.strided({ lane: part, size: share }, "j", d, body));
                    const whole = w.combine("whole", "add", own, share);
                    w.emit(when(op("eq", part, int(0)), [store(weights, key, whole)]));
                  });
                  w.emit(barrier);
                }
                const dot = share > 1 ? w.bind("dot", load(weights, lane)) : dotAt(t, (body) => w.loop("j", d, body));
                const score = w.bind("score", select(seen, op("mul", dot, scale), lowest));
                const tileMost = w.combine("tile_most", "max", score, size);
                const next = w.bind("next", op("max", most, tileMost));
                const weight = w.bind("weight", select(seen, op("exp", op("sub", score, next)), num("f32", 0)));
                w.emit(store(weights, lane, weight));
                const tileTotal = w.combine("tile_total", "add", weight, size);
                const shrink = w.bind("shrink", op("exp", op("sub", most, next)));
                w.emit(assign(most.name, next));
                w.emit(assign(total.name, op("add", op("mul", total, shrink), tileTotal)));
                const count = w.bind("count", op("min", op("add", visible, op("neg", first)), int(size)));
                for (const sum of sums) w.emit(assign(sum.name, op("mul", sum, shrink)));
                w.loop("u", count, (u) => {
                  // The clamps show that nothing is read past the end.
                  const value = w.bind("p", load(weights, clampTo(u, size)));
                  const source = w.bind("from", clampTo(iadd(first, u), s));
                  for (const [i, sum] of sums.entries()) {
                    const column = clampTo(iadd(lane, int(i * size)), e);
                    const product = op("mul", value, cast("f32", w.value(v, [row, source, group, column])));
                    w.emit(assign(sum.name, op("add", sum, product)));
                  }
                });
                w.emit(barrier);
              },
              "serial",
              size,
            );
            // A token that sees no key gets 0.
            const divisor = w.bind("divisor", select(op("gt", visible, int(0)), total, num("f32", 1)));
            for (const [i, sum] of sums.entries()) {
              const column = iadd(lane, int(i * size));
              const done = store(w.out, flatten([token, head, column], [n, h, e]), op("div", sum, divisor));
              w.emit((i + 1) * size <= e ? done : when(op("lt", column, int(e)), [done]));
            }
          });
        },
        "grid",
      );
    },
    "grid",
  );
}

function newVariable(w: KernelWriter, hint: string, init: Expr): Extract<Expr, { k: "ref" }> {
  const name = w.unique(hint);
  w.emit(variable(name, init));
  return ref(name, init.type) as Extract<Expr, { k: "ref" }>; // made by `ref`
}
