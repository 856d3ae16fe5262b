/** Lowering of maps: loops over the elements of a value, each computed by inlining. */
import { isOp, type Node } from "../../ir/graph.ts";
import { type Expr, iadd, imul, int, type LoopKind } from "../../ir/kernel/kernel.ts";
import { store } from "../../ir/kernel/stmt.ts";
import { dtypeInfo } from "../../ir/types.ts";
import { flatten } from "./index-math.ts";
import { lowerRows } from "./rows.ts";
import type { KernelWriter } from "./writer.ts";

const axisNames = ["i", "j", "k", "l", "m"];

/** One store per element of the root. */
export function lowerMap(w: KernelWriter): void {
  const { root } = w;
  if (w.target.workgroup !== null && (lowerRows(w, w.target.workgroup) || lowerWords(w))) return;
  forEachElement(
    w,
    root,
    root.type.shape.map(() => null),
    (idx, value) => {
      w.emit(store(w.out, flatten(idx, root.type.shape), value));
    },
    "grid",
  );
}

/**
 * Writes elements smaller than a word of 32 bits for GPUs, whose invocations store whole words: each computes the elements
 * of one. Says whether it did.
 */
function lowerWords(w: KernelWriter): boolean {
  const { root } = w;
  const { shape } = root.type;
  const together = 32 / dtypeInfo(root.type.dtype).bits;
  const last = shape.at(-1) ?? 1;
  if (together <= 1 || last % together !== 0 || isOp(root, "concat")) return false;
  const enter = (axis: number, idx: readonly Expr[]): void => {
    if (axis < shape.length - 1) {
      w.loop(axisNames[axis] ?? "i", shape[axis]!, (i) => enter(axis + 1, [...idx, i]), "grid");
      return;
    }
    w.loop(
      axisNames[axis] ?? "i",
      last / together,
      (word) => {
        const first = imul(word, int(together));
        const places = Array.from({ length: together }, (_, i) => [...idx, iadd(first, int(i))]);
        const values = places.map((place) => w.bind("element", w.value(root, place)));
        for (const [i, value] of values.entries()) w.emit(store(w.out, flatten(places[i]!, shape), value));
      },
      "grid",
    );
  };
  enter(0, []);
  return true;
}

/**
 * Calls `body` with the index and value of every element of `node`, looping over the axes whose entry in `fixed` is
 * null. A concat is looped over part by part, so that no element has to find out which part it is in.
 */
export function forEachElement(
  w: KernelWriter,
  node: Node,
  fixed: readonly (Expr | null)[],
  body: (idx: readonly Expr[], value: Expr) => void,
  how: LoopKind = "serial",
): void {
  if (isOp(node, "concat") && !w.isBuffer(node) && fixed[node.attrs.axis] === null) {
    const { axis } = node.attrs;
    let offset = 0;
    for (const part of node.ins) {
      const start = offset;
      forEachElement(w, part, fixed, (idx, value) => body(idx.with(axis, iadd(idx[axis]!, int(start))), value), how);
      offset += part.type.shape[axis]!;
    }
    return;
  }
  const inner = (kind: LoopKind) => (kind === "grid" ? w.independent(1) : "serial");
  const enter = (axis: number, idx: readonly Expr[], kind: LoopKind): void => {
    if (axis === fixed.length) {
      body(idx, w.value(node, idx));
      return;
    }
    const given = fixed[axis] ?? null;
    if (given !== null) enter(axis + 1, [...idx, given], kind);
    else w.loop(axisNames[axis] ?? "i", node.type.shape[axis]!, (i) => enter(axis + 1, [...idx, i], inner(kind)), kind);
  };
  enter(0, [], how);
}
