/**
 * The one memory of a device and what is allocated in it: of 32-bit addresses, which reach 4 GiB, or of 64-bit ones. Shared memory grows under the views of it. Memory that is not
 * shared (a page that is not cross-origin isolated) would lose its views, so all that may be used is reserved at once:
 * address space, since pages that nobody touches cost nothing.
 */
import { InternalError, UnsupportedError } from "../../ir/errors.ts";
import { storageLength, type TensorData, viewOf } from "../../ir/tensor.ts";
import { byteSize, type DType, showType, type TensorType } from "../../ir/types.ts";
import { type AddressType, narrow } from "./address-type.ts";
import { maxPages } from "./program.ts";
import { firstFree } from "./sync.ts";

const pageBytes = 65536;
const alignment = 64;

interface Free {
  readonly at: number;
  readonly bytes: number;
}

export class DeviceMemory {
  readonly memory: WebAssembly.Memory;
  readonly shared: boolean;
  readonly address: AddressType;
  readonly #maximum: number;
  readonly #used = new Map<number, number>();
  #free: readonly Free[] = [];
  #end: number;

  /** `start`: where the first array lies. */
  constructor(address: AddressType = narrow, start: number = firstFree) {
    this.address = address;
    this.shared = typeof SharedArrayBuffer !== "undefined";
    this.#maximum = maxPages(address);
    this.#end = start;
    this.memory = this.shared ? makeMemory(address, 16, true) : reserve(address);
  }

  /** Bytes in use. */
  get bytes(): number {
    return [...this.#used.values()].reduce((sum, bytes) => sum + bytes, 0);
  }

  /** Where the part that has been in use ends. */
  get end(): number {
    return this.#end;
  }

  /** The address of `bytes` bytes, all zero, aligned to a cache line. */
  allocate(bytes: number, what: () => string): number {
    const size = Math.max(Math.ceil(bytes / alignment), 1) * alignment;
    const index = this.#free.findIndex((free) => free.bytes >= size);
    let at = this.#end;
    if (index >= 0) {
      const { at: start, bytes: length } = this.#free[index]!;
      at = start;
      const rest = length === size ? [] : [{ at: start + size, bytes: length - size }];
      this.#free = this.#free.toSpliced(index, 1, ...rest);
      new Uint8Array(this.memory.buffer, at, size).fill(0);
    } else {
      this.#grow(at + size, what);
      this.#end = at + size;
    }
    this.#used.set(at, size);
    return at;
  }

  free(at: number): void {
    const bytes = this.#used.get(at);
    if (bytes === undefined) throw new InternalError("wasm memory", `nothing is allocated at ${at}`);
    this.#used.delete(at);
    const sorted = [...this.#free, { at, bytes }].sort((a, b) => a.at - b.at);
    const merged: Free[] = [];
    for (const next of sorted) {
      const last = merged.at(-1);
      if (last !== undefined && last.at + last.bytes === next.at) {
        merged[merged.length - 1] = { at: last.at, bytes: last.bytes + next.bytes };
      } else merged.push(next);
    }
    this.#free = merged;
  }

  /** A tensor's memory as an array. */
  tensor(type: TensorType): TensorData {
    return this.view(
      type.dtype,
      this.allocate(byteSize(type), () => showType(type)),
      storageLength(type),
    );
  }

  view(dtype: DType, at: number, length: number): TensorData {
    return viewOf(dtype, this.memory.buffer, at, length);
  }

  /** The address of an array in this memory. */
  addressOf(data: TensorData, what: () => string): number {
    // Growing a shared memory makes a new buffer object over the same bytes.
    const own = this.shared ? data.buffer instanceof SharedArrayBuffer : data.buffer === this.memory.buffer;
    if (!own) {
      throw new InternalError(what(), "the array is not in the device's memory", {
        hint: "Use the device's allocate or hold.",
      });
    }
    return data.byteOffset;
  }

  #grow(end: number, what: () => string): void {
    const missing = Math.ceil((end - this.memory.buffer.byteLength) / pageBytes);
    if (missing <= 0) return;
    const pages = this.memory.buffer.byteLength / pageBytes;
    // Ahead by an eighth, so that many small tensors do not grow it each.
    const ahead = Math.max(missing, Math.min(Math.ceil(pages / 8), this.#maximum - pages));
    for (const more of [ahead, missing]) if (this.#tryGrow(more)) return;
    const bits = this.address.type === "i32" ? "32" : "64";
    const limit = `a memory of ${bits}-bit addresses holds at most ${this.#maximum * pageBytes} here, and has ${pages * pageBytes}`;
    throw new UnsupportedError("wasm memory", `${what()} does not fit: ${end} bytes are needed in all, ${limit}`, {
      hint: "Use smaller weights (quantised), a smaller cache or a shorter context.",
    });
  }

  /** False where the engine, or the system, gives no more. */
  #tryGrow(pages: number): boolean {
    try {
      // 64-bit memories count in bigints, which the language's types do not know yet.
      this.memory.grow((this.address.type === "i64" ? BigInt(pages) : pages) as number);
      return true;
    } catch (error) {
      if (error instanceof RangeError || error instanceof TypeError) return false;
      throw error;
    }
  }
}

function makeMemory(address: AddressType, initial: number, shared: boolean): WebAssembly.Memory {
  const maximum = maxPages(address);
  if (address.type === "i32") return new WebAssembly.Memory({ initial, maximum, shared });
  // As above: the language's types do not know 64-bit memories.
  const wide = { address: "i64", initial: BigInt(initial), maximum: BigInt(maximum), shared };
  return new WebAssembly.Memory(wide as unknown as WebAssembly.MemoryDescriptor);
}

/** The largest memory that the engine gives, from what addresses reach down. */
function reserve(address: AddressType): WebAssembly.Memory {
  for (let pages = maxPages(address); ; pages >>= 1) {
    try {
      return makeMemory(address, pages, false);
    } catch (cause) {
      if (pages < 256) throw new UnsupportedError("wasm memory", "the engine gives no memory", { cause });
    }
  }
}
