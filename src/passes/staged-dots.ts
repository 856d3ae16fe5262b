/**
 * Products of codes on GPUs that quantise their input themselves: every workgroup computes the input's codes into its own
 * memory before it multiplies, which takes less than a launch that does it once. That is so where there is one token, whose
 * values fit, and no more workgroups than can start at once.
 */
import { isOp, type Node } from "../ir/graph.ts";
import { opKind } from "../ir/ops/all.ts";
import { dotGroup } from "../ir/ops/dot.ts";
import type { Target } from "../ir/target.ts";
import { sizeOf } from "../ir/types.ts";

export interface StagedDots {
  /** Codes and scales that the kernel of a product computes. */
  readonly inside: ReadonlySet<Node>;
  /** What only leads to operands that such products do not read: sums of codes. */
  readonly unused: ReadonlySet<Node>;
}

/** Longer inputs take every workgroup too long. */
const longest = 4096;
/** Blocks of rows of a weight from which on every workgroup quantising for itself takes longer than a launch. */
const mostBlocks = 12288;

/** Which of a function's values are staged so; `users` are those of each node. */
export function stagedDots(
  nodes: readonly Node[],
  users: ReadonlyMap<Node, readonly Node[]>,
  outs: ReadonlySet<Node>,
  target: Target,
): StagedDots {
  const inside = new Set<Node>();
  const unused = new Set<Node>();
  if (target.workgroup === null) return { inside, unused };
  for (const node of nodes) {
    const staged = opKind(node.op) === "dot" ? stagedOf(node, users, outs, target.workgroup.bytes) : undefined;
    for (const each of staged?.inside ?? []) inside.add(each);
    for (const each of staged?.unused ?? []) unused.add(each);
  }
  return { inside, unused };
}

/** What the quantiser of a product's input is made of; undefined where it has other users, or does not fit. */
function stagedOf(
  dot: Node,
  users: ReadonlyMap<Node, readonly Node[]>,
  outs: ReadonlySet<Node>,
  sharedBytes: number,
): { inside: readonly Node[]; unused: readonly Node[] } | undefined {
  const [codes, scales, sums, weights] = dot.ins as [Node, Node, Node, Node]; // and more
  if (!isOp(codes, "quantizeGroups") || !isOp(scales, "groupScales") || !readsNoSums(dot)) return undefined;
  const { shape } = codes.type;
  const length = shape.at(-1)!;
  const blocks = sizeOf(weights.type.shape.slice(0, -4));
  const one = sizeOf(shape) === length && sizeOf(dot.type.shape.slice(0, -1)) === 1;
  const grouped = codes.attrs.group === dotGroup && scales.attrs.group === dotGroup && length % dotGroup === 0;
  const same = codes.ins[0] === scales.ins[0] && codes.ins[1] === scales;
  const fits = length <= longest && blocks <= mostBlocks && 2 * length <= sharedBytes;
  if (!one || !grouped || !same || !fits || outs.has(codes) || outs.has(scales)) return undefined;
  // The sums of codes, which are not read, and what leads to them.
  const unused = new Set<Node>();
  for (let at = sums; at !== codes && !unused.has(at); at = at.ins[0]!) {
    if (at.ins.length !== 1 || outs.has(at)) return undefined;
    unused.add(at);
  }
  const only = (node: Node, allowed: readonly Node[]) =>
    users.get(node)!.every((user) => allowed.includes(user) || unused.has(user));
  const alone = only(codes, [dot]) && only(scales, [dot, codes]) && [...unused].every((node) => only(node, [dot]));
  return alone ? { inside: [codes, scales], unused: [...unused] } : undefined;
}

/** Whether GPUs need no sums of the input's codes: those of weights become signed around zero, and have no minimums. */
export function readsNoSums(dot: Node): boolean {
  const { bits, zero } = dot.attrs as { bits: number; zero: number }; // the op's attributes
  return zero === (bits === 4 ? 8 : 128) && dot.ins.length === 5;
}
