/**
 * Memory planning: gives every value with a buffer a location, and orders kernels and calls into steps.
 *
 * 1. Steps are the groups and calls in topological order.
 * 2. A result is computed where the caller wants it. A row update lands in the memory of the rows it replaces if neither
 *    it nor anything later reads the old value; otherwise the old value is copied first. A call whose result is left in
 *    a parameter's memory (a cache) is treated like an update of that argument. A parameter's memory is written only if
 *    a result is left in it: the caller may need the value again.
 * 3. Everything else gets a place in the arena from its first to its last step (`packArena`). The arena of a called
 *    function is one more such place, needed during the call alone.
 */
import { invariant } from "../ir/errors.ts";
import { type Func, isOp, type Module, type Node, nameOf, topoOrder } from "../ir/graph.ts";
import type { Kernel } from "../ir/kernel/kernel.ts";
import { printKernel } from "../ir/kernel/print.ts";
import { type FuncPlan, type Location, type Plan, type Step, writtenParams } from "../ir/plan.ts";
import { byteSize, type TensorType } from "../ir/types.ts";
import { packArena } from "./arena.ts";
import { type LoweredKernel, operandsOf, resultsOf } from "./lower/lower.ts";

export interface LoweredFunc {
  readonly func: Func;
  readonly kernels: readonly LoweredKernel[];
  readonly weights: readonly Node[];
}

/** Plans all functions of a module; equal kernels are kept once. */
export function planMemory(module: Module, lowered: readonly LoweredFunc[]): Plan {
  const kernels: Kernel[] = [];
  const known = new Map<string, number>();
  const kernelIndex = (kernel: Kernel): number => {
    const text = printKernel(kernel);
    const index = known.get(text) ?? kernels.push(kernel) - 1;
    known.set(text, index);
    return index;
  };
  const funcs = new Map<string, FuncPlan>();
  for (const each of lowered) funcs.set(each.func.name, planFunc(each, funcs, kernels, kernelIndex));
  return { name: module.name, entry: module.entry, funcs, kernels };
}

/** Plans until no parameter is overwritten in vain: whether a result stays in its memory shows only in the whole plan. */
function planFunc(
  lowered: LoweredFunc,
  callees: ReadonlyMap<string, FuncPlan>,
  kernels: readonly Kernel[],
  kernelIndex: (kernel: Kernel) => number,
): FuncPlan {
  const kept = new Set<number>();
  for (;;) {
    const plan = new FuncPlanner(lowered, callees, kernelIndex, kept).plan();
    const spoiled = writtenParams(plan, kernels).filter((param) => !plan.donated.includes(param));
    if (spoiled.length === 0) return plan;
    for (const param of spoiled) kept.add(param);
  }
}

/** One step to be: a kernel, or the result nodes of one call. */
type Item = { readonly kernel: LoweredKernel } | { readonly results: readonly Node<"call">[] };

/** A location before the arena is packed. */
interface Draft {
  readonly type: TensorType;
  readonly place: Location["place"];
  readonly index: number;
  first: number;
  last: number;
}

class FuncPlanner {
  readonly #func: Func;
  readonly #weights: readonly Node[];
  readonly #items: readonly Item[];
  readonly #callees: ReadonlyMap<string, FuncPlan>;
  readonly #kernelIndex: (kernel: Kernel) => number;
  /** Parameters whose memory must not be written. */
  readonly #kept: ReadonlySet<number>;
  readonly #drafts: Draft[] = [];
  readonly #at = new Map<Node, number>();
  readonly #steps: Step[] = [];
  /** The last item that reads each value; results of the function are read after the end. */
  readonly #lastRead = new Map<Node, number>();
  readonly #arenas: { readonly step: number; readonly bytes: number }[] = [];

  constructor(
    lowered: LoweredFunc,
    callees: ReadonlyMap<string, FuncPlan>,
    kernelIndex: (kernel: Kernel) => number,
    kept: ReadonlySet<number>,
  ) {
    this.#kept = kept;
    this.#func = lowered.func;
    this.#weights = lowered.weights;
    this.#callees = callees;
    this.#kernelIndex = kernelIndex;
    this.#items = orderItems(lowered);
    for (const [i, item] of this.#items.entries()) for (const node of readsOf(item)) this.#lastRead.set(node, i);
    for (const out of this.#func.outs) this.#lastRead.set(out, Number.POSITIVE_INFINITY);
  }

  plan(): FuncPlan {
    const { params, outs, name } = this.#func;
    for (const [i, param] of params.entries()) this.#at.set(param, this.#draft(param.type, "param", i));
    for (const [i, weight] of this.#weights.entries()) this.#at.set(weight, this.#draft(weight.type, "weight", i));
    for (const [i, item] of this.#items.entries()) {
      if ("kernel" in item) this.#launch(item.kernel, i);
      else this.#call(item.results, i);
    }
    const donated = this.#returnResults();
    const { locations, arenaBytes, steps } = this.#pack();
    return {
      name,
      params: params.map((param) => ({ name: param.attrs.name, type: param.type })),
      results: outs.map((out, i) => ({ name: nameOf(out) ?? `result${i}`, type: out.type })),
      donated,
      weights: this.#weights,
      locations,
      steps,
      arenaBytes,
    };
  }

  #draft(type: TensorType, place: Location["place"], index = 0): number {
    return this.#drafts.push({ type, place, index, first: Number.POSITIVE_INFINITY, last: -1 }) - 1;
  }

  #push(step: Step, touched: readonly number[]): void {
    const at = this.#steps.push(step) - 1;
    for (const i of touched) {
      const draft = this.#drafts[i]!;
      draft.first = Math.min(draft.first, at);
      draft.last = Math.max(draft.last, at);
    }
  }

  /** Where a new value goes: to the caller if it is a result (once), else to the arena. */
  #place(node: Node): number {
    const result = this.#func.outs.indexOf(node);
    const at = result === -1 ? this.#draft(node.type, "arena") : this.#draft(node.type, "result", result);
    this.#at.set(node, at);
    return at;
  }

  #location(node: Node): number {
    const at = this.#at.get(node);
    invariant(at !== undefined, () => `@${this.#func.name}: ${node.op} is read but has no location`);
    return at;
  }

  /** The location for a value that replaces `old` in place during item `i`: that of `old`, or of a copy. */
  #inherit(old: Node, i: number): number {
    const at = this.#location(old);
    const { place, index } = this.#drafts[at]!;
    const writable = place !== "weight" && !(place === "param" && this.#kept.has(index));
    return writable && !this.#readAfter(at, i) ? at : this.#copyOf(at);
  }

  /** Whether a value in this location is read after item `i`. */
  #readAfter(location: number, i: number): boolean {
    for (const [node, at] of this.#at) if (at === location && (this.#lastRead.get(node) ?? -1) > i) return true;
    return false;
  }

  #launch(lowered: LoweredKernel, i: number): void {
    const { kernel, args, replaces } = lowered;
    const results = new Set(resultsOf(lowered));
    const taken = new Set(args.filter((node) => !results.has(node)).map((node) => this.#location(node)));
    for (const node of results) {
      const old = replaces.get(node);
      if (old === undefined) this.#place(node);
      else {
        const shared = taken.has(this.#location(old));
        const at = shared ? this.#copyOf(this.#location(old)) : this.#inherit(old, i);
        taken.add(at);
        this.#at.set(node, at);
      }
    }
    const locations = args.map((node) => this.#location(node));
    this.#push({ step: "launch", kernel: this.#kernelIndex(kernel), args: locations }, locations);
  }

  #call(nodes: readonly Node<"call">[], i: number): void {
    const { ins, attrs } = nodes[0]!;
    const callee = this.#callees.get(attrs.func);
    invariant(callee !== undefined, () => `@${attrs.func} is not planned before its caller`);
    const args = ins.map((node) => this.#location(node));
    const results = callee.results.map(({ type }, r) => {
      const node = nodes.find((each) => each.attrs.result === r);
      const param = callee.donated[r] ?? null;
      if (param === null) return node === undefined ? this.#draft(type, "arena") : this.#place(node);
      const shared = args.some((arg, j) => j !== param && arg === args[param]);
      const at = shared ? this.#copyOf(args[param]!) : this.#inherit(ins[param]!, i);
      args[param] = at;
      if (node !== undefined) this.#at.set(node, at);
      return at;
    });
    this.#arenas.push({ step: this.#steps.length, bytes: callee.arenaBytes });
    const step: Step = { step: "call", func: attrs.func, layer: attrs.layer ?? null, args, results, arena: 0 };
    this.#push(step, [...args, ...results]);
  }

  #copyOf(at: number): number {
    const copy = this.#draft(this.#drafts[at]!.type, "arena");
    this.#push({ step: "copy", from: at, to: copy }, [at, copy]);
    return copy;
  }

  /** Copies results that are not where the caller wants them, but for those left in a parameter. */
  #returnResults(): (number | null)[] {
    const taken = new Set<number>();
    return this.#func.outs.map((out, i) => {
      const at = this.#location(out);
      const { place, index } = this.#drafts[at]!;
      if (place === "result" && index === i) return null;
      if (place === "param" && !taken.has(index)) {
        taken.add(index);
        return index;
      }
      const to = this.#draft(out.type, "result", i);
      this.#push({ step: "copy", from: at, to }, [at, to]);
      return null;
    });
  }

  #pack(): { locations: Location[]; arenaBytes: number; steps: Step[] } {
    const values = this.#drafts.flatMap((draft, i) => (draft.place === "arena" && draft.last >= 0 ? [i] : []));
    const ranges = [
      ...values.map((i) => ({
        bytes: byteSize(this.#drafts[i]!.type),
        first: this.#drafts[i]!.first,
        last: this.#drafts[i]!.last,
      })),
      ...this.#arenas.map(({ step, bytes }) => ({ bytes, first: step, last: step })),
    ];
    const { offsets, bytes } = packArena(ranges);
    const locations = this.#drafts.map(({ type, place, index }, i): Location => {
      if (place !== "arena") return { place, index, type };
      return { place, offset: offsets[values.indexOf(i)] ?? 0, type };
    });
    const steps = this.#steps.map((step, at) => {
      const arena = this.#arenas.findIndex((each) => each.step === at);
      return step.step === "call" && arena !== -1 ? { ...step, arena: offsets[values.length + arena]! } : step;
    });
    return { locations, arenaBytes: bytes, steps };
  }
}

/** Kernels and calls in topological order: of those that can run, the one whose last result comes first. */
function orderItems({ func, kernels, weights }: LoweredFunc): Item[] {
  const position = new Map(topoOrder(func.outs).map((node, i) => [node, i]));
  const items: { at: number; item: Item }[] = kernels.map((kernel) => ({
    at: Math.max(...resultsOf(kernel).map((node) => position.get(node)!)),
    item: { kernel },
  }));
  const calls = new Map<string, Node<"call">[]>();
  const weighed = new Set(weights);
  for (const node of position.keys()) {
    if (!isOp(node, "call") || weighed.has(node)) continue;
    const key = `${node.attrs.func} ${node.attrs.layer} ${node.ins.map((x) => x.id)}`;
    const results = calls.get(key);
    if (results === undefined) calls.set(key, [node]);
    else results.push(node);
  }
  for (const results of calls.values())
    items.push({ at: Math.min(...results.map((node) => position.get(node)!)), item: { results } });
  items.sort((a, b) => a.at - b.at);
  // A kernel of several results stands where the last does, so what reads the others may have to wait for it.
  const missing = new Set(items.flatMap(({ item }) => writesOf(item)));
  const ordered: Item[] = [];
  const waiting = items.map(({ item }) => item);
  while (waiting.length > 0) {
    const next = waiting.findIndex((item) => !readsOf(item).some((node) => missing.has(node)));
    invariant(next >= 0, () => `@${func.name}: kernels wait for each other`);
    const [item] = waiting.splice(next, 1) as [Item]; // found above
    for (const node of writesOf(item)) missing.delete(node);
    ordered.push(item);
  }
  return ordered;
}

function writesOf(item: Item): readonly Node[] {
  return "results" in item ? item.results : resultsOf(item.kernel);
}

function readsOf(item: Item): readonly Node[] {
  return "results" in item ? item.results[0]!.ins : operandsOf(item.kernel);
}
