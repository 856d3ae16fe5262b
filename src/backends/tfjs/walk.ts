/** Runs a function of a plan on an engine, op by op; what it gives and what it disposes of is said at `walkFunc`. */
import { invariant } from "../../ir/errors.ts";
import { isOp, type Node } from "../../ir/graph.ts";
import { opDef, opKind } from "../../ir/ops/all.ts";
import type { Plan, TensorFunc } from "../../ir/plan.ts";
import type { TensorEngine } from "./engine.ts";
import { lowerNode } from "./ops.ts";
import { type Part, wholeOf } from "./row.ts";
import { type ChosenProduct, chosenProducts, lowerChosen } from "./rows-chosen.ts";

/** Values that outlive a run: they are never disposed of here. */
export interface Leaves<T> {
  /** Weight expression `index` of a function, for the `layer` of a call. */
  readonly weight: (func: string, index: number, layer: number | null) => T;
  /**
   * Codes of weights times their scales, which are weight expressions `indices` of the function: for engines that keep
   * that rather than the codes. `make` computes it. Default: computed whenever it is read.
   */
  readonly unpacked?: (func: string, indices: readonly number[], layer: number | null, node: Node, make: () => T) => T;
  /** What a constant is; `make` computes it. Kept by whoever gives it. */
  readonly constant: (node: Node, make: () => Part<T>) => Part<T>;
}

export interface Call<T> {
  readonly func: string;
  readonly layer: number | null;
  /** Stay as they are, but for those that are in `dead`. */
  readonly params: readonly T[];
  /** Tensors that nobody reads after the call and that share memory with no other: an update may overwrite them. */
  readonly dead?: ReadonlySet<T>;
}

/** The results, each a value of its own, which the caller disposes of. */
export function walkFunc<T>(engine: TensorEngine<T>, plan: Plan, call: Call<T>, leaves: Leaves<T>): T[] {
  const tensors = plan.tensors?.get(call.func);
  invariant(tensors !== undefined, () => `@${call.func} is not planned as tensor ops`);
  return new Walk(engine, plan, tensors, call, leaves).run();
}

/** One run of one function. */
class Walk<T> {
  readonly #engine: TensorEngine<T>;
  readonly #plan: Plan;
  readonly #tensors: TensorFunc;
  readonly #call: Call<T>;
  readonly #leaves: Leaves<T>;
  readonly #values = new Map<Node, Part<T>>();
  /** How many values share each tensor that was made here. */
  readonly #holders = new Map<T, number>();
  readonly #uses: ReadonlyMap<Node, number>;
  readonly #weights: readonly Node[];
  /** Products with rows that are multiplied where they are, so that the gather of these is not run. */
  readonly #chosen: ReadonlyMap<Node, ChosenProduct>;
  /** Tensors with memory of their own that may be overwritten after their last use: results of updates, and of calls. */
  readonly #alone: Set<T>;

  constructor(engine: TensorEngine<T>, plan: Plan, tensors: TensorFunc, call: Call<T>, leaves: Leaves<T>) {
    this.#engine = engine;
    this.#plan = plan;
    this.#tensors = tensors;
    this.#call = call;
    this.#leaves = leaves;
    this.#uses = usesOf(tensors);
    this.#weights = plan.funcs.get(call.func)!.weights;
    this.#alone = new Set(call.dead);
    this.#chosen = chosenProducts(tensors, engine.chosen.by);
  }

  run(): T[] {
    const { func, order, constants } = this.#tensors;
    for (const [i, param] of func.params.entries()) this.#borrow(param, this.#call.params[i]!);
    for (const node of constants) this.#values.set(node, this.#constant(node));
    const left = new Map(this.#uses);
    const gathers = new Set<Node>([...this.#chosen.values()].map(({ gather }) => gather));
    const read = (node: Node): void => {
      for (const operand of node.ins) {
        const uses = left.get(operand)! - 1;
        left.set(operand, uses);
        if (uses > 0) continue;
        this.#drop(operand);
        // Its operands were read in its place.
        if (gathers.has(operand)) read(operand);
      }
    };
    for (const node of order) {
      if (gathers.has(node)) continue;
      if (!this.#values.has(node)) this.#compute(node);
      read(node);
    }
    const results = func.outs.map((out) => this.#result(out));
    for (const node of this.#values.keys()) this.#drop(node);
    return results;
  }

  #borrow(node: Node, at: T): void {
    this.#values.set(node, { at, shape: node.type.shape });
  }

  /** The value of an operand; weights are asked for when they are first read. */
  #value(node: Node): Part<T> {
    let part = this.#values.get(node);
    if (part === undefined) {
      const index = this.#weights.indexOf(node);
      invariant(index >= 0, () => `@${this.#call.func}: ${node.op} is read but was not computed`);
      part = { at: this.#leaves.weight(this.#call.func, index, this.#call.layer), shape: node.type.shape };
      this.#values.set(node, part);
    }
    return part;
  }

  #constant(node: Node): Part<T> {
    return this.#leaves.constant(node, () => {
      const { at, shape } = this.#lower(
        node,
        node.ins.map((operand) => this.#constant(operand)),
      );
      return { at, shape };
    });
  }

  #lower(node: Node, ins: readonly Part<T>[]): Part<T> {
    let shape = node.type.shape;
    const at = this.#engine.scope(() => {
      const part = lowerNode(this.#engine, node, ins);
      shape = part.shape;
      return part.at;
    });
    return { at, shape };
  }

  #compute(node: Node): void {
    const indices = node.ins.map((operand) => this.#weights.indexOf(operand));
    const { unpacked } = this.#leaves;
    const ofWeights = opDef(node.op).unpacks === true && !indices.includes(-1);
    if (isOp(node, "call")) this.#callFunc(node);
    else if (ofWeights && unpacked !== undefined) {
      // Not as values of this run: whoever keeps the result may give these back.
      const weight = (i: number) => this.#leaves.weight(this.#call.func, indices[i]!, this.#call.layer);
      const ins = () => node.ins.map(({ type }, i) => ({ at: weight(i), shape: type.shape }));
      const make = () => wholeOf(this.#engine, this.#lower(node, ins()), node.type.shape);
      this.#borrow(node, unpacked(this.#call.func, indices, this.#call.layer, node, make));
    } else if (this.#chosen.has(node)) {
      this.#own(node, this.#multiplyChosen(this.#chosen.get(node)!));
    } else {
      const ins = node.ins.map((operand) => ({ ...this.#value(operand), dead: this.#isDead(operand, 1) }));
      const part = this.#lower(node, ins);
      this.#own(node, part);
      if (opKind(node.op) === "update") this.#alone.add(part.at);
    }
  }

  #multiplyChosen(product: ChosenProduct): Part<T> {
    const { contract, gather } = product;
    const [x, table, index] = [contract.ins[0]!, gather.ins[0]!, gather.ins[1]!].map((operand) =>
      wholeOf(this.#engine, this.#value(operand), operand.type.shape),
    ) as [T, T, T]; // three
    return {
      at: this.#engine.scope(() => lowerChosen(this.#engine, product, x, table, index)),
      shape: contract.type.shape,
    };
  }

  /** Sets the values of all results of a call; what nobody reads is given back. */
  #callFunc(node: Node<"call">): void {
    const { func, layer = null } = node.attrs;
    const params = node.ins.map((operand) => {
      const part = this.#value(operand);
      const at = wholeOf(this.#engine, part, operand.type.shape);
      if (at !== part.at) this.#swap(operand, at);
      return at;
    });
    const same = (other: Node): other is Node<"call"> =>
      isOp(other, "call") &&
      other.attrs.func === func &&
      (other.attrs.layer ?? null) === layer &&
      other.ins.length === node.ins.length &&
      other.ins.every((x, i) => x === node.ins[i]);
    const readers = this.#tensors.order.filter(same);
    const once = node.ins.filter((operand) => this.#isDead(operand, readers.length));
    const dead = new Set(once.map((operand) => this.#value(operand).at));
    const results = walkFunc(this.#engine, this.#plan, { func, layer, params, dead }, this.#leaves);
    const { donated } = this.#plan.funcs.get(func)!;
    for (const [i, at] of results.entries()) {
      const reader = readers.find(({ attrs }) => attrs.result === i);
      if (reader === undefined) this.#engine.dispose(at);
      else {
        this.#own(reader, { at, shape: reader.type.shape });
        if (donated[i] !== null) this.#alone.add(at);
      }
    }
  }

  /** Whether a tensor with memory of its own is read by the op that is run now and by nothing else, before or after. */
  #isDead(operand: Node, reads: number): boolean {
    const { at } = this.#value(operand);
    return this.#uses.get(operand) === reads && this.#alone.has(at) && (this.#holders.get(at) ?? 1) === 1;
  }

  /** Takes a value's own tensor in place of what stood for it. */
  #swap(node: Node, at: T): void {
    this.#drop(node);
    this.#own(node, { at, shape: node.type.shape });
  }

  /** A tensor is disposed of with the last value that it stands for; those of leaves never. */
  #own(node: Node, part: Part<T>): void {
    const shared = node.ins.find((operand) => this.#values.get(operand)?.at === part.at);
    const held = this.#holders.get(part.at);
    if (held !== undefined) this.#holders.set(part.at, held + 1);
    else if (shared === undefined) this.#holders.set(part.at, 1);
    this.#values.set(node, part);
  }

  #drop(node: Node): void {
    const part = this.#values.get(node);
    if (part === undefined) return;
    this.#values.delete(node);
    const held = this.#holders.get(part.at);
    if (held === undefined) return;
    if (held > 1) this.#holders.set(part.at, held - 1);
    else {
      this.#holders.delete(part.at);
      this.#engine.dispose(part.at);
    }
  }

  /** A tensor in the shape of its type that nothing else holds. */
  #result(out: Node): T {
    const part = this.#value(out);
    const at = wholeOf(this.#engine, part, out.type.shape);
    if (at !== part.at) return at;
    if (this.#holders.get(at) === 1) {
      // The function's own: it passes to the caller, unless another result is the same value.
      const others = this.#tensors.func.outs.filter((other) => other === out).length;
      if (others === 1) {
        this.#holders.delete(at);
        this.#values.delete(out);
        return at;
      }
    }
    return this.#engine.reshape(at, out.type.shape);
  }
}

const counted = new WeakMap<TensorFunc, ReadonlyMap<Node, number>>();

/** How often each value is read; results are read after the end. */
function usesOf(tensors: TensorFunc): ReadonlyMap<Node, number> {
  let uses = counted.get(tensors);
  if (uses === undefined) {
    const count = new Map<Node, number>();
    for (const node of tensors.order) for (const operand of node.ins) count.set(operand, (count.get(operand) ?? 0) + 1);
    for (const out of tensors.func.outs) count.set(out, Number.POSITIVE_INFINITY);
    counted.set(tensors, count);
    uses = count;
  }
  return uses;
}
