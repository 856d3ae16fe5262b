/**
 * What a compilation did, in numbers and names: each pass, what fusion put into which kernel and why not more, which launches
 * were merged. Collected while it happens, from the decisions themselves; nothing is derived again afterwards.
 */
import { type Func, isOp, type Module, type Node, topoOrder } from "../ir/graph.ts";
import { byteSize } from "../ir/types.ts";
import { weightExpressions } from "./constant.ts";
import type { Fusion } from "./fuse.ts";
import { labelOf, type Placement } from "./fusion-decision.ts";
import { holdPass } from "./hold-narrow.ts";
import type { LoweredKernel } from "./lower/lower.ts";
import type { Merged, MergeReport, Unmerged } from "./merge/merge-launches.ts";
import type { Instrument } from "./pass.ts";
import { countOps, passNumbers } from "./record-passes.ts";

export interface CompileHistory {
  /** The module that the first pass got. */
  readonly built: ModuleSize;
  readonly passes: readonly PassNumbers[];
  readonly funcs: readonly FuncHistory[];
}

/** Sizes of a module, functions counted once for `ops` and as often as they are called for bytes. */
export interface ModuleSize {
  readonly ops: number;
  /** Of all weights as they are stored, by dtype. */
  readonly storedBytes: Readonly<Record<string, number>>;
  /** Of the weight expressions: what a loader would hold. */
  readonly weightBytes: number;
}

export interface PassNumbers {
  /** Unique: the second simplify is `simplify#2`. */
  readonly name: string;
  readonly ms: number;
  readonly opsBefore: number;
  readonly opsAfter: number;
  readonly weightBytes: number;
  /** How often each rewrite rule was applied. */
  readonly rules: Readonly<Record<string, number>>;
}

/** How one function became kernels. */
export interface FuncHistory {
  readonly name: string;
  /** How often a step runs it. */
  readonly calls: number;
  /** Values that a step computes, views not counted. */
  readonly ops: number;
  /** Bytes that kernels of one op each would read and write. */
  readonly opBytes: number;
  readonly placed: Readonly<Record<Placement, number>>;
  /** Kernels that compute more than one value: the value stored, and those computed on the way to it. */
  readonly fused: readonly { readonly into: string; readonly values: readonly string[] }[];
  /** Values that are stored although fusion might have kept them inside a kernel. */
  readonly missed: readonly { readonly value: string; readonly why: string }[];
  readonly kernels: number;
  readonly kernelBytes: number;
  readonly merged: readonly Merged[];
  readonly unmerged: readonly Unmerged[];
  readonly launches: number;
}

/** Collects a history: `instrument` watches the passes, the other two are told of each function. */
export interface HistoryRecorder {
  readonly instrument: Instrument;
  readonly fused: (func: Func, fusion: Fusion) => void;
  readonly lowered: (func: Func, single: readonly LoweredKernel[], all: readonly LoweredKernel[]) => void;
  readonly merged: (func: Func, report: MergeReport) => void;
  /** The history for the module that came of the passes. */
  readonly history: (module: Module) => CompileHistory;
}

interface Draft {
  fusion?: Fusion;
  merge?: MergeReport;
  kernels: number;
  kernelBytes: number;
  launches: number;
}

/** @param held what is held of weight expressions once `hold-narrow` has run */
export function recordHistory(held: (weights: readonly Node[]) => readonly Node[]): HistoryRecorder {
  const passes: PassNumbers[] = [];
  const numbers = passNumbers();
  let built: ModuleSize = { ops: 0, storedBytes: {}, weightBytes: 0 };
  let rules: Record<string, number> = {};
  const drafts = new Map<string, Draft>();
  const draftOf = (func: Func): Draft => {
    const draft = drafts.get(func.name) ?? { kernels: 0, kernelBytes: 0, launches: 0 };
    drafts.set(func.name, draft);
    return draft;
  };
  return {
    instrument: {
      start: (module) => {
        built = sizeOfModule(module);
      },
      match: (_, { rule }) => {
        rules[rule] = (rules[rule] ?? 0) + 1;
      },
      after: (pass, before, after, ms) => {
        const holds = pass.name === holdPass;
        const same = before === after && !holds && passes.length > 0;
        const weightBytes = same ? passes.at(-1)!.weightBytes : weightBytesOf(after, holds ? held : undefined);
        passes.push({ ...numbers(pass.name, before, after, ms), weightBytes, rules });
        rules = {};
      },
    },
    fused: (func, fusion) => {
      draftOf(func).fusion = fusion;
    },
    merged: (func, merge) => {
      draftOf(func).merge = merge;
    },
    lowered: (func, single, all) => {
      const kernelBytes = single.reduce((sum, { args }) => sum + bytesOf(args), 0);
      Object.assign(draftOf(func), { kernels: single.length, kernelBytes, launches: all.length });
    },
    history: (module) => ({ built, passes, funcs: funcHistories(module, drafts) }),
  };
}

function funcHistories(module: Module, drafts: ReadonlyMap<string, Draft>): FuncHistory[] {
  const calls = callsOf(module);
  return [...drafts].map(([name, draft]) => funcHistory(name, calls.get(name)?.length ?? 0, draft));
}

function funcHistory(name: string, calls: number, draft: Draft): FuncHistory {
  const decisions = draft.fusion?.decisions ?? [];
  const placed = { epilogue: 0, staged: 0, inlined: 0, view: 0, stored: 0 };
  const inside = new Map<Node, Node[]>();
  for (const { node, as, into } of decisions) {
    placed[as]++;
    if (as !== "view") for (const root of into) inside.set(root, [...(inside.get(root) ?? []), node]);
  }
  const computed = decisions.filter(({ as }) => as !== "view").map(({ node }) => node);
  return {
    name,
    calls,
    ops: computed.length,
    opBytes: computed.reduce((sum, node) => sum + bytesOf([node, ...node.ins]), 0),
    placed,
    fused: [...inside].map(([root, nodes]) => ({ into: labelOf(root), values: nodes.map(labelOf) })),
    missed: decisions.filter(({ missed }) => missed).map(({ node, why }) => ({ value: labelOf(node), why })),
    kernels: draft.kernels,
    kernelBytes: draft.kernelBytes,
    merged: draft.merge?.merged ?? [],
    unmerged: draft.merge?.unmerged ?? [],
    launches: draft.launches,
  };
}

function bytesOf(nodes: readonly Node[]): number {
  return nodes.reduce((sum, { type }) => sum + byteSize(type), 0);
}

/** The layer of each call of each function that a step makes; null for the entry, and for calls without one. */
function callsOf(module: Module): Map<string, (number | null)[]> {
  const calls = new Map<string, (number | null)[]>();
  const visit = (name: string, layer: number | null): void => {
    calls.set(name, [...(calls.get(name) ?? []), layer]);
    for (const node of topoOrder(module.funcs.get(name)!.outs)) {
      if (isOp(node, "call") && node.attrs.result === 0) visit(node.attrs.func, node.attrs.layer ?? null);
    }
  };
  visit(module.entry, null);
  return calls;
}

function sizeOfModule(module: Module): ModuleSize {
  const storedBytes: Record<string, number> = {};
  for (const [name, layers] of callsOf(module)) {
    for (const node of topoOrder(module.funcs.get(name)!.outs)) {
      if (!isOp(node, "weight")) continue;
      const { dtype } = node.type;
      storedBytes[dtype] = (storedBytes[dtype] ?? 0) + layers.length * byteSize(node.type);
    }
  }
  return { ops: countOps(module), storedBytes, weightBytes: weightBytesOf(module) };
}

function weightBytesOf(module: Module, held = (weights: readonly Node[]) => weights): number {
  let sum = 0;
  for (const [name, layers] of callsOf(module)) {
    sum += layers.length * bytesOf(held(weightExpressions(module.funcs.get(name)!)));
  }
  return sum;
}
