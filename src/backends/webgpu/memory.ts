/**
 * Memory of a WebGPU device. A tensor's array is in host memory and stands for a buffer on the GPU: its content goes there
 * when a program binds it as a weight, or before each run as a parameter; results come back after each run. *Resident*
 * memory (caches) is never moved, so that its array means nothing but the buffer.
 */
import { InternalError, UnsupportedError } from "../../ir/errors.ts";
import { type TensorData, zeros } from "../../ir/tensor.ts";
import type { TensorType } from "../../ir/types.ts";
import type { GpuContext } from "./context.ts";
import { GPUBufferUse } from "./flags.ts";

interface Entry {
  readonly resident: boolean;
  buffer: GPUBuffer | null;
  /** Whether the buffer holds what the array does. */
  filled: boolean;
}

/** Bytes of one write to the queue, which keeps a copy of them. */
const writeBytes = 1 << 26;

export class GpuMemory {
  readonly #context: GpuContext;
  readonly #entries = new Map<TensorData, Entry>();
  readonly #own = new Set<GPUBuffer>();
  #bytes = 0;

  constructor(context: GpuContext) {
    this.#context = context;
  }

  /** Bytes of all buffers. */
  get bytes(): number {
    return this.#bytes;
  }

  tensor({ dtype, shape }: TensorType, resident: boolean): TensorData {
    const { data } = zeros(dtype, shape);
    this.#entries.set(data, { resident, buffer: null, filled: false });
    return data;
  }

  /** Takes an array of the caller's as memory of this device. */
  hold(data: TensorData): TensorData {
    if (!this.#entries.has(data)) this.#entries.set(data, { resident: false, buffer: null, filled: false });
    return data;
  }

  isResident(data: TensorData): boolean {
    return this.#entry(data).resident;
  }

  /** The buffer of a tensor. */
  bufferOf(data: TensorData, what: () => string): GPUBuffer {
    const entry = this.#entry(data);
    entry.buffer ??= this.buffer(data.byteLength, GPUBufferUse.tensor, what);
    return entry.buffer;
  }

  /** The buffer of a tensor whose content stays as it is. */
  filled(data: TensorData, what: () => string): GPUBuffer {
    const buffer = this.bufferOf(data, what);
    const entry = this.#entry(data);
    if (!entry.filled && !entry.resident) this.write(data, what);
    entry.filled = true;
    return buffer;
  }

  /** Copies the array to its buffer. */
  write(data: TensorData, what: () => string): void {
    const buffer = this.bufferOf(data, what);
    const { queue } = this.#context.device;
    // Arrays of this device are never shared between threads.
    const bytes = new Uint8Array(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength);
    const whole = bytes.length - (bytes.length % 4);
    for (let at = 0; at < whole; at += writeBytes) {
      queue.writeBuffer(buffer, at, bytes, at, Math.min(writeBytes, whole - at));
    }
    if (whole === bytes.length) return;
    const rest = new Uint8Array(4);
    rest.set(bytes.subarray(whole));
    queue.writeBuffer(buffer, whole, rest);
  }

  /** A buffer of zeros that lives until it is destroyed or the device is. */
  buffer(bytes: number, usage: GPUBufferUsageFlags, what: () => string): GPUBuffer {
    const size = Math.max(Math.ceil(bytes / 4) * 4, 4);
    const { device, bufferBytes } = this.#context;
    if (size > bufferBytes) {
      throw new UnsupportedError(
        "webgpu memory",
        `${what()} takes ${size} bytes: a buffer has at most ${bufferBytes}`,
        {
          hint: "Use smaller weights (quantised), a smaller cache or a shorter context.",
        },
      );
    }
    const made = this.#context.watch(
      () => `${what()}, ${size} bytes beside ${this.#bytes} in use`,
      () => device.createBuffer({ size, usage }),
    );
    this.#own.add(made);
    this.#bytes += size;
    return made;
  }

  free(data: TensorData): void {
    const { buffer } = this.#entry(data);
    this.#entries.delete(data);
    if (buffer !== null) this.destroy(buffer);
  }

  destroy(buffer: GPUBuffer): void {
    if (!this.#own.delete(buffer)) return;
    this.#bytes -= buffer.size;
    buffer.destroy();
  }

  close(): void {
    for (const buffer of this.#own) buffer.destroy();
    this.#own.clear();
    this.#entries.clear();
    this.#bytes = 0;
  }

  #entry(data: TensorData): Entry {
    const entry = this.#entries.get(data);
    if (entry === undefined) {
      throw new InternalError("webgpu memory", "the array is not in the device's memory", {
        hint: "Use the device's allocate or hold.",
      });
    }
    return entry;
  }
}
