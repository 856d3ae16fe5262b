/**
 * Memory of a device that runs TensorFlow graphs. A value's array is in host memory. Where a program reads it as a weight,
 * it is the content of a variable of the session, unless it stands for what TensorFlow reads from files; *resident* memory
 * (caches) is a variable alone, so that its array means nothing; all else is fed and fetched.
 */
import { showAttrs } from "../../ir/attrs.ts";
import { InternalError } from "../../ir/errors.ts";
import { attrsOf, type Node } from "../../ir/graph.ts";
import { storageLength, type TensorData, viewOf, zeros } from "../../ir/tensor.ts";
import { showType, type TensorType } from "../../ir/types.ts";
import { type FileWeight, fileWeight } from "./graph-files.ts";
import { formOf } from "./graph-forms.ts";
import type { Variable } from "./graph-program.ts";

interface Entry {
  readonly resident: TensorType | null;
  readonly file?: FileWeight;
  variable: Variable | null;
}

/** What a variable that no program changes holds. */
export interface HeldWeight {
  readonly variable: Variable;
  /** Where the content is: that of the variable, or what `node` computes it from. */
  readonly parts: readonly HostValue[];
  /** Null where the variable holds the one part as it is. */
  readonly node: Node | null;
  /** What is read from files instead of the part. */
  readonly file: FileWeight | null;
}

export interface HostValue {
  readonly type: TensorType;
  readonly data: TensorData;
}

/** Shared with the thread that runs the graphs: what is loaded from it is not copied on the way. */
function sharedZeros({ dtype, shape }: TensorType): TensorData {
  const { data } = zeros(dtype, [0]);
  const length = storageLength({ dtype, shape });
  return viewOf(dtype, new SharedArrayBuffer(length * data.BYTES_PER_ELEMENT), 0, length);
}

export class GraphMemory {
  readonly #entries = new Map<TensorData, Entry>();
  readonly #weights = new Map<string, HeldWeight>();
  readonly #numbers = new Map<TensorData, number>();
  readonly #caches = new Map<TensorData, Variable>();
  #made = 0;

  allocate(type: TensorType, resident: boolean): TensorData {
    const data = sharedZeros(type);
    this.#entries.set(data, { resident: resident ? type : null, variable: null });
    return data;
  }

  hold(data: TensorData): TensorData {
    if (!this.#entries.has(data)) this.#entries.set(data, { resident: null, variable: null });
    return data;
  }

  /** An array for a weight that TensorFlow reads from files, if it can. */
  fromFiles(...weight: Parameters<typeof fileWeight>): TensorData | null {
    const file = fileWeight(...weight);
    if (file === null) return null;
    const { data } = zeros(file.expr.type.dtype, [0]);
    this.#entries.set(data, { resident: null, variable: null, file });
    return data;
  }

  /** Of all weights, and of all caches, that a program reads. */
  get weights(): readonly HeldWeight[] {
    return [...this.#weights.values()];
  }

  get caches(): readonly Variable[] {
    return [...this.#caches.values()];
  }

  /** The variable of an array that programs read as a weight. */
  weight(part: HostValue): Variable {
    return this.#held(null, [part]);
  }

  /** The variable of what an op makes of arrays, each read as a weight: computed when it is loaded. */
  computed(node: Node, parts: readonly HostValue[]): Variable {
    return this.#held(node, parts);
  }

  #held(node: Node | null, parts: readonly HostValue[]): Variable {
    const arrays = parts.map(({ type, data }) => `${this.#numberOf(data)} ${showType(type)}`);
    const made = node === null ? "" : `${node.op} ${showAttrs(attrsOf(node))} ${showType(node.type)}`;
    const key = `${arrays} ${made}`;
    let held = this.#weights.get(key);
    if (held === undefined) {
      const form = formOf(node === null ? parts[0]!.type : node.type);
      const file = this.#entry(parts[0]!.data).file ?? null;
      held = { variable: { name: `w${this.#made++}`, form, spareRow: false }, parts, node, file };
      this.#weights.set(key, held);
    }
    return held.variable;
  }

  #numberOf(data: TensorData): number {
    this.#entry(data);
    const number = this.#numbers.get(data) ?? this.#made++;
    this.#numbers.set(data, number);
    return number;
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
    for (const [key, { parts }] of this.#weights) {
      if (parts.some((part) => part.data === data)) this.#weights.delete(key);
    }
    this.#numbers.delete(data);
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
