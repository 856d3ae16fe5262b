/** What values bring along where they are inlined, reductions and reads: what fusion has to know to compute none too often or too late. */
import { isOp, type Node } from "../ir/graph.ts";
import { opDef, opKind } from "../ir/ops/all.ts";

/** Nodes whose expression, inlined, has a reduction in it; `isMade` says what is computed elsewhere. */
export function withReductions(nodes: readonly Node[], isMade: (node: Node) => boolean): Set<Node> {
  const reducing = new Set<Node>();
  for (const node of nodes) {
    // What is repeated row by row gets a buffer if it reduces.
    if (isMade(node) || repeatsRows(node)) continue;
    if (opKind(node.op) === "reduce" || node.ins.some((x) => reducing.has(x))) reducing.add(node);
  }
  return reducing;
}

/**
 * Of nodes with reductions in them, the reductions that others reduce again, element by element: one workgroup would take all
 * their rows one after another. They had better be stored than what is made of them, which may wait for more.
 */
export function reducedAgain(
  nodes: readonly Node[],
  users: ReadonlyMap<Node, readonly Node[]>,
  reducing: ReadonlySet<Node>,
): Set<Node> {
  const again = new Set<Node>();
  const found = new Set<Node>();
  for (const node of [...nodes].reverse()) {
    if (!reducing.has(node) || (node.type.shape.at(-1) ?? 1) === 1) continue;
    const readers = users.get(node)!.filter((user) => reducing.has(user));
    if (!readers.some((user) => opKind(user.op) === "reduce" || again.has(user))) continue;
    (opKind(node.op) === "reduce" ? found : again).add(node);
  }
  return found;
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

/** Indices and masks of more ops than this are stored like anything else. */
const mostIndexOps = 12;

/** Indices and masks that are cheaper to compute wherever they are needed than to store and load; `isMade` as above. */
export function indexMath(nodes: readonly Node[], isMade: (node: Node) => boolean): Set<Node> {
  const ops = new Map<Node, number>();
  for (const node of nodes) {
    if (isMade(node) || opDef(node.op).scalar === undefined || node.type.dtype.startsWith("f")) continue;
    const total = node.ins.reduce((sum, x) => sum + (ops.get(x) ?? 0), 1);
    if (total <= mostIndexOps) ops.set(node, total);
  }
  return new Set(ops.keys());
}
