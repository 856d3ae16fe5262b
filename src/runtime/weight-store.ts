/**
 * The values of weight expressions, shared by the programs of all buckets. They are evaluated tensor by tensor as they
 * are read, so loading needs the compiled weights plus one expression's inputs; stacked experts are read one at a time.
 */
import type { Device } from "../compile.ts";
import { compileFold, type Fold, foldKey } from "../fold.ts";
import { InputError, invariant } from "../ir/errors.ts";
import type { Node } from "../ir/graph.ts";
import type { Plan } from "../ir/plan.ts";
import type { Tensor, TensorData } from "../ir/tensor.ts";
import { zeros } from "../ir/tensor.ts";
import { byteSize, sameType, showType, type TensorType, tensorType } from "../ir/types.ts";
import { putPart, weightParts } from "../ir/weight.ts";

/** Reads one tensor of the checkpoint by name. */
export type ReadTensor = (name: string) => Promise<Tensor>;

/** Called after each expression with the bytes of compiled weights done and in all. */
export type WeightProgress = (done: number, total: number) => void;

interface Wanted {
  readonly key: string;
  readonly fold: Fold;
  readonly layer: number | null;
}

export class WeightStore {
  readonly #read: ReadTensor;
  readonly #device: Device;
  readonly #values = new Map<string, TensorData>();
  #bytes = 0;

  /** Values are evaluated into the device's memory. */
  constructor(read: ReadTensor, device: Device) {
    this.#read = read;
    this.#device = device;
  }

  /** Bytes of all values held. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Evaluates what the plan needs and the store has not. */
  async load(plan: Plan, progress: WeightProgress = () => {}, signal?: AbortSignal): Promise<void> {
    const wanted = [...new Map(wantedBy(plan).map((each) => [each.key, each])).values()].filter(
      ({ key }) => !this.#values.has(key),
    );
    const total = wanted.reduce((sum, { fold }) => sum + byteSize(fold.type), 0);
    let done = 0;
    for (const { key, fold, layer } of wanted) {
      signal?.throwIfAborted();
      this.#values.set(key, await this.#evaluate(fold, layer));
      done += byteSize(fold.type);
      this.#bytes += byteSize(fold.type);
      progress(done, total);
    }
  }

  /** The value of a weight expression, which is kept only if a plan that was loaded needs it. */
  async evaluate(expr: Node, layer: number | null): Promise<TensorData> {
    const fold = compileFold(expr);
    return this.#values.get(keyOf(fold, layer)) ?? this.#evaluate(fold, layer);
  }

  /** Looks values up for a loaded plan. */
  lookup(plan: Plan): (func: string, index: number, layer: number | null) => TensorData {
    const keys = new Map<string, readonly string[]>();
    return (func, index, layer) => {
      const id = `${func} ${layer}`;
      let list = keys.get(id);
      if (list === undefined) {
        list = plan.funcs.get(func)!.weights.map((expr) => keyOf(compileFold(expr), layer));
        keys.set(id, list);
      }
      const value = this.#values.get(list[index]!);
      invariant(value !== undefined, () => `weight ${index} of @${func} is not loaded`);
      return value;
    };
  }

  async #evaluate(fold: Fold, layer: number | null): Promise<TensorData> {
    const given: TensorData[] = [];
    for (const part of fold.given) {
      given.push(this.#values.get(keyOf(part, layer)) ?? (await this.#evaluate(part, layer)));
    }
    if (fold.perIndex === null) {
      const inputs: TensorData[] = [];
      for (const { name, type } of fold.inputs) inputs.push(await this.#readWhole(name, type, layer));
      // A weight taken as it is may be the array that was read.
      if (fold.isWeight) return this.#device.hold(fold.type, fold.run(inputs));
      return fold.run(inputs, { into: this.#device.allocate(fold.type), given });
    }
    const value = this.#device.allocate(fold.type);
    const count = fold.type.shape[0]!;
    const length = value.length / count;
    for (let i = 0; i < count; i++) {
      const inputs: TensorData[] = [];
      for (const { name, type } of fold.inputs) inputs.push(await this.#readPart(name, type, layer, i));
      const at = (data: TensorData) => data.subarray((i * data.length) / count, ((i + 1) * data.length) / count);
      const memory = { given: given.map(at) };
      if (Number.isInteger(length)) fold.perIndex.run(inputs, { ...memory, into: at(value) });
      // Parts of 4-bit elements may begin in the middle of a byte.
      else putPart({ type: fold.type, data: value }, i, fold.perIndex.run(inputs, memory));
    }
    return value;
  }

  async #readWhole(name: string, type: TensorType, layer: number | null): Promise<TensorData> {
    const { names, stacked } = weightParts(name, type.shape, layer ?? undefined);
    if (!stacked) return this.#readPart(name, type, layer, 0);
    const out = zeros(type.dtype, type.shape);
    for (const i of names.keys()) putPart(out, i, await this.#readPart(name, type, layer, i));
    return out.data;
  }

  async #readPart(name: string, type: TensorType, layer: number | null, i: number): Promise<TensorData> {
    const { names, shape } = weightParts(name, type.shape, layer ?? undefined);
    const tensor = await this.#read(names[i]!);
    const expected = tensorType(type.dtype, shape);
    if (!sameType(tensor.type, expected)) {
      throw new InputError(`weight ${names[i]}`, `expected ${showType(expected)}, got ${showType(tensor.type)}`);
    }
    return tensor.data;
  }
}

/** Every weight expression of every call, in the order of the model. */
function wantedBy(plan: Plan): Wanted[] {
  const wanted: Wanted[] = [];
  const visit = (name: string, layer: number | null): void => {
    const func = plan.funcs.get(name)!;
    for (const expr of func.weights) {
      const fold = compileFold(expr);
      wanted.push({ key: keyOf(fold, layer), fold, layer });
    }
    for (const step of func.steps) if (step.step === "call") visit(step.func, step.layer);
  };
  visit(plan.entry, null);
  return wanted;
}

/** Bytes of all values that the plan needs, those of every layer. Compiles nothing. */
export function compiledWeightBytes(plan: Plan): number {
  const bytes = new Map<string, number>();
  const keys = new Map([...plan.funcs.values()].map(({ name, weights }) => [name, weights.map(foldKey)]));
  const visit = (name: string, layer: number | null): void => {
    const { weights, steps } = plan.funcs.get(name)!;
    for (const [i, { type }] of weights.entries()) {
      const key = keys.get(name)![i]!;
      bytes.set(key.includes("{layer}") ? `${layer} ${key}` : key, byteSize(type));
    }
    for (const step of steps) if (step.step === "call") visit(step.func, step.layer);
  };
  visit(plan.entry, null);
  return [...bytes.values()].reduce((sum, each) => sum + each, 0);
}

/** Weights without `{layer}` in their names are the same in every layer. */
function keyOf(fold: Fold, layer: number | null): string {
  return fold.inputs.some(({ name }) => name.includes("{layer}")) ? `${layer} ${fold.key}` : fold.key;
}
