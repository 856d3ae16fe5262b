/** Plans of tensor ops on TensorFlow.js: each run walks the entry function; weights, constants and caches stay tensors. */
import { showAttrs } from "../../ir/attrs.ts";
import { InternalError, invariant } from "../../ir/errors.ts";
import type { Node } from "../../ir/graph.ts";
import type { Plan } from "../../ir/plan.ts";
import { storageLength, type TensorData } from "../../ir/tensor.ts";
import { showType, type TensorType } from "../../ir/types.ts";
import type { Instance, Program, ProgramMemory } from "../backend.ts";
import { withBackend } from "./current.ts";
import { type EagerOptions, eagerEngine, storeValues } from "./eager.ts";
import type { TfMemory } from "./memory.ts";
import type { Part } from "./row.ts";
import type { Tf, TfData, TfTensor } from "./tf.ts";
import { type Leaves, walkFunc } from "./walk.ts";

/** A loaded TensorFlow.js with a backend. */
export interface TfRuntime {
  readonly tf: Tf;
  /** The name under which the backend is registered. */
  readonly backend: string;
  /** Whether results can only be waited for. */
  readonly waits: boolean;
  readonly eager: EagerOptions;
}

export function loadProgram(runtime: TfRuntime, memory: TfMemory, plan: Plan): Program {
  if (plan.tensors === undefined) {
    throw new InternalError(`plan @${plan.name}`, "it has kernels, and TensorFlow.js runs tensor ops");
  }
  return {
    sources: [],
    instantiate: (given) => new TfInstance(runtime, memory, plan, given),
  };
}

class TfInstance implements Instance {
  readonly params: readonly TensorData[];
  readonly results: readonly TensorData[];
  readonly #runtime: TfRuntime;
  readonly #memory: TfMemory;
  readonly #plan: Plan;
  readonly #given: ProgramMemory;
  readonly #own: readonly TensorData[];
  readonly #constants = new Map<Node, Part<TfTensor>>();

  constructor(runtime: TfRuntime, memory: TfMemory, plan: Plan, given: ProgramMemory) {
    this.#runtime = runtime;
    this.#memory = memory;
    this.#plan = plan;
    this.#given = given;
    const entry = plan.funcs.get(plan.entry)!;
    const own: TensorData[] = [];
    const allocate = (type: TensorType): TensorData => {
      const data = memory.allocate(type, false);
      own.push(data);
      return data;
    };
    this.params = entry.params.map(({ name, type }) => {
      const data = given.params?.get(name);
      invariant(
        data === undefined || data.length === storageLength(type),
        () => `memory of ${name} has the wrong length`,
      );
      return data ?? allocate(type);
    });
    this.results = entry.results.map(({ type }, i) => {
      const param = entry.donated[i] ?? null;
      return param === null ? (given.results?.get(i) ?? allocate(type)) : this.params[param]!;
    });
    this.#own = own;
  }

  /** Where the engine gives results at once, they are there when this returns. */
  run(): void | Promise<void> {
    const { tf, backend, waits } = this.#runtime;
    const results = withBackend(tf, backend, () => tf.tidy(() => this.#step()));
    const pending = results.flatMap((tensor, i) => (this.#taken(i) ? [] : [{ tensor, i }]));
    if (waits) return this.#wait(pending);
    for (const { tensor, i } of pending) {
      const values = withBackend(tf, backend, () => tensor.dataSync());
      this.#store(i, values);
      tensor.dispose();
    }
  }

  release(): void {
    for (const { at } of this.#constants.values()) this.#memory.drop(at);
    this.#constants.clear();
    for (const data of this.#own) this.#memory.free(data);
  }

  async #wait(pending: readonly { readonly tensor: TfTensor; readonly i: number }[]): Promise<void> {
    try {
      for (const { tensor, i } of pending) this.#store(i, await tensor.data());
    } finally {
      for (const { tensor } of pending) tensor.dispose();
    }
  }

  #store(i: number, values: TfData): void {
    storeValues(this.#plan.funcs.get(this.#plan.entry)!.results[i]!.type, values, this.results[i]!);
  }

  /** Whether the result stays where it is, as the new value of a cache. */
  #taken(i: number): boolean {
    const param = this.#plan.funcs.get(this.#plan.entry)!.donated[i] ?? null;
    return param !== null && this.#memory.isResident(this.params[param]!);
  }

  /** Whether the parameter is a cache of which a result is the new value. */
  #isReplaced(param: number): boolean {
    const { donated } = this.#plan.funcs.get(this.#plan.entry)!;
    return donated.includes(param) && this.#memory.isResident(this.params[param]!);
  }

  #step(): TfTensor[] {
    const { tf, eager } = this.#runtime;
    const engine = eagerEngine(tf, eager);
    const { params } = this.#plan.funcs.get(this.#plan.entry)!;
    const inputs = params.map(({ type }, i) => {
      const data = this.params[i]!;
      if (this.#memory.isResident(data)) {
        return this.#memory.tensorOf(data, () => tf.keep(engine.constant(type, data.slice())));
      }
      // A copy, as the array is written again before the next run.
      return engine.constant(type, data.slice());
    });
    // Caches that a result takes the place of.
    const dead = new Set(params.flatMap((_, i) => (this.#isReplaced(i) ? [inputs[i]!] : [])));
    const call = { func: this.#plan.entry, layer: null, params: inputs, dead };
    const results = walkFunc(engine, this.#plan, call, this.#leaves(engine));
    for (const [i, tensor] of results.entries()) {
      if (this.#taken(i)) this.#memory.replace(this.results[i]!, tf.keep(tensor));
    }
    return results;
  }

  #leaves(engine: ReturnType<typeof eagerEngine>): Leaves<TfTensor> {
    const { tf } = this.#runtime;
    return {
      weight: (func, index, layer) => {
        const { type } = this.#plan.funcs.get(func)!.weights[index]!;
        const data = this.#given.weight(func, index, layer);
        return this.#memory.tensorOf(data, () => tf.keep(engine.constant(type, data)));
      },
      // Codes take as much memory as what they stand for.
      unpacked: (func, indices, layer, { op, attrs, type }, make) => {
        const sources = indices.map((index) => this.#given.weight(func, index, layer));
        const key = `${op} ${showAttrs(attrs)} ${showType(type)}`;
        return this.#memory.madeOf(sources, key, () => tf.keep(make()));
      },
      constant: (node, make) => {
        let part = this.#constants.get(node);
        if (part === undefined) {
          part = make();
          this.#memory.keep(tf.keep(part.at));
          this.#constants.set(node, part);
        }
        return part;
      },
    };
  }
}
