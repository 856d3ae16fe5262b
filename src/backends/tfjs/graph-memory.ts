/**
 * Memory of a device that runs TensorFlow graphs. A value's array is in host memory. Where a program reads it as a weight,
 * it is the content of a variable of the session; *resident* memory (caches) is a variable alone, so that its array means
 * nothing; all else is fed and fetched.
 */
import { InternalError, invariant } from "../../ir/errors.ts";
import { type TensorData, zeros } from "../../ir/tensor.ts";
import type { TensorType } from "../../ir/types.ts";
import { formOf } from "./graph-forms.ts";
import type { Variable } from "./graph-program.ts";

interface Entry {
  readonly resident: TensorType | null;
  variable: Variable | null;
}

/** A weight's variable and where its content is. */
export interface HeldWeight {
  readonly variable: Variable;
  readonly type: TensorType;
  readonly data: TensorData;
}

export class GraphMemory {
  readonly #entries = new Map<TensorData, Entry>();
  readonly #weights = new Map<TensorData, HeldWeight>();
  readonly #caches = new Map<TensorData, Variable>();
  #made = 0;

  allocate(type: TensorType, resident: boolean): TensorData {
    const { data } = zeros(type.dtype, type.shape);
    this.#entries.set(data, { resident: resident ? type : null, variable: null });
    return data;
  }

  hold(data: TensorData): TensorData {
    if (!this.#entries.has(data)) this.#entries.set(data, { resident: null, variable: null });
    return data;
  }

  /** Of all weights, and of all caches, that a program reads. */
  get weights(): readonly HeldWeight[] {
    return [...this.#weights.values()];
  }

  get caches(): readonly Variable[] {
    return [...this.#caches.values()];
  }

  /** The variable of an array that programs read as a weight of this type. */
  weight(type: TensorType, data: TensorData): Variable {
    const entry = this.#entry(data);
    if (entry.variable === null) {
      entry.variable = { name: `w${this.#made++}`, form: formOf(type), spareRow: false };
      this.#weights.set(data, { variable: entry.variable, type, data });
    }
    invariant(entry.variable.form.type === formOf(type).type, () => "a weight has two types");
    return entry.variable;
  }

  /** The variable of resident memory; null for other memory. */
  cache(data: TensorData): Variable | null {
    const entry = this.#entry(data);
    if (entry.resident === null) return null;
    if (entry.variable === null) {
      const form = formOf(entry.resident);
      entry.variable = { name: `c${this.#made++}`, form, spareRow: form.shape.length > 0 };
      this.#caches.set(data, entry.variable);
    }
    return entry.variable;
  }

  free(data: TensorData): void {
    this.#entry(data);
    this.#entries.delete(data);
    this.#weights.delete(data);
    this.#caches.delete(data);
  }

  #entry(data: TensorData): Entry {
    const entry = this.#entries.get(data);
    if (entry === undefined) {
      throw new InternalError("TensorFlow memory", "the array is not in the device's memory", {
        hint: "Use the device's allocate or hold.",
      });
    }
    return entry;
  }
}
