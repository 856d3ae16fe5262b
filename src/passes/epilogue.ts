/** Epilogues: the elementwise ops after a contraction that its kernel applies to each sum before storing it. */
import { isOp, type Node } from "../ir/graph.ts";
import { opKind } from "../ir/ops/all.ts";
import { sameShape } from "../ir/types.ts";

/** Members of a group, the contraction included; more would only make kernels hard to read. */
const maxEpilogue = 16;

/** The largest set of elementwise users with a single value needed outside. */
export function growEpilogue(
  contract: Node,
  order: readonly Node[],
  users: ReadonlyMap<Node, readonly Node[]>,
  outs: ReadonlySet<Node>,
  taken: (node: Node) => boolean,
): { root: Node; members: readonly Node[] } {
  let best: { root: Node; members: readonly Node[] } = { root: contract, members: [contract] };
  const members = new Set<Node>([contract]);
  for (const node of order.slice(order.indexOf(contract) + 1)) {
    if (members.size > maxEpilogue) break;
    const fits =
      opKind(node.op) === "elementwise" && sameShape(node.type.shape, contract.type.shape) && !isStorageCast(node);
    if (!fits || taken(node) || !node.ins.some((x) => members.has(x)) || dependsAround(node, contract, members))
      continue;
    members.add(node);
    const exits = [...members].filter((x) => outs.has(x) || users.get(x)!.some((user) => !members.has(user)));
    if (exits.length === 1) best = { root: exits[0]!, members: [...members] };
  }
  return best;
}

/** Whether an operand of a member reaches the contraction around the group, which would make a cycle of kernels. */
function dependsAround(node: Node, contract: Node, members: ReadonlySet<Node>): boolean {
  const stack = node.ins.filter((x) => !members.has(x));
  const seen = new Set<Node>(stack);
  while (stack.length > 0) {
    const next = stack.pop()!;
    if (members.has(next)) return true;
    for (const x of next.ins) {
      if (x.id >= contract.id && !seen.has(x)) {
        seen.add(x);
        stack.push(x);
      }
    }
  }
  return false;
}

/** Rounding to a storage format happens in a store. */
export function isStorageCast(node: Node): boolean {
  if (!isOp(node, "cast")) return false;
  return !["f32", "i32", "u32", "bool"].includes(node.attrs.dtype);
}
