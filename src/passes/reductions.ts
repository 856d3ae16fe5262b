/** What values bring along where they are inlined, reductions and reads: what fusion has to know to compute none too often or too late. */
import { isOp, type Node } from "../ir/graph.ts";
import { opKind } from "../ir/ops/all.ts";

/** Nodes whose expression, inlined, has a reduction in it; `isMade` says what is computed elsewhere. */
export function withReductions(nodes: readonly Node[], isMade: (node: Node) => boolean): Set<Node> {
  const reducing = new Set<Node>();
  for (const node of nodes) {
    if (isMade(node)) continue;
    if (opKind(node.op) === "reduce" || node.ins.some((x) => reducing.has(x))) reducing.add(node);
  }
  return reducing;
}

/** Of nodes with reductions in them, those whose reductions differ from element to element of a row. */
export function withVaryingReductions(nodes: readonly Node[], reducing: ReadonlySet<Node>): Set<Node> {
  const varying = new Set<Node>();
  for (const node of nodes) {
    if (!reducing.has(node) || (node.type.shape.at(-1) ?? 1) === 1) continue;
    const passed = node.ins.some((x) => varying.has(x) && (x.type.shape.at(-1) ?? 1) > 1);
    if (opKind(node.op) === "reduce" || passed) varying.add(node);
  }
  return varying;
}

/** Whether computing `node` where it is needed may read `other`; `isMade` says what is computed elsewhere, as calls are. */
export function readsInline(node: Node, other: Node, isMade: (node: Node) => boolean): boolean {
  const seen = new Set<Node>();
  const left = [node];
  for (let next = left.pop(); next !== undefined; next = left.pop()) {
    if (next === other) return true;
    if (seen.has(next) || isOp(next, "call") || isMade(next)) continue;
    seen.add(next);
    left.push(...next.ins);
  }
  return false;
}

/** Whether a broadcast repeats its operand along an axis before one that the operand has: in an outer loop. */
export function repeatsRows(node: Node): boolean {
  if (!isOp(node, "broadcast")) return false;
  const { shape } = node.ins[0]!.type;
  const own = node.type.shape.map((_, axis) => shape[axis - node.type.shape.length + shape.length] ?? 1);
  const last = own.findLastIndex((dim) => dim > 1);
  return node.type.shape.some((dim, axis) => axis < last && own[axis] !== dim);
}
