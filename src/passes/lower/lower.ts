/** Lowering of a function: one kernel per fused group, by a table keyed on what shapes the group's loops. */
import { type Func, isOp, type Node, nameOf, topoOrder } from "../../ir/graph.ts";
import type { Kernel } from "../../ir/kernel/kernel.ts";
import { globalBufs } from "../../ir/kernel/walk.ts";
import { type OpName, opKind } from "../../ir/ops/all.ts";
import type { Target } from "../../ir/target.ts";
import { showType } from "../../ir/types.ts";
import { type FuseOptions, type Fusion, fuse, type Group } from "../fuse.ts";
import { lowerAttention, ofWorkgroups } from "./attention.ts";
import { lowerMergeParts } from "./attention-merge.ts";
import { lowerAttentionEarly, lowerAttentionRow } from "./attention-row.ts";
import { lowerContract } from "./contract.ts";
import { lowerDotGroups } from "./dot.ts";
import { lowerGroupMinimums, lowerGroupScales } from "./groups.ts";
import { lowerMap } from "./map.ts";
import { lowerArgMax, lowerTopKIndices, lowerTopKValues } from "./select.ts";
import { lowerUpdateRows } from "./update.ts";
import { elementValue } from "./values.ts";
import { KernelWriter } from "./writer.ts";

export interface LoweredKernel {
  readonly kernel: Kernel;
  /** The value behind each global buffer of the kernel, in order. */
  readonly args: readonly Node[];
  /** For each value that takes the place of another (an update of some of its rows), that other. */
  readonly replaces: ReadonlyMap<Node, Node>;
  /** The same results from rows as they were before an update, so that this may come later: undefined where there is none. */
  readonly early?: LoweredKernel;
}

/** The values that a kernel computes: those behind the buffers that it writes. */
export function resultsOf({ kernel, args }: LoweredKernel): Node[] {
  const bufs = globalBufs(kernel);
  return args.filter((_, i) => bufs[i]!.access !== "read");
}

/** The values that a kernel needs, those that it replaces included. */
export function operandsOf({ kernel, args, replaces }: LoweredKernel): Node[] {
  const bufs = globalBufs(kernel);
  return [...args.filter((_, i) => bufs[i]!.access === "read"), ...replaces.values()];
}

/** Ops whose loops are not those of a map. */
const anchors: Partial<Record<OpName, (w: KernelWriter, anchor: Node, group: Group) => void>> = {
  contract: (w, _, group) => lowerContract(w, group),
  attention: lowerAttention,
  attentionParts: ofWorkgroups(lowerAttentionRow),
  mergeParts: ofWorkgroups(lowerMergeParts),
  dotGroups: lowerDotGroups,
  updateRows: lowerUpdateRows,
  topKIndices: lowerTopKIndices,
  topKValues: lowerTopKValues,
  argMax: lowerArgMax,
  groupScales: lowerGroupScales,
  groupMinimums: lowerGroupMinimums,
};

/** Of ops that read rows updated in this step: lowering from the rows before, where it can. */
const earlier: Partial<Record<OpName, typeof lowerAttentionEarly>> = {
  attention: lowerAttentionEarly,
  attentionParts: lowerAttentionEarly,
};

/** Fuses and lowers one function; `report` gets what fusion decided. */
export function lowerFunc(
  func: Func,
  target: Target,
  options: FuseOptions,
  report?: (fusion: Fusion) => void,
): LoweredKernel[] {
  const fusion = fuse(func, target, options);
  report?.(fusion);
  const { groups, buffers } = fusion;
  return withoutUnused(
    func,
    groups.map((group) => lowerGroup(group, target, buffers)),
  );
}

/** Without kernels whose results no other came to read: a lowering may find that it needs not all of its operands. */
function withoutUnused(func: Func, kernels: readonly LoweredKernel[]): LoweredKernel[] {
  const calls = topoOrder(func.outs).filter((node) => isOp(node, "call"));
  const needed = new Set<Node>([...func.outs, ...calls.flatMap(({ ins }) => ins)]);
  const used = new Set<LoweredKernel>();
  for (let before = -1; used.size > before; ) {
    before = used.size;
    for (const kernel of kernels) {
      if (used.has(kernel) || !resultsOf(kernel).some((node) => needed.has(node))) continue;
      used.add(kernel);
      for (const node of operandsOf(kernel)) needed.add(node);
    }
  }
  return kernels.filter((kernel) => used.has(kernel));
}

function lowerGroup(group: Group, target: Target, buffers: ReadonlySet<Node>): LoweredKernel {
  const w = new KernelWriter(group.root, target, (node) => buffers.has(node), elementValue);
  const lower = anchors[group.anchor.op] ?? lowerMap;
  lower(w, group.anchor, group);
  const origin = originOf(group, buffers);
  const { root, anchor } = group;
  const replaces = new Map(opKind(anchor.op) === "update" ? [[root, anchor.ins[0]!]] : []);
  const early = lowerEarly(group, target, buffers);
  return { ...w.finish(origin), replaces, ...(early && { early: { ...early.finish(origin), replaces } }) };
}

function lowerEarly({ root, anchor }: Group, target: Target, buffers: ReadonlySet<Node>): KernelWriter | undefined {
  const lower = earlier[anchor.op];
  if (lower === undefined || target.workgroup === null) return undefined;
  const w = new KernelWriter(root, target, (node) => buffers.has(node), elementValue);
  return lower(w, anchor, target.workgroup) ? w : undefined;
}

/** The ops a kernel computes, operands first, as `name = op type`. */
function originOf(group: Group, buffers: ReadonlySet<Node>): string[] {
  const lines: string[] = [];
  const seen = new Set<Node>();
  const visit = (node: Node): void => {
    if (seen.has(node) || (node !== group.root && buffers.has(node))) return;
    seen.add(node);
    for (const x of node.ins) visit(x);
    const name = nameOf(node);
    lines.push(`${name === undefined ? "" : `${name} = `}${node.op} ${showType(node.type)}`);
  };
  visit(group.root);
  return lines;
}
