/**
 * Memory of a WebGPU device. A tensor's array is in host memory and stands for a buffer on the GPU: its content goes there
 * when a program binds it as a weight, or before each run as a parameter; results come back after each run. *Resident*
 * memory (caches) is never moved, so that its array means nothing but the buffer. Weights that are filled part by part
 * (`fill`) have no host memory at all: their arrays are empty.
 */
import { InternalError, UnsupportedError } from "../../ir/errors.ts";
import { type TensorData, zeros } from "../../ir/tensor.ts";
import { byteSize, type TensorType } from "../../ir/types.ts";
import type { WeightFill } from "../backend.ts";
import { Workspace } from "../workspace.ts";
import type { GpuContext } from "./context.ts";
import { FilledWords } from "./filled-words.ts";
import { GPUBufferUse } from "./flags.ts";

interface Entry {
  readonly resident: boolean;
  readonly bytes: number;
  /** One buffer, or for a weight or a cache that no buffer can hold several of a part each. */
  buffers: readonly GPUBuffer[];
  /** Whether the buffers hold what is wanted of them. */
  filled: boolean;
}

/** Bytes of one write to the queue, which keeps a copy of them until the GPU has taken it. */
const writeBytes = 1 << 26;

export class GpuMemory {
  readonly #context: GpuContext;
  readonly #entries = new Map<TensorData, Entry>();
  readonly #own = new Set<GPUBuffer>();
  /** Intermediate values of the program that runs. */
  readonly arenas = new Workspace<GPUBuffer>(
    (bytes) => this.buffer(bytes, GPUBufferUse.tensor, () => "the arena"),
    (buffer) => this.destroy(buffer),
  );
  #bytes = 0;
  /** Bytes written since the queue was last waited for. */
  #unsettled = 0;

  constructor(context: GpuContext) {
    this.#context = context;
  }

  /** Bytes of all buffers. */
  get bytes(): number {
    return this.#bytes;
  }

  tensor({ dtype, shape }: TensorType, resident: boolean): TensorData {
    const { data } = zeros(dtype, shape);
    this.#entries.set(data, { resident, bytes: data.byteLength, buffers: [], filled: false });
    return data;
  }

  /** Takes an array of the caller's as memory of this device. */
  hold(data: TensorData): TensorData {
    if (!this.#entries.has(data))
      this.#entries.set(data, { resident: false, bytes: data.byteLength, buffers: [], filled: false });
    return data;
  }

  /** A weight on the GPU alone, written as its parts become known. */
  fill(type: TensorType, what: () => string): WeightFill {
    const { data } = zeros(type.dtype, [0]);
    const bytes = byteSize(type);
    const buffers = this.#buffersFor(bytes, what);
    this.#entries.set(data, { resident: false, bytes, buffers, filled: true });
    const words = new FilledWords(type);
    const put: WeightFill["put"] = (at, part, count) => {
      const { word, content } = words.put(at, part, count);
      this.#writeTo(buffers, 4 * word, content);
      return this.#settle(content.length);
    };
    return { data, put };
  }

  isResident(data: TensorData): boolean {
    return this.#entry(data).resident;
  }

  /** The buffer of a tensor. */
  bufferOf(data: TensorData, what: () => string): GPUBuffer {
    const entry = this.#entry(data);
    if (entry.buffers.length === 0) entry.buffers = [this.buffer(entry.bytes, GPUBufferUse.tensor, what)];
    return entry.buffers[0]!;
  }

  /** The buffers of a tensor, one after another: of what never moves there may be several. */
  buffersOf(data: TensorData, what: () => string): readonly GPUBuffer[] {
    const entry = this.#entry(data);
    if (entry.resident && entry.buffers.length === 0) entry.buffers = this.#buffersFor(entry.bytes, what);
    return entry.buffers.length > 0 ? entry.buffers : [this.bufferOf(data, what)];
  }

  /** The buffers of a tensor whose content stays as it is, one after another. */
  filled(data: TensorData, what: () => string): readonly GPUBuffer[] {
    const entry = this.#entry(data);
    if (entry.buffers.length === 0) entry.buffers = this.#buffersFor(entry.bytes, what);
    if (!entry.filled && !entry.resident) this.#writeTo(entry.buffers, 0, wordsOf(data));
    entry.filled = true;
    return entry.buffers;
  }

  /** Copies the array to its buffer. */
  write(data: TensorData, what: () => string): void {
    this.#writeTo([this.bufferOf(data, what)], 0, wordsOf(data));
  }

  /** Whole words to a place in buffers of a part each, or in a single one. */
  #writeTo(buffers: readonly GPUBuffer[], at: number, content: Uint8Array<ArrayBuffer>): void {
    const { device, limits } = this.#context;
    const most = buffers.length > 1 ? limits.binding.part : buffers[0]!.size;
    for (let done = 0; done < content.length; ) {
      const part = Math.floor((at + done) / most);
      const offset = at + done - part * most;
      const size = Math.min(content.length - done, writeBytes, most - offset);
      device.queue.writeBuffer(buffers[part]!, offset, content, done, size);
      done += size;
    }
  }

  /** Waits now and then, so that what the queue keeps copies of stays within bounds. */
  #settle(bytes: number): void | Promise<void> {
    this.#unsettled += bytes;
    if (this.#unsettled < writeBytes) return;
    this.#unsettled = 0;
    const { queue } = this.#context.device;
    queue.submit([]);
    // What went wrong is found where it was watched for.
    const settled = () => {};
    return queue.onSubmittedWorkDone().then(settled, settled);
  }

  #buffersFor(bytes: number, what: () => string): readonly GPUBuffer[] {
    const { bufferBytes, limits } = this.#context;
    if (bytes <= bufferBytes) return [this.buffer(bytes, GPUBufferUse.tensor, what)];
    const partBytes = limits.binding.part;
    return Array.from({ length: Math.ceil(bytes / partBytes) }, (_, i) =>
      this.buffer(Math.min(partBytes, bytes - i * partBytes), GPUBufferUse.tensor, what),
    );
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
    const { buffers } = this.#entry(data);
    this.#entries.delete(data);
    for (const buffer of buffers) this.destroy(buffer);
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

/** The bytes of an array, filled up to whole words. */
function wordsOf(data: TensorData): Uint8Array<ArrayBuffer> {
  // Arrays of this device are never shared between threads.
  const bytes = new Uint8Array(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength);
  if (bytes.length % 4 === 0) return bytes;
  const whole = new Uint8Array(4 * Math.ceil(bytes.length / 4));
  whole.set(bytes);
  return whole;
}
