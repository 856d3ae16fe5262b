/**
 * Pipeline stages: the entry's calls (layers) and contractions, in order, are divided into contiguous runs of about equal
 * cost, one per stage. What a stage needs of an earlier one is sent; what depends on parameters and weights without such a
 * node (tables of angles, row numbers) every stage computes for itself.
 */

import { UnsupportedError } from "../../ir/errors.ts";
import { Builder, type Func, getFunc, isOp, type Module, makeModule, type Node, topoOrder } from "../../ir/graph.ts";
import { opKind } from "../../ir/ops/all.ts";
import { keepName } from "../../ir/rewrite.ts";
import { byteSize } from "../../ir/types.ts";

export interface StageProgram {
  readonly module: Module;
  /** Which parameters of the whole program the stage's entry has, by number. */
  readonly params: readonly number[];
  /** Which results of the whole program its first results are, by number; what follows are messages sent. */
  readonly results: readonly number[];
}

export interface StageOptions {
  /** The cost of a call or contraction of the entry, by its node, in order. Default: bytes of the weights that it is the first to read. */
  readonly cost?: (node: Node, module: Module) => number;
}

export function splitStages(module: Module, count: number, options: StageOptions = {}): StageProgram[] {
  const entry = getFunc(module, module.entry);
  const order = topoOrder(entry.outs);
  if (count === 1) {
    return [{ module, params: entry.params.map((_, i) => i), results: entry.outs.map((_, i) => i) }];
  }
  const stageOf = assignStages(module, order, count, options.cost ?? weightCounter());
  const crossing = crossings(order, stageOf);
  return Array.from({ length: count }, (_, stage) => {
    const own = new StageBuilder(entry, stage, stageOf, crossing);
    const results = entry.outs.flatMap((out, i) => ((stageOf.get(out) ?? 0) === stage ? [i] : []));
    const func = own.func(results);
    const called = reachable(module, func);
    const funcs = [...module.funcs.values()].filter(({ name }) => called.has(name));
    return {
      module: makeModule(`${module.name}.stage${stage}`, [...funcs, func], func.name),
      params: own.params,
      results,
    };
  });
}

/** Stages of the nodes that have one. */
type Stages = ReadonlyMap<Node, number>;

function assignStages(
  module: Module,
  order: readonly Node[],
  count: number,
  cost: (node: Node, m: Module) => number,
): Stages {
  const anchored = new Set<Node>();
  /** Results of one call go together. */
  const units = new Map<string, { nodes: Node[]; cost: number }>();
  for (const node of order) {
    const starts = isOp(node, "call") || opKind(node.op) === "contract";
    if (!starts && !node.ins.some((x) => anchored.has(x))) continue;
    anchored.add(node);
    const key = isOp(node, "call")
      ? `${node.attrs.func} ${node.attrs.layer} ${node.ins.map((x) => x.id)}`
      : `${node.id}`;
    const unit = units.get(key) ?? { nodes: [], cost: cost(node, module) };
    unit.nodes.push(node);
    units.set(key, unit);
  }
  const list = [...units.values()];
  if (list.length < count) {
    const hint = `The nearest division that works is ${Math.max(list.length, 1)} stages.`;
    throw new UnsupportedError(`@${module.entry}`, `cannot be divided into ${count} stages`, { hint });
  }
  const ends = balancedEnds(
    list.map((unit) => unit.cost),
    count,
  );
  const stages = new Map<Node, number>();
  for (const [i, { nodes }] of list.entries()) {
    for (const node of nodes)
      stages.set(
        node,
        ends.findIndex((end) => i < end),
      );
  }
  return stages;
}

/**
 * Where each of `count` contiguous runs ends, so that the dearest run is as cheap as can be and, of such divisions, later
 * runs are no longer than needed. Every run has at least one element.
 */
export function balancedEnds(costs: readonly number[], count: number): number[] {
  const before = [0];
  for (const cost of costs) before.push(before.at(-1)! + cost);
  const n = costs.length;
  /** best[k][i]: the dearest of k runs that make up the first i. */
  const best: number[][] = [[0, ...new Array<number>(n).fill(Number.POSITIVE_INFINITY)]];
  const last: number[][] = [[]];
  for (let k = 1; k <= count; k++) {
    const [row, from] = [new Array<number>(n + 1).fill(Number.POSITIVE_INFINITY), new Array<number>(n + 1).fill(0)];
    for (let i = k; i <= n; i++) {
      for (let j = k - 1; j < i; j++) {
        const dearest = Math.max(best[k - 1]![j]!, before[i]! - before[j]!);
        if (dearest < row[i]!) [row[i], from[i]] = [dearest, j];
      }
    }
    best.push(row);
    last.push(from);
  }
  const ends: number[] = [];
  for (let [k, i] = [count, n]; k > 0; k--) {
    ends.unshift(i);
    i = last[k]![i]!;
  }
  return ends;
}

/**
 * Counts bytes of weights, for nodes in order: those of a call's function, and those that a node reads with no call or
 * contraction in between, such as the table of embeddings, if none before it did.
 */
export function weightCounter(): (node: Node, module: Module) => number {
  const counted = new Set<Node>();
  const sum = (roots: readonly Node[], seen: Set<Node>): number => {
    const weights = topoOrder(roots).filter((each) => isOp(each, "weight") && !seen.has(each));
    for (const each of weights) seen.add(each);
    return weights.reduce((total, { type }) => total + byteSize(type), 0);
  };
  return (node, module) =>
    sum(withoutAnchors(node.ins), counted) +
    (isOp(node, "call") ? sum(getFunc(module, node.attrs.func).outs, new Set()) : 0);
}

/** Those that depend on no call and no contraction. */
function withoutAnchors(nodes: readonly Node[]): readonly Node[] {
  const anchored = new Set<Node>();
  for (const node of topoOrder(nodes)) {
    const isAnchor = isOp(node, "call") || opKind(node.op) === "contract";
    if (isAnchor || node.ins.some((x) => anchored.has(x))) anchored.add(node);
  }
  return nodes.filter((node) => !anchored.has(node));
}

/** For each value used in later stages than its own, these stages. */
function crossings(order: readonly Node[], stageOf: Stages): ReadonlyMap<Node, readonly number[]> {
  const crossing = new Map<Node, number[]>();
  for (const node of order) {
    const stage = stageOf.get(node);
    if (stage === undefined) continue;
    for (const x of node.ins) {
      const from = stageOf.get(x);
      const known = crossing.get(x) ?? [];
      if (from !== undefined && from < stage && !known.includes(stage)) crossing.set(x, [...known, stage]);
    }
  }
  return crossing;
}

class StageBuilder {
  readonly params: number[] = [];
  readonly #builder = new Builder();
  readonly #made = new Map<Node, Node>();
  readonly #entry: Func;
  readonly #stage: number;
  readonly #stageOf: Stages;
  readonly #crossing: ReadonlyMap<Node, readonly number[]>;

  constructor(entry: Func, stage: number, stageOf: Stages, crossing: ReadonlyMap<Node, readonly number[]>) {
    this.#entry = entry;
    this.#stage = stage;
    this.#stageOf = stageOf;
    this.#crossing = crossing;
  }

  func(results: readonly number[]): Func {
    const outs = results.map((i) => this.#node(this.#entry.outs[i]!));
    const channels = [...this.#crossing.keys()];
    const sends = channels.flatMap((value, channel) => {
      if (this.#stageOf.get(value) !== this.#stage) return [];
      return this.#crossing
        .get(value)!
        .map((stage) => this.#builder.make("send", [this.#node(value)], { stage, channel }));
    });
    const used = new Set<Node>(topoOrder([...outs, ...sends]));
    const params = this.#entry.params.flatMap((param, i) => {
      const local = this.#builder.make("param", [], param.attrs);
      if (!used.has(local)) return [];
      this.params.push(i);
      return [local];
    });
    return { name: this.#entry.name, params, outs: [...outs, ...sends] };
  }

  /** The node in this stage: its own, or received. */
  #node(root: Node): Node {
    const stop = (node: Node) => (this.#stageOf.get(node) ?? this.#stage) < this.#stage;
    const stack = [root];
    while (stack.length > 0) {
      const node = stack.at(-1)!;
      const waits = this.#made.has(node) || stop(node) ? undefined : node.ins.find((x) => !this.#made.has(x));
      if (waits !== undefined) {
        stack.push(waits);
        continue;
      }
      stack.pop();
      if (!this.#made.has(node))
        this.#made.set(node, keepName(node, stop(node) ? this.#receive(node) : this.#copy(node)));
    }
    return this.#made.get(root)!;
  }

  #copy(node: Node): Node {
    return this.#builder.make(
      node.op,
      node.ins.map((x) => this.#made.get(x)!),
      node.attrs,
    );
  }

  #receive(node: Node): Node {
    const { dtype, shape } = node.type;
    const channel = [...this.#crossing.keys()].indexOf(node);
    return this.#builder.make("receive", [], { stage: this.#stageOf.get(node)!, channel, dtype, shape });
  }
}

function reachable(module: Module, func: Func): ReadonlySet<string> {
  const found = new Set<string>();
  const visit = (each: Func) => {
    for (const node of topoOrder(each.outs)) {
      if (!isOp(node, "call") || found.has(node.attrs.func)) continue;
      found.add(node.attrs.func);
      visit(getFunc(module, node.attrs.func));
    }
  };
  visit(func);
  return found;
}
