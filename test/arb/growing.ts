/** A function while random steps are added to it. */
import { type Builder, type Func, isOp, type Node, named, topoOrder } from "../../src/ir/graph.ts";
import type { OpName } from "../../src/ir/ops/all.ts";
import { type DType, dtypes, sameType, type TensorType, tensorType } from "../../src/ir/types.ts";

export interface GrowthOptions {
  readonly finite?: boolean;
  readonly dtypes?: readonly DType[];
  /** Ops left out. */
  readonly without?: readonly OpName[];
}

/** What a step is made of; `picks` choose operands and attributes. */
export interface Step {
  readonly op: number;
  readonly picks: readonly number[];
  readonly shape: readonly number[];
  readonly value: number;
  readonly name: string | undefined;
}

/** A function while it grows. Step makers take operands from it and put results into it. */
export class Program {
  readonly builder: Builder;
  readonly entry: boolean;
  readonly name: string;
  readonly funcs: readonly Func[];
  readonly finite: boolean;
  readonly dtypes: readonly DType[];
  /** Whether the program may read weights. */
  readonly weighted: boolean;
  readonly #params: Node<"param">[] = [];
  readonly #pool: Node[] = [];

  constructor(builder: Builder, name: string, entry: boolean, funcs: readonly Func[], options: GrowthOptions) {
    this.builder = builder;
    this.entry = entry;
    this.name = name;
    this.funcs = funcs;
    this.finite = options.finite ?? false;
    this.weighted = !(options.without ?? []).includes("weight");
    // The keys of a literal object.
    this.dtypes = options.dtypes ?? (Object.keys(dtypes) as DType[]);
  }

  /** Puts a step's results where later steps find them. */
  add(nodes: readonly Node[], name: string | undefined): void {
    for (const node of nodes) this.#pool.push(name === undefined ? node : named(name, node));
  }

  /** A new parameter, for the step alone: later steps do not see it. */
  param(type: TensorType): Node<"param"> {
    const i = this.#params.length;
    const param = this.builder.param(i % 8 === 5 ? `p ${i}` : `p${i}`, type.dtype, type.shape);
    this.#params.push(param);
    return param;
  }

  /** A value that fits, or a new parameter of type `otherwise`. */
  value(pick: number, fits: (type: TensorType) => boolean, otherwise: TensorType): Node {
    const found = this.#pool.filter((node) => fits(node.type));
    const chosen = found[pick % (found.length + 1)];
    if (chosen !== undefined) return chosen;
    const param = this.param(otherwise);
    this.#pool.push(param);
    return param;
  }

  /** A value of this type. */
  exactly(pick: number, dtype: DType, shape: readonly number[]): Node {
    const type = tensorType(dtype, shape);
    return this.value(pick, (other) => sameType(type, other), type);
  }

  finish(outs: readonly number[]): Func {
    if (this.#pool.length === 0) this.#pool.push(this.param(tensorType("f32", [2])));
    const last = this.#pool.at(-1)!;
    const others = outs.slice(1).map((out) => this.#pool[out % this.#pool.length]!);
    return { name: this.name, params: this.#params, outs: [last, ...others] };
  }
}

export function layerBound(func: Func): boolean {
  return topoOrder(func.outs).some((node) => isOp(node, "weight") && node.attrs.name.includes("{layer}"));
}
