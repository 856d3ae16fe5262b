/**
 * Memory of a TensorFlow.js device. A value's array is in host memory and stands for a tensor: weights are uploaded when
 * a program first reads them, parameters before each run, results come back after it. *Resident* memory (caches) is a
 * tensor alone, replaced by that of the step which updates it, so that its array means nothing.
 */
import { InternalError } from "../../ir/errors.ts";
import { type TensorData, zeros } from "../../ir/tensor.ts";
import type { TensorType } from "../../ir/types.ts";
import type { TfTensor } from "./tf.ts";

interface Entry {
  readonly resident: boolean;
  tensor: TfTensor | null;
  /** What is kept in place of codes: by what is made of them. */
  readonly made: Map<string, TfTensor>;
}

export class TfMemory {
  readonly #entries = new Map<TensorData, Entry>();
  /** Constants of programs, which have no arrays. */
  readonly #constants = new Set<TfTensor>();

  allocate({ dtype, shape }: TensorType, resident: boolean): TensorData {
    const { data } = zeros(dtype, shape);
    this.#entries.set(data, { resident, tensor: null, made: new Map() });
    return data;
  }

  hold(data: TensorData): TensorData {
    if (!this.#entries.has(data)) this.#entries.set(data, { resident: false, tensor: null, made: new Map() });
    return data;
  }

  isResident(data: TensorData): boolean {
    return this.#entry(data).resident;
  }

  /** The tensor of a value whose content stays as it is, or of a resident one; `make` uploads the array. */
  tensorOf(data: TensorData, make: () => TfTensor): TfTensor {
    const entry = this.#entry(data);
    entry.tensor ??= make();
    return entry.tensor;
  }

  /**
   * What `make` makes of values, kept as long as the first of them. Tensors that these got for it alone are disposed of.
   */
  madeOf(sources: readonly TensorData[], key: string, make: () => TfTensor): TfTensor {
    const entries = sources.map((data) => this.#entry(data));
    let tensor = entries[0]?.made.get(key);
    if (tensor === undefined) {
      const bare = entries.filter((entry) => entry.tensor === null);
      tensor = make();
      entries[0]?.made.set(key, tensor);
      for (const entry of bare) {
        entry.tensor?.dispose();
        entry.tensor = null;
      }
    }
    return tensor;
  }

  /** Puts a tensor in the place of a resident one. */
  replace(data: TensorData, tensor: TfTensor): void {
    const entry = this.#entry(data);
    entry.tensor?.dispose();
    entry.tensor = tensor;
  }

  free(data: TensorData): void {
    disposeOf(this.#entry(data));
    this.#entries.delete(data);
  }

  /** Holds a constant until it is dropped or the memory closed. */
  keep(tensor: TfTensor): void {
    this.#constants.add(tensor);
  }

  drop(tensor: TfTensor): void {
    if (this.#constants.delete(tensor)) tensor.dispose();
  }

  close(): void {
    for (const tensor of this.#constants) tensor.dispose();
    this.#constants.clear();
    for (const entry of this.#entries.values()) disposeOf(entry);
    this.#entries.clear();
  }

  #entry(data: TensorData): Entry {
    const entry = this.#entries.get(data);
    if (entry === undefined) {
      throw new InternalError("TensorFlow.js memory", "the array is not in the device's memory", {
        hint: "Use the device's allocate or hold.",
      });
    }
    return entry;
  }
}

function disposeOf({ tensor, made }: Entry): void {
  tensor?.dispose();
  for (const each of made.values()) each.dispose();
}
