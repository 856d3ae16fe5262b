/** Programs on a WebGPU device: a few command buffers per run, results read back through one staging buffer. */
import { invariant, UnsupportedError } from "../../ir/errors.ts";
import type { Plan } from "../../ir/plan.ts";
import { storageLength, type TensorData } from "../../ir/tensor.ts";
import type { Instance, Program, ProgramMemory, QueuedRuns } from "../backend.ts";
import { type Binding, bindFunc, wholeRange } from "./bind.ts";
import { type GpuContext, reasonOf } from "./context.ts";
import { GPUBufferUse, mapForReading } from "./flags.ts";
import type { GpuMemory } from "./memory.ts";
import { Pipelines, type Shaders } from "./pipelines.ts";
import { measureRuns } from "./run-times.ts";
import { LaunchTimes, type Ready, readyOf, Steps } from "./steps.ts";

export function loadProgram(context: GpuContext, memory: GpuMemory, shaders: Shaders, plan: Plan): Program {
  const pipelines = new Pipelines(context, shaders, plan.kernels);
  const sources = plan.kernels.map((_, i) => pipelines.source(i));
  return { sources, instantiate: (given) => instantiate(context, memory, plan, pipelines, given) };
}

function instantiate(
  context: GpuContext,
  memory: GpuMemory,
  plan: Plan,
  pipelines: Pipelines,
  given: ProgramMemory,
): Instance {
  const entry = plan.funcs.get(plan.entry)!;
  const params = entry.params.map(({ name, type }) => {
    const data = given.params?.get(name) ?? memory.tensor(type, false);
    invariant(data.length === storageLength(type), () => `memory of ${name} has the wrong length`);
    return data;
  });
  const results = entry.results.map(({ type }, i) => {
    const param = entry.donated[i] ?? null;
    return param === null ? (given.results?.get(i) ?? memory.tensor(type, false)) : params[param]!;
  });
  const what = () => `memory of @${entry.name}`;
  const { memory: arena, release: releaseArena } = memory.arenas.take(entry.arenaBytes);
  const binding: Binding = { context, memory, plan, pipelines, given, arena, bound: [], extra: [] };
  const frame = {
    params: params.map((data) => wholeRange(memory, data, what)),
    results: results.map((data) => wholeRange(memory, data, what)),
    base: 0,
    layer: null,
  };
  bindFunc(binding, entry, frame);
  const inputs = params.filter((data) => !memory.isResident(data));
  const outputs = [...new Set(results)].filter((data) => !memory.isResident(data));
  const stagingBytes = outputs.reduce((sum, data) => sum + stagedBytes(data), 0);
  const staging = memory.buffer(stagingBytes, GPUBufferUse.staging, () => "memory for results");
  const times = given.onLaunch === undefined ? null : LaunchTimes.for(context, memory);
  // Buffers of the size that `queue` reads; an instance reads one array only.
  const spare: GPUBuffer[] = [];
  let ready: readonly Ready[] | null = null;
  const queue = async ({ times, write, read }: QueuedRuns): Promise<TensorData> => {
    // Nothing is waited for once it is ready, so that runs are submitted in the order in which they are asked for.
    if (ready === null) ready = await Promise.all(binding.bound.map(readyOf));
    const commands = ready;
    const bytes = stagedBytes(read);
    const own = spare.pop() ?? memory.buffer(bytes, GPUBufferUse.staging, () => "memory for results");
    for (const data of write) memory.write(data, what);
    context.watch(what, () => {
      const { device } = context;
      let left = times;
      do {
        const encoder = device.createCommandEncoder();
        const pass = new Steps(encoder);
        for (let i = 0; i < Math.min(left, runsTogether); i++) pass.encode(commands);
        pass.end();
        left -= runsTogether;
        if (left <= 0) encoder.copyBufferToBuffer(memory.bufferOf(read, what), 0, own, 0, bytes);
        device.queue.submit([encoder.finish()]);
      } while (left > 0);
    });
    const found = read.slice();
    await readBack(context, own, [found]);
    spare.push(own);
    return found;
  };
  const copyOutputs = (encoder: GPUCommandEncoder): void => {
    let at = 0;
    for (const data of outputs) {
      const bytes = stagedBytes(data);
      encoder.copyBufferToBuffer(memory.bufferOf(data, what), 0, staging, at, bytes);
      at += bytes;
    }
  };
  const run = async (): Promise<void> => {
    ready ??= await Promise.all(binding.bound.map(readyOf));
    const commands = ready;
    for (const data of inputs) memory.write(data, what);
    context.watch(what, () => {
      const { device } = context;
      // The GPU begins while the rest is recorded.
      for (let [at, count] = [0, firstPart]; at < commands.length || at === 0; at += count, count *= 2) {
        const encoder = device.createCommandEncoder();
        const pass = new Steps(encoder, times);
        pass.encode(commands.slice(at, at + count));
        pass.end();
        if (at + count >= commands.length) {
          times?.resolve(encoder);
          copyOutputs(encoder);
        }
        device.queue.submit([encoder.finish()]);
      }
    });
    await readBack(context, staging, outputs);
    if (given.onLaunch !== undefined) await times?.report(given.onLaunch);
  };
  const measure = async (times: number) => {
    ready ??= await Promise.all(binding.bound.map(readyOf));
    const reset = () => {
      for (const data of inputs) memory.write(data, what);
    };
    const found = await measureRuns(context, memory, ready, times, reset);
    await context.check();
    return found;
  };
  const own = [
    ...params.filter((_, i) => given.params?.get(entry.params[i]!.name) === undefined),
    ...results.filter((data, i) => (entry.donated[i] ?? null) === null && given.results?.get(i) !== data),
  ];
  const release = () => {
    for (const data of own) memory.free(data);
    releaseArena();
    for (const buffer of [staging, ...spare, ...(times?.buffers ?? []), ...binding.extra]) memory.destroy(buffer);
  };
  return { params, results, run, queue, measure, release };
}

/** Queued runs that are submitted at once: the GPU begins while the others are recorded, which takes most of the time that it does. */
const runsTogether = 2;
/** Steps of a run that are submitted first; then twice as many, and so on: recording a step takes about as long as a GPU does. */
const firstPart = 8;

function stagedBytes(data: TensorData): number {
  return Math.max(Math.ceil(data.byteLength / 4) * 4, 4);
}

async function readBack(context: GpuContext, staging: GPUBuffer, outputs: readonly TensorData[]): Promise<void> {
  try {
    await staging.mapAsync(mapForReading);
  } catch (cause) {
    await context.check();
    throw new UnsupportedError("webgpu", `results cannot be read: ${reasonOf(cause)}`, { cause });
  }
  await context.check();
  const bytes = staging.getMappedRange();
  let at = 0;
  for (const data of outputs) {
    new Uint8Array(data.buffer, data.byteOffset, data.byteLength).set(new Uint8Array(bytes, at, data.byteLength));
    at += stagedBytes(data);
  }
  staging.unmap();
}
