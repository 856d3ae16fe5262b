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
}

export class TfMemory {
  readonly #entries = new Map<TensorData, Entry>();

  allocate({ dtype, shape }: TensorType, resident: boolean): TensorData {
    const { data } = zeros(dtype, shape);
    this.#entries.set(data, { resident, tensor: null });
    return data;
  }

  hold(data: TensorData): TensorData {
    if (!this.#entries.has(data)) this.#entries.set(data, { resident: false, tensor: null });
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

  /** Puts a tensor in the place of a resident one. */
  replace(data: TensorData, tensor: TfTensor): void {
    const entry = this.#entry(data);
    entry.tensor?.dispose();
    entry.tensor = tensor;
  }

  free(data: TensorData): void {
    this.#entry(data).tensor?.dispose();
    this.#entries.delete(data);
  }

  close(): void {
    for (const { tensor } of this.#entries.values()) tensor?.dispose();
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
