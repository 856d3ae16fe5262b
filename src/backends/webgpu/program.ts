/** Programs on a WebGPU device: one command buffer per run, results read back through one staging buffer. */
import { invariant, UnsupportedError } from "../../ir/errors.ts";
import type { Plan } from "../../ir/plan.ts";
import { storageLength, type TensorData } from "../../ir/tensor.ts";
import type { Instance, Program, ProgramMemory } from "../backend.ts";
import { type Binding, type Bound, bindFunc, wholeRange } from "./bind.ts";
import { type GpuContext, reasonOf } from "./context.ts";
import { GPUBufferUse, mapForReading } from "./flags.ts";
import type { GpuMemory } from "./memory.ts";
import { Pipelines } from "./pipelines.ts";

export function loadProgram(context: GpuContext, memory: GpuMemory, plan: Plan): Program {
  const pipelines = new Pipelines(context, plan.kernels);
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
  const arena = memory.buffer(entry.arenaBytes, GPUBufferUse.tensor, () => "the arena");
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
  let ready: readonly Ready[] | null = null;
  const run = async (): Promise<void> => {
    ready ??= await Promise.all(binding.bound.map(readyOf));
    const commands = ready;
    for (const data of inputs) memory.write(data, what);
    context.watch(what, () => {
      const encoder = context.device.createCommandEncoder();
      encodeSteps(encoder, commands);
      let at = 0;
      for (const data of outputs) {
        const bytes = stagedBytes(data);
        encoder.copyBufferToBuffer(memory.bufferOf(data, what), 0, staging, at, bytes);
        at += bytes;
      }
      context.device.queue.submit([encoder.finish()]);
    });
    await readBack(context, staging, outputs);
  };
  const own = [
    ...params.filter((_, i) => given.params?.get(entry.params[i]!.name) === undefined),
    ...results.filter((data, i) => (entry.donated[i] ?? null) === null && given.results?.get(i) !== data),
  ];
  const release = () => {
    for (const data of own) memory.free(data);
    for (const buffer of [arena, staging, ...binding.extra]) memory.destroy(buffer);
  };
  return { params, results, run, release };
}

type Ready =
  | (Omit<Extract<Bound, { kind: "launch" }>, "pipeline"> & { readonly pipeline: GPUComputePipeline })
  | Extract<Bound, { kind: "copy" }>;

async function readyOf(bound: Bound): Promise<Ready> {
  return bound.kind === "copy" ? bound : { ...bound, pipeline: await bound.pipeline };
}

/** Launches between copies share a pass; each sees what those before it wrote. */
function encodeSteps(encoder: GPUCommandEncoder, steps: readonly Ready[]): void {
  let pass: GPUComputePassEncoder | null = null;
  for (const step of steps) {
    if (step.kind === "copy") {
      pass?.end();
      pass = null;
      const { from, to } = step;
      encoder.copyBufferToBuffer(from.buffer, from.offset, to.buffer, to.offset, Math.min(from.size, to.size));
      continue;
    }
    pass ??= encoder.beginComputePass();
    pass.setPipeline(step.pipeline);
    pass.setBindGroup(0, step.group);
    pass.dispatchWorkgroups(...step.workgroups);
  }
  pass?.end();
}

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
