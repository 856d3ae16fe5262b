/**
 * Merges launches: loop fusion on lowered kernels. Tensor-level fusion makes groups with one result; this makes one kernel of
 * several such, a producer and what reads it or neighbours that have nothing to do with each other, so that a step has
 * fewer launches and threads meet less often. What is quantised is so by the kernel that computes it.
 *
 * A pair qualifies if no other step must stand between its halves, `mergePair` proves it right, and it pays off
 * (`cost.ts`). Pairs are tried greedily, those that share values before those that do not, and of the former those that
 * stay divisible before those that become one iteration: a norm joins a quantisation whose groups are one loop already.
 *
 * A kernel that can do with rows as they were before an update (`LoweredKernel.early`) need not wait for it. Then the update
 * comes later, beside a launch that waits for all that read the old rows.
 */

import { invariant } from "../../ir/errors.ts";
import { type Func, isOp, type Node, topoOrder } from "../../ir/graph.ts";
import type { Target } from "../../ir/target.ts";
import { byteSize } from "../../ir/types.ts";
import type { LoweredKernel } from "../lower/lower.ts";
import { type Candidate, candidateOf } from "./candidate.ts";
import type { MergeContext } from "./keep-inside.ts";
import { largeOperand, mergeBeside, mergePair, mergeTeams, tooManyBuffers, withGrid } from "./merge-pair.ts";
import { keepNear } from "./near.ts";
import { orderByPart } from "./order.ts";
import { mergeRepeated } from "./repeat.ts";

/** Two kernels that became one. */
export interface Merged {
  readonly first: string;
  readonly second: string;
  readonly into: string;
}

/** Why a launch and one that reads a result of it stay two. */
export interface Unmerged {
  readonly first: string;
  readonly second: string;
  readonly why: string;
}

export interface MergeReport {
  readonly merged: readonly Merged[];
  readonly unmerged: readonly Unmerged[];
}

/** The kernels of a function with as many merged as is worth it, in no particular order. */
export function mergeLaunches(
  func: Func,
  kernels: readonly LoweredKernel[],
  target: Target,
  report?: (report: MergeReport) => void,
): readonly LoweredKernel[] {
  const merger = earlyMerger(func, kernels, target) ?? new Merger(func, kernels, target);
  merger.mergeAll([
    ...(target.workgroup === null ? [] : (["siblings"] as const)),
    "divided",
    "whole",
    "repeated",
    "apart",
    ...(target.workgroup === null ? [] : (["beside"] as const)),
  ]);
  report?.({ merged: merger.merged, unmerged: merger.unmerged() });
  return merger.candidates.map((each) =>
    target.workgroup === null ? withGrid(each, target) : orderByPart(keepNear(each.lowered, target), target),
  );
}

/** With updates after what reads the rows that they replace, where there is a launch for each to be beside. */
function earlyMerger(func: Func, kernels: readonly LoweredKernel[], target: Target): Merger | undefined {
  const usable = ({ early }: LoweredKernel) => early !== undefined && !tooManyBuffers(early.kernel.bufs, target);
  if (!kernels.some(usable)) return undefined;
  const chosen = kernels.map((each) => (usable(each) ? (each.early ?? each) : each));
  const merger = new Merger(func, chosen, target);
  // Before what has nothing to do with each other is merged, so that an update is beside others and not before them.
  merger.mergeAll(["divided", "whole"]);
  return merger.putUpdatesLater() ? merger : undefined;
}

/**
 * Which pairs: both read much of the same, and wait for the same; one reads the other's result and the whole stays divisible,
 * or becomes one iteration, or the one is done again by each workgroup of the other; or neither reads, and the same or other
 * workgroups run both.
 */
type Kind = "siblings" | "divided" | "whole" | "repeated" | "apart" | "beside";
const linking: ReadonlySet<Kind> = new Set(["divided", "whole", "repeated"]);

class Merger {
  candidates: Candidate[];
  readonly merged: Merged[] = [];
  readonly #context: MergeContext;
  /** What calls and results need, which must stay in memory. */
  readonly #outside: ReadonlySet<Node>;
  /** The last position of a result in the function's order. */
  readonly #position: ReadonlyMap<Node, number>;
  /** Pairs that were tried in vain, by the way to merge them; candidates are never changed. */
  readonly #tried = new Map<typeof mergePair, Map<Candidate, Map<Candidate, string>>>();

  constructor(func: Func, kernels: readonly LoweredKernel[], target: Target) {
    const nodes = topoOrder(func.outs);
    this.#position = new Map(nodes.map((node, i) => [node, i]));
    this.#outside = new Set([...func.outs, ...nodes.flatMap((node) => (isOp(node, "call") ? node.ins : []))]);
    this.candidates = this.#inOrder(kernels.map(candidateOf));
    this.#context = { target, needed: (node, a, b) => this.#isNeeded(node, a, b) };
  }

  /** Merges as long as there is a pair of one of these kinds. */
  mergeAll(kinds: readonly Kind[]): void {
    while (kinds.some((kind) => this.mergeOne(kind)));
  }

  /** Merges the first pair of a kind that can be; whether there was one. */
  mergeOne(kind: Kind): boolean {
    for (const [at, b] of this.candidates.entries()) {
      // The nearest first, so that chains grow from their ends.
      for (const a of this.candidates.slice(0, at).reverse()) {
        const linked = b.operands.some((node) => a.results.includes(node));
        if (linked !== linking.has(kind)) continue;
        if (kind === "siblings" && !this.#areSiblings(a, b)) continue;
        const other = kind === "repeated" ? mergeRepeated : kind === "beside" ? mergeTeams : undefined;
        const merged = other ? this.#try(other, a, b) : this.tryMerge(a, b, kind === "divided");
        if (typeof merged === "string") continue;
        if (kind === "repeated" && this.#mergeReaders(a, b)) return true;
        this.#replace(a, b, merged);
        return true;
      }
    }
    return false;
  }

  #replace(a: Candidate, b: Candidate, merged: Candidate): void {
    const [first, second, into] = [a, b, merged].map((each) => each.lowered.kernel.name);
    this.merged.push({ first: first!, second: second!, into: into! });
    this.candidates = this.#inOrder([...this.candidates.filter((each) => each !== a && each !== b), merged]);
  }

  /**
   * Puts every update in place beside a launch that waits for all that read the rows which it replaces, unless it waits for
   * them itself. Says whether it could: without, these rows would have to be copied.
   */
  putUpdatesLater(): boolean {
    const waits = (each: Candidate, readers: readonly Candidate[]) =>
      readers.every(({ results }) => this.#needs(each.operands, results));
    for (;;) {
      const waiting = this.candidates.filter((each) => !waits(each, this.#readersOfOld(each)));
      const [update, ...more] = waiting;
      if (update === undefined) return true;
      const readers = this.#readersOfOld(update);
      const beside = (other: Candidate) =>
        waits(other, readers) && !this.#needs(update.operands, other.results)
          ? mergeBeside(other, update, this.#context)
          : "runs before";
      const merges: readonly (readonly [Candidate, Candidate | string])[] = [
        ...more.map((other) => [other, this.tryMerge(update, other)] as const),
        ...this.candidates.map((other) => [other, other === update ? "itself" : beside(other)] as const),
      ];
      const found = merges.find(([, merged]) => typeof merged !== "string");
      if (found === undefined) return false;
      this.#replace(update, found[0], found[1] as Candidate); // as `find` says
    }
  }

  #readersOfOld(update: Candidate): Candidate[] {
    const old = [...update.lowered.replaces.values()];
    return this.candidates.filter((each) => each !== update && each.operands.some((node) => old.includes(node)));
  }

  tryMerge(a: Candidate, b: Candidate, divided = false): Candidate | string {
    if (divided && (a.extent === 1 || b.extent === 1)) return "runs as a whole";
    return this.#try(mergePair, a, b);
  }

  #try(merge: typeof mergePair, a: Candidate, b: Candidate): Candidate | string {
    const tried = this.#tried.get(merge) ?? new Map<Candidate, Map<Candidate, string>>();
    this.#tried.set(merge, tried);
    const known = tried.get(a)?.get(b);
    if (known !== undefined) return known;
    const merged = this.#between(a, b) ?? this.#tooEarly(a, b) ?? merge(a, b, this.#context);
    if (typeof merged === "string") tried.set(a, (tried.get(a) ?? new Map()).set(b, merged));
    return merged;
  }

  /** Merges `b` with another launch that reads what `a` computes, so that this is done again for both. */
  #mergeReaders(a: Candidate, b: Candidate): boolean {
    for (const other of this.candidates) {
      if (other === a || other === b || !other.operands.some((node) => a.results.includes(node))) continue;
      const [first, second] = this.candidates.indexOf(other) < this.candidates.indexOf(b) ? [other, b] : [b, other];
      if (second.operands.some((node) => first.results.includes(node))) continue;
      const merged = this.tryMerge(first, second);
      if (typeof merged === "string" || merged.extent === 1) continue;
      this.#replace(first, second, merged);
      return true;
    }
    return false;
  }

  #areSiblings(a: Candidate, b: Candidate): boolean {
    const large = (node: Node) => byteSize(node.type) >= largeOperand && b.operands.includes(node);
    if (a.team.kind !== "together" || b.team.kind !== "together") return false;
    if (a.extent === 1 || a.extent !== b.extent || !a.operands.some(large)) return false;
    const made = makers(this.candidates);
    const [first, second] = [a, b].map(({ operands }) => makersOf(operands, made)) as [Set<Candidate>, Set<Candidate>];
    return first.size === second.size && [...first].every((each) => second.has(each));
  }

  /** Why each two that pass a value on are two; most of these pairs have been tried. */
  unmerged(): Unmerged[] {
    return this.candidates.flatMap((a) =>
      this.candidates.flatMap((b) => {
        if (a === b || !b.operands.some((node) => a.results.includes(node))) return [];
        const merged = this.tryMerge(a, b);
        const why = typeof merged === "string" ? merged : "they can be merged";
        return [{ first: a.lowered.kernel.name, second: b.lowered.kernel.name, why }];
      }),
    );
  }

  #isNeeded(node: Node, a: Candidate, b: Candidate): boolean {
    const replaced = a.lowered.replaces.has(node) || b.lowered.replaces.has(node);
    const read = (each: Candidate) => each !== a && each !== b && each.operands.includes(node);
    return replaced || this.#outside.has(node) || this.candidates.some(read);
  }

  /** Whether something must run after `a` and before `b`; `a` comes first in the function. */
  #between(a: Candidate, b: Candidate): string | undefined {
    const others = b.operands.filter((node) => !a.results.includes(node));
    return this.#needs(others, a.results) ? "another step stands between them" : undefined;
  }

  /** Whether an update in place would come before something that reads what it replaces, which would cost a copy. */
  #tooEarly(a: Candidate, b: Candidate): string | undefined {
    const results = [...a.results, ...b.results];
    for (const old of [a, b].flatMap(({ lowered }) => [...lowered.replaces.values()])) {
      const reads = (each: Candidate) => each !== a && each !== b && each.operands.includes(old);
      const later = this.candidates.find((each) => reads(each) && this.#needs(each.operands, results));
      if (later !== undefined) return `${later.lowered.kernel.name} reads what one of them updates in place`;
    }
    return undefined;
  }

  /** Whether computing these values needs one of those. */
  #needs(values: readonly Node[], wanted: readonly Node[]): boolean {
    const made = makers(this.candidates);
    const seen = new Set<Node>();
    const stack = [...values];
    while (stack.length > 0) {
      const node = stack.pop()!;
      if (seen.has(node)) continue;
      seen.add(node);
      if (wanted.includes(node)) return true;
      const maker = made.get(node);
      // What one kernel computes needs all that it reads, and with its other results comes what reads them.
      if (maker !== undefined) stack.push(...maker.operands);
      else if (isOp(node, "call")) stack.push(...node.ins);
    }
    return false;
  }

  /** Topological, and as far as that allows by where the last result stands in the function. */
  #inOrder(candidates: readonly Candidate[]): Candidate[] {
    const made = makers(candidates);
    const last = ({ results }: Candidate) => Math.max(...results.map((node) => this.#position.get(node)!));
    const waiting = [...candidates].sort((a, b) => last(a) - last(b));
    const needs = new Map(waiting.map((each) => [each, makersOf(each.operands, made)]));
    const ordered: Candidate[] = [];
    while (waiting.length > 0) {
      const next = waiting.findIndex((each) => !waiting.some((other) => needs.get(each)!.has(other)));
      invariant(next >= 0, () => "kernels wait for each other");
      ordered.push(...waiting.splice(next, 1));
    }
    return ordered;
  }
}

function makers(candidates: readonly Candidate[]): Map<Node, Candidate> {
  return new Map(candidates.flatMap((each) => each.results.map((node) => [node, each] as const)));
}

/** The kernels that compute these values, or what a call that gives them needs. */
function makersOf(values: readonly Node[], made: ReadonlyMap<Node, Candidate>): Set<Candidate> {
  const found = new Set<Candidate>();
  const seen = new Set<Node>();
  const stack = [...values];
  while (stack.length > 0) {
    const node = stack.pop()!;
    if (seen.has(node)) continue;
    seen.add(node);
    const maker = made.get(node);
    if (maker !== undefined) found.add(maker);
    else if (isOp(node, "call")) stack.push(...node.ins);
  }
  return found;
}
