/**
 * Fusion: decides which values get a buffer, and so which nodes share a kernel.
 *
 * A *group* becomes one kernel and writes one value, its root. Its anchor shapes the loops: a contraction, attention, a
 * top-k, a row update, or, for everything else, the root itself (a *map* over the root's elements).
 *
 * 1. Epilogues. From each contraction, elementwise users of the same shape join as long as exactly one of the joined
 *    values is needed outside; that one is the root.
 * 2. Every other node is visited users first, knowing which groups need it and in which way:
 *    - `free`: at most a few times per element the kernel writes;
 *    - `stage`: through the activation operand of a contraction or the query of attention, which the kernel can compute
 *      once per row into scratch memory (a prologue);
 *    - `inner`: inside the innermost loop, many times; so is a reduction that a broadcast repeats for outer loops.
 *    A view (an injective op other than concat, a constant, a widening cast) costs nothing and is always inlined; so is
 *    what unpacks codes (`dequantizeGroups`), which is cheaper than to store and load what it gives. Anything else is
 *    inlined when one group needs it and never in the way `inner`; otherwise it becomes the root of its own group.
 * Reductions are inlined like elementwise ops: the lowering computes them at the loop where their row is fixed.
 */
import { parseAxes } from "../ir/axes.ts";
import { attrsOf, type Func, isOp, type Node, topoOrder, usersOf } from "../ir/graph.ts";
import { loadedDType } from "../ir/kernel/value.ts";
import { opDef, opKind } from "../ir/ops/all.ts";
import type { Target } from "../ir/target.ts";
import { dtypeInfo, sizeOf } from "../ir/types.ts";
import { contractOperands } from "./contract-operands.ts";
import { growEpilogue, isStorageCast } from "./epilogue.ts";
import { type Decision, joined, maxInlined, namesOf, oversized } from "./fusion-decision.ts";
import { indexMath, readsInline, reducedAgain, repeatsRows, withReductions } from "./reductions.ts";
import { type StagedDots, stagedDots } from "./staged-dots.ts";

export interface Group {
  /** The value the kernel writes. */
  readonly root: Node;
  /** What shapes the loops: the root itself, or the contraction below its epilogue. */
  readonly anchor: Node;
  /** The anchor's operand to compute into scratch, row by row, if any. */
  readonly staged: Node | null;
}

export interface Fusion {
  /** In an order in which each group follows those it reads from. */
  readonly groups: readonly Group[];
  /** Values with a buffer: parameters, weights, results of calls, roots. */
  readonly buffers: ReadonlySet<Node>;
  /** What became of every value that a step computes. */
  readonly decisions: readonly Decision[];
}

export interface FuseOptions {
  /** False gives every node a kernel of its own. */
  readonly enabled: boolean;
  /** Values that the loader computes once from weights. */
  readonly weights: ReadonlySet<Node>;
}

/** `apart`: before the kernel, which changes what the value is made of. */
type Way = "free" | "stage" | "inner" | "apart";

/** Groups the nodes of one function. */
export function fuse(func: Func, target: Target, options: FuseOptions): Fusion {
  const live = liveNodes(func.outs, options.weights);
  const nodes = topoOrder(func.outs).filter((node) => live.has(node));
  const users = usersOf(nodes);
  const buffers = new Set<Node>();
  const outs = new Set<Node>(func.outs);
  for (const node of nodes) {
    if (isExternal(node, options.weights)) buffers.add(node);
    // Arguments of calls, and rows updated in place, must be in memory.
    if (isOp(node, "call")) for (const arg of node.ins) outs.add(arg);
    if (opKind(node.op) === "update") outs.add(node.ins[0]!);
  }
  const decisions: Decision[] = [];
  const anchors = new Map<Node, Node>();
  const inside = new Map<Node, Node>();
  if (options.enabled) {
    for (const node of nodes) {
      if (!hasEpilogue(node) || buffers.has(node)) continue;
      const taken = (member: Node) => inside.has(member) || anchors.has(member);
      const { root, members } = growEpilogue(node, nodes, users, outs, taken);
      anchors.set(root, node);
      for (const member of members) {
        if (member === root) continue;
        inside.set(member, root);
        decisions.push(joined(member, "epilogue", [root]));
      }
    }
  }
  const none = { inside: new Set<Node>(), unused: new Set<Node>() };
  const dots = options.enabled ? stagedDots(nodes, users, outs, target) : none;
  const stays = (node: Node) => buffers.has(node) || (isAnchor(node, anchors) && !dots.inside.has(node));
  const gpu = target.workgroup !== null && options.enabled;
  const again = gpu ? reducedAgain(nodes, users, withReductions(nodes, stays)) : new Set<Node>();
  const reducing = withReductions(nodes, (node) => stays(node) || again.has(node));
  const free = gpu ? indexMath(nodes, stays) : new Set<Node>();
  const uncut = (node: Node) => inside.has(node) || isView(node) || free.has(node);
  const cut = options.enabled ? oversized(nodes, (node) => stays(node) || again.has(node), uncut) : new Set<Node>();
  const staged = new Map<Node, Node>();
  const ways = new Map<Node, Map<Node, Way>>();
  for (const node of [...nodes].reverse()) {
    if (buffers.has(node) || inside.has(node) || dots.unused.has(node)) continue;
    // What the loader computes needs nothing of the kernels.
    const readers = users.get(node)!.filter((user) => !options.weights.has(user) && !dots.unused.has(user));
    const needs = collectNeeds(node, readers, { buffers, inside, anchors, ways, reducing, target, dots });
    ways.set(node, needs);
    const why = whyStored(node, needs, { outs, cut, anchors, free, again, enabled: options.enabled, dots });
    if (why !== null && !(isView(node) && !outs.has(node) && options.enabled)) {
      buffers.add(node);
      decisions.push({ node, as: "stored", into: [], ...why });
      continue;
    }
    const stagedIn = [...needs].flatMap(([root, way]) => (way === "stage" && !isView(node) ? [root] : []));
    for (const root of stagedIn) staged.set(root, stagedOperand(anchors.get(root) ?? root));
    decisions.push(joined(node, isView(node) ? "view" : stagedIn.length > 0 ? "staged" : "inlined", [...needs.keys()]));
  }
  const groups = nodes
    .filter((node) => buffers.has(node) && !isExternal(node, options.weights))
    .map((root) => ({ root, anchor: anchors.get(root) ?? root, staged: staged.get(root) ?? null }));
  return { groups, buffers, decisions };
}

interface StoreContext {
  readonly outs: ReadonlySet<Node>;
  readonly cut: ReadonlySet<Node>;
  readonly anchors: ReadonlyMap<Node, Node>;
  /** What this target computes wherever it is needed. */
  readonly free: ReadonlySet<Node>;
  /** Reductions that are reduced again. */
  readonly again: ReadonlySet<Node>;
  readonly enabled: boolean;
  readonly dots: StagedDots;
}

/** Why a value gets a buffer; null where the kernels that need it compute it. */
function whyStored(
  node: Node,
  needs: ReadonlyMap<Node, Way>,
  { outs, cut, anchors, free, again, enabled, dots }: StoreContext,
): Pick<Decision, "why" | "missed"> | null {
  if (outs.has(node)) return { why: "a result, an argument of a call, or rows that are updated", missed: false };
  if (!enabled) return { why: "fusion is off", missed: false };
  if (isAnchor(node, anchors) && !dots.inside.has(node)) return { why: "has loops of its own", missed: false };
  if (cut.has(node)) return { why: `its expression would have more than ${maxInlined} ops`, missed: true };
  if (again.has(node)) return { why: "its elements are reduced again", missed: false };
  const apart = [...needs].flatMap(([root, way]) => (way === "apart" ? [root] : []));
  if (isFree(node) || (free.has(node) && apart.length === 0)) return null;
  if (apart.length > 0) return { why: `${namesOf(apart)} updates what it is made of`, missed: false };
  const inner = [...needs].flatMap(([root, way]) => (way === "inner" ? [root] : []));
  if (inner.length > 0) return { why: `${namesOf(inner)} would compute it again in an inner loop`, missed: true };
  if (needs.size > 1) return { why: `${needs.size} kernels read it: ${namesOf([...needs.keys()])}`, missed: true };
  return needs.size === 1 ? null : { why: "nothing reads it", missed: false };
}

/** Values that come from outside the function's kernels. */
function isExternal(node: Node, weights: ReadonlySet<Node>): boolean {
  return isOp(node, "param") || isOp(node, "call") || weights.has(node);
}

/** What the kernels must compute or read: nodes inside weight expressions never reach a kernel. */
function liveNodes(outs: readonly Node[], weights: ReadonlySet<Node>): Set<Node> {
  const live = new Set<Node>();
  const stack = [...outs];
  while (stack.length > 0) {
    const node = stack.pop()!;
    if (live.has(node)) continue;
    live.add(node);
    if (!weights.has(node)) stack.push(...node.ins);
  }
  return live;
}

/** Kinds whose results elementwise users can change before they are stored. */
function hasEpilogue({ op }: Node): boolean {
  return opKind(op) === "contract" || opKind(op) === "dot";
}

/** Kinds that always write their result: they cannot be a subexpression of another kernel. */
function isAnchor(node: Node, anchors: ReadonlyMap<Node, Node>): boolean {
  const kind = opKind(node.op);
  return (
    anchors.has(node) ||
    hasEpilogue(node) ||
    kind === "opaque" ||
    kind === "update" ||
    kind === "composite" ||
    isStorageCast(node)
  );
}

/** Free to inline anywhere: index arithmetic over something with a buffer, a constant, or what a load does anyway. */
export function isView(node: Node): boolean {
  const { view, evaluate } = opDef(node.op);
  return view === true || (opKind(node.op) === "source" && evaluate !== undefined) || isWidening(node);
}

/** A cast to the type that elements of the operand have once they are loaded. */
function isWidening(node: Node): boolean {
  return isOp(node, "cast") && loadedDType(node.ins[0]!.type.dtype) === node.attrs.dtype;
}

/** Computed wherever it is needed, as often as it is needed. */
export function isFree(node: Node): boolean {
  return isView(node) || opDef(node.op).unpacks === true;
}

interface NeedContext {
  readonly buffers: ReadonlySet<Node>;
  readonly inside: ReadonlyMap<Node, Node>;
  readonly anchors: ReadonlyMap<Node, Node>;
  readonly ways: ReadonlyMap<Node, ReadonlyMap<Node, Way>>;
  /** Nodes that would bring a reduction along. */
  readonly reducing: ReadonlySet<Node>;
  readonly target: Target;
  readonly dots: StagedDots;
}

/** Which groups need a node, each with the most demanding way. */
function collectNeeds(node: Node, users: readonly Node[], context: NeedContext): Map<Node, Way> {
  const needs = new Map<Node, Way>();
  const rank: Record<Way, number> = { free: 0, stage: 1, inner: 2, apart: 3 };
  const need = (root: Node, way: Way) => {
    const known = needs.get(root);
    if (known === undefined || rank[way] > rank[known]) needs.set(root, way);
  };
  for (const user of users) {
    const root = context.buffers.has(user) ? user : context.inside.get(user);
    if (root !== undefined) need(root, wayInto(user, node, root, context));
    else for (const [far, way] of context.ways.get(user)!) need(far, wayThrough(user, node, way, context));
  }
  return needs;
}

/** How `user`, a node computed by the group of `root` itself, reads its operand. */
function wayInto(user: Node, operand: Node, root: Node, context: NeedContext): Way {
  const { target, anchors, reducing, dots } = context;
  if (reducing.has(operand) && repeatsRows(user)) return "inner";
  const kind = opKind(user.op);
  // Rows that are replaced where they lie must not be read while they are.
  if (
    kind === "update" &&
    user.ins[0] !== operand &&
    readsInline(operand, user.ins[0]!, (node) => isAnchor(node, anchors))
  )
    return "apart";
  if (kind === "dot" && (anchors.get(root) ?? root) === user) return dots.inside.has(operand) ? "stage" : "inner";
  const streams = kind === "contract" || kind === "composite";
  if (!streams || (anchors.get(root) ?? root) !== user) return "free";
  const uses = user.ins.flatMap((x, i) => (x === operand ? [i] : []));
  // What makes a query needs buffers of its own, of which a kernel on a small GPU has none to spare.
  const query = target.buffers >= 12 ? "stage" : "inner";
  if (kind === "composite") return uses.some((i) => i === 1 || i === 2) ? "inner" : uses.includes(0) ? query : "free";
  // Workgroups of a GPU would each compute the rows again.
  if (target.workgroup !== null) return "inner";
  const { a } = contractOperands(user);
  return uses.length === 1 && user.ins[uses[0]!] === a && stageBytes(user) <= target.scratchBytes ? "stage" : "inner";
}

/** How a group that reads `user`, which it computes itself, in the way `way` reads an operand of it. */
function wayThrough(user: Node, operand: Node, way: Way, { reducing }: NeedContext): Way {
  if (reducing.has(operand)) return repeatsRows(user) ? "inner" : way;
  return way === "inner" && isRowIndex(user, operand) ? "free" : way;
}

/** Indices of rows do not depend on the place in the row, so that loops over the row's elements do not repeat them. */
function isRowIndex(user: Node, operand: Node): boolean {
  const index = opDef(user.op).view === true && user.ins[1] === operand && user.ins[0] !== operand;
  return index && sizeOf(operand.type.shape) < sizeOf(user.type.shape);
}

/** The operand that a group's kernel computes into scratch: the first of attention, the activations of a contraction. */
function stagedOperand(anchor: Node): Node {
  return opKind(anchor.op) === "contract" ? contractOperands(anchor).a : anchor.ins[0]!;
}

/** Scratch bytes for one row of the activation operand, at the largest tile. */
function stageBytes(contract: Node): number {
  const { a, swapped } = contractOperands(contract);
  const { ins, out } = parseAxes(String(attrsOf(contract).axes));
  const axes = ins[swapped ? 1 : 0]!;
  const row = axes.reduce((size, axis, i) => (out.includes(axis) ? size : size * a.type.shape[i]!), 1);
  return (4 * 4 * row * dtypeInfo(a.type.dtype).bits) / 32;
}
