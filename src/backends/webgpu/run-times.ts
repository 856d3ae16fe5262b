/**
 * Where the time of a program's runs goes: what this side takes to record and hand over launches, what the device takes for
 * runs in one submission, and what each kernel takes when its launches are replayed one after another. A launch in a pass of
 * its own takes longer than it does among others, so those are not added up here.
 */
import { UnsupportedError } from "../../ir/errors.ts";
import type { RunTimes } from "../backend.ts";
import type { GpuContext } from "./context.ts";
import { GPUBufferUse, mapForReading } from "./flags.ts";
import type { GpuMemory } from "./memory.ts";
import { type Ready, Steps } from "./steps.ts";

/** Launches of a kernel in one pass: enough that beginning and ending it do not show. */
const replayed = 300;
/** Submissions before the one that counts, while the device's clocks rise. */
const warmups = 3;

type Launch = Extract<Ready, { kind: "launch" }>;

/** `reset` writes the inputs anew. @throws UnsupportedError on a device without timestamps */
export async function measureRuns(
  context: GpuContext,
  memory: GpuMemory,
  steps: readonly Ready[],
  times: number,
  reset: () => void,
): Promise<RunTimes> {
  if (!context.device.features.has("timestamp-query"))
    throw new UnsupportedError("webgpu", "this device has no timestamps", { hint: "Measure whole runs by the clock." });
  const byKernel = new Map<number, Launch[]>();
  for (const step of steps) {
    if (step.kind === "launch") byKernel.set(step.kernel, [...(byKernel.get(step.kernel) ?? []), step]);
  }
  const clock = new PassClock(context, memory, byKernel.size + 2);
  try {
    for (let i = 0; i < warmups; i++) {
      reset();
      await runsOf(context, clock, steps, times);
    }
    reset();
    const runs = await runsOf(context, clock, steps, times);
    reset();
    await replay(context, clock, byKernel);
    reset();
    const kernels = await replay(context, clock, byKernel);
    return { ...runs, kernels };
  } finally {
    clock.release();
  }
}

async function runsOf(context: GpuContext, clock: PassClock, steps: readonly Ready[], times: number) {
  const { device } = context;
  const start = performance.now();
  const encoder = device.createCommandEncoder();
  clock.pass(encoder, 0, () => {});
  const pass = new Steps(encoder);
  for (let i = 0; i < times; i++) pass.encode(steps);
  pass.end();
  clock.pass(encoder, 1, () => {});
  clock.resolve(encoder);
  const recorded = performance.now();
  const commands = encoder.finish();
  const finished = performance.now();
  device.queue.submit([commands]);
  const submitted = performance.now();
  const ticks = await clock.read();
  return {
    recordMs: (recorded - start) / times,
    finishMs: (finished - recorded) / times,
    submitMs: (submitted - finished) / times,
    deviceMs: (ticks[2]! - ticks[1]!) / times,
  };
}

async function replay({ device }: GpuContext, clock: PassClock, byKernel: ReadonlyMap<number, readonly Launch[]>) {
  const encoder = device.createCommandEncoder();
  const counts: number[] = [];
  for (const launches of byKernel.values()) {
    const rounds = Math.ceil(replayed / launches.length);
    clock.pass(encoder, counts.length, (pass) => {
      for (let i = 0; i < rounds; i++) {
        for (const { pipeline, group, workgroups } of launches) {
          pass.setPipeline(pipeline);
          pass.setBindGroup(0, group);
          pass.dispatchWorkgroups(...workgroups);
        }
      }
    });
    counts.push(rounds * launches.length);
  }
  clock.resolve(encoder);
  device.queue.submit([encoder.finish()]);
  const ticks = await clock.read();
  return [...byKernel].map(([kernel, launches], i) => ({
    kernel,
    launches: launches.length,
    ms: ((ticks[2 * i + 1]! - ticks[2 * i]!) / counts[i]!) * launches.length,
  }));
}

/** Passes between two timestamps each. */
class PassClock {
  readonly #memory: GpuMemory;
  readonly #set: GPUQuerySet;
  readonly #found: GPUBuffer;
  readonly #staging: GPUBuffer;
  readonly #bytes: number;

  constructor({ device }: GpuContext, memory: GpuMemory, passes: number) {
    this.#memory = memory;
    this.#bytes = 16 * passes;
    this.#set = device.createQuerySet({ type: "timestamp", count: 2 * passes });
    this.#found = memory.buffer(this.#bytes, GPUBufferUse.timestamps, () => "timestamps");
    this.#staging = memory.buffer(this.#bytes, GPUBufferUse.staging, () => "timestamps");
  }

  /** Records a pass whose times are number 2 `index` and the next. */
  pass(encoder: GPUCommandEncoder, index: number, record: (pass: GPUComputePassEncoder) => void): void {
    const timestampWrites = {
      querySet: this.#set,
      beginningOfPassWriteIndex: 2 * index,
      endOfPassWriteIndex: 2 * index + 1,
    };
    const pass = encoder.beginComputePass({ timestampWrites });
    record(pass);
    pass.end();
  }

  resolve(encoder: GPUCommandEncoder): void {
    encoder.resolveQuerySet(this.#set, 0, this.#bytes / 8, this.#found, 0);
    encoder.copyBufferToBuffer(this.#found, 0, this.#staging, 0, this.#bytes);
  }

  /** Milliseconds since the first of them. */
  async read(): Promise<number[]> {
    await this.#staging.mapAsync(mapForReading);
    const times = new BigUint64Array(this.#staging.getMappedRange().slice(0));
    this.#staging.unmap();
    return [...times].map((time) => Number(time - times[0]!) / 1e6);
  }

  release(): void {
    this.#set.destroy();
    this.#memory.destroy(this.#found);
    this.#memory.destroy(this.#staging);
  }
}
