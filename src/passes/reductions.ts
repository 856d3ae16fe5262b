/** Which values bring reductions along where they are inlined: what fusion has to know to compute none of them too often. */
import type { Node } from "../ir/graph.ts";
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
