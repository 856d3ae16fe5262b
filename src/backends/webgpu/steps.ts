/** Encodes a program's launches and copies; or each launch in a pass of its own, between two timestamps. */
import type { Bound } from "./bind.ts";
import type { GpuContext } from "./context.ts";
import { GPUBufferUse, mapForReading } from "./flags.ts";
import type { GpuMemory } from "./memory.ts";

/** A step whose pipeline is compiled. */
export type Ready =
  | (Omit<Extract<Bound, { kind: "launch" }>, "pipeline"> & { readonly pipeline: GPUComputePipeline })
  | Extract<Bound, { kind: "copy" }>;

export async function readyOf(bound: Bound): Promise<Ready> {
  return bound.kind === "copy" ? bound : { ...bound, pipeline: await bound.pipeline };
}

/** Launches between copies share a pass; each sees what those before it wrote. */
export class Steps {
  readonly #encoder: GPUCommandEncoder;
  readonly #times: LaunchTimes | null;
  #pass: GPUComputePassEncoder | null = null;

  constructor(encoder: GPUCommandEncoder, times: LaunchTimes | null = null) {
    this.#encoder = encoder;
    this.#times = times;
  }

  encode(steps: readonly Ready[]): void {
    for (const step of steps) {
      if (step.kind === "copy") {
        this.end();
        const { from, to } = step;
        const size = Math.min(from.size, to.size);
        this.#encoder.copyBufferToBuffer(from.buffer, from.offset, to.buffer, to.offset, size);
        continue;
      }
      const timestampWrites = this.#times?.next(step.kernel);
      if (timestampWrites) this.end();
      this.#pass ??= this.#encoder.beginComputePass({ ...(timestampWrites && { timestampWrites }) });
      this.#pass.setPipeline(step.pipeline);
      this.#pass.setBindGroup(0, step.group);
      this.#pass.dispatchWorkgroups(...step.workgroups);
      if (timestampWrites) this.end();
    }
  }

  end(): void {
    this.#pass?.end();
    this.#pass = null;
  }
}

/** WebGPU's largest set of queries ("Limits"), two a launch. */
const mostQueries = 4096;

/** Times of the launches of a run; those beyond what a set of queries holds are left out. */
export class LaunchTimes {
  readonly #set: GPUQuerySet;
  readonly #found: GPUBuffer;
  readonly #staging: GPUBuffer;
  readonly #kernels: number[] = [];

  /** Null on a device without timestamps. */
  static for(context: GpuContext, memory: GpuMemory): LaunchTimes | null {
    return context.device.features.has("timestamp-query") ? new LaunchTimes(context, memory) : null;
  }

  private constructor({ device }: GpuContext, memory: GpuMemory) {
    this.#set = device.createQuerySet({ type: "timestamp", count: mostQueries });
    this.#found = memory.buffer(8 * mostQueries, GPUBufferUse.timestamps, () => "timestamps");
    this.#staging = memory.buffer(8 * mostQueries, GPUBufferUse.staging, () => "timestamps");
  }

  get buffers(): readonly GPUBuffer[] {
    return [this.#found, this.#staging];
  }

  /** Where the next launch writes its times. */
  next(kernel: number): GPUComputePassTimestampWrites | undefined {
    const at = 2 * this.#kernels.length;
    if (at >= mostQueries) return undefined;
    this.#kernels.push(kernel);
    return { querySet: this.#set, beginningOfPassWriteIndex: at, endOfPassWriteIndex: at + 1 };
  }

  /** After the launches of a run. */
  resolve(encoder: GPUCommandEncoder): void {
    const count = 2 * this.#kernels.length;
    if (count === 0) return;
    encoder.resolveQuerySet(this.#set, 0, count, this.#found, 0);
    encoder.copyBufferToBuffer(this.#found, 0, this.#staging, 0, 8 * count);
  }

  /** Calls back with the milliseconds of each launch, and begins anew. */
  async report(onLaunch: (kernel: number, ms: number) => void): Promise<void> {
    await this.#staging.mapAsync(mapForReading);
    const times = new BigUint64Array(this.#staging.getMappedRange());
    for (const [i, kernel] of this.#kernels.entries()) {
      // Timestamps may go backwards where a GPU changes its clock; such a time means nothing.
      const ns = Number(times[2 * i + 1]! - times[2 * i]!);
      onLaunch(kernel, Math.max(ns, 0) / 1e6);
    }
    this.#staging.unmap();
    this.#kernels.length = 0;
  }
}
