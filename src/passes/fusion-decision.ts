/** What fusion decided about a value, with the reason; and how large an expression may become before it is cut. */
import { type Node, nameOf } from "../ir/graph.ts";
import { showType, sizeOf } from "../ir/types.ts";

/**
 * `epilogue`: applied to the sums of a contraction. `staged`: computed into scratch before a contraction or attention.
 * `inlined`: part of the expression of the one kernel that needs it. `view`: costs nothing, wherever it is needed.
 * `stored`: written to memory by a kernel of its own.
 */
export type Placement = "epilogue" | "staged" | "inlined" | "view" | "stored";

export interface Decision {
  readonly node: Node;
  readonly as: Placement;
  /** The values in whose kernels it is computed. */
  readonly into: readonly Node[];
  /** Why it is stored; empty otherwise. */
  readonly why: string;
  /** Whether it might have been computed where it is needed. */
  readonly missed: boolean;
}

export function joined(node: Node, as: Exclude<Placement, "stored">, into: readonly Node[]): Decision {
  return { node, as, into, why: "", missed: false };
}

/** Expressions larger than this are cut, so that kernels stay readable and code does not explode. */
export const maxInlined = 120;

/**
 * Where an inlined expression would pass the size limit: at the smallest value on its largest branch, since that is what is
 * stored. Never at views, which are inlined whatever their size.
 */
export function oversized(
  nodes: readonly Node[],
  stays: (node: Node) => boolean,
  exempt: (node: Node) => boolean,
): Set<Node> {
  const size = new Map<Node, number>();
  const cut = new Set<Node>();
  for (const node of nodes) {
    let total = 1;
    if (!stays(node)) for (const x of node.ins) total += size.get(x) ?? 0;
    if (total > maxInlined && !exempt(node)) {
      cut.add(smallestOf(node, size, exempt));
      total = 1;
    }
    size.set(node, total);
  }
  return cut;
}

/** Down the branch with the most ops, as long as it holds a good part of them. */
function smallestOf(node: Node, size: ReadonlyMap<Node, number>, exempt: (node: Node) => boolean): Node {
  let smallest = node;
  const ops = (x: Node) => size.get(x) ?? 0;
  for (let at: Node | undefined = node; at !== undefined; ) {
    const below: Node | undefined = at.ins.toSorted((x, y) => ops(y) - ops(x))[0];
    at = below !== undefined && ops(below) > maxInlined / 4 ? below : undefined;
    if (at !== undefined && !exempt(at) && sizeOf(at.type.shape) < sizeOf(smallest.type.shape)) smallest = at;
  }
  return smallest;
}

/** The printed name of a value, or its op and type. */
export function labelOf(node: Node): string {
  return nameOf(node) ?? `${node.op} ${showType(node.type)}`;
}

const mostNames = 4;

export function namesOf(nodes: readonly Node[]): string {
  const more = nodes.length > mostNames ? [`and ${nodes.length - mostNames} more`] : [];
  return [...nodes.slice(0, mostNames).map(labelOf), ...more].join(", ");
}
