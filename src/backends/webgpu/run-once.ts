/** One shader, run once on inputs of words: for finding out what a device does before anything is compiled for it. */
import { computeStage, GPUBufferUse, mapForReading } from "./flags.ts";

/**
 * Gives the first binding's words; `inputs` are those of the others, which the shader only reads.
 * @throws Error with the compiler's or the device's words
 */
export async function runOnce(
  device: GPUDevice,
  code: string,
  words: number,
  inputs: readonly Uint32Array<ArrayBuffer>[],
  workgroups: number,
): Promise<Uint32Array> {
  const sizes = [4 * words, ...inputs.map(({ byteLength }) => byteLength)];
  const bound = sizes.map((size) => device.createBuffer({ size, usage: GPUBufferUse.tensor }));
  const staging = device.createBuffer({ size: 4 * words, usage: GPUBufferUse.staging });
  try {
    for (const [i, data] of inputs.entries()) device.queue.writeBuffer(bound[i + 1]!, 0, data);
    const [commands, error] = await watched(device, () => record(device, code, bound, staging, workgroups));
    if (error !== null) throw new Error(error.message);
    device.queue.submit([commands]);
    await staging.mapAsync(mapForReading);
    return new Uint32Array(staging.getMappedRange().slice(0));
  } finally {
    for (const each of [...bound, staging]) each.destroy();
  }
}

function record(
  device: GPUDevice,
  code: string,
  bound: readonly GPUBuffer[],
  staging: GPUBuffer,
  workgroups: number,
): GPUCommandBuffer {
  const typeOf = (binding: number) => (binding === 0 ? "storage" : "read-only-storage");
  const entries = bound.map((_, binding) => ({
    binding,
    visibility: computeStage,
    buffer: { type: typeOf(binding) } as const,
  }));
  const layout = device.createBindGroupLayout({ entries });
  const pipeline = device.createComputePipeline({
    layout: device.createPipelineLayout({ bindGroupLayouts: [layout] }),
    compute: { module: device.createShaderModule({ code }), entryPoint: "main" },
  });
  const bindings = bound.map((buffer, binding) => ({ binding, resource: { buffer } }));
  const encoder = device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  pass.setPipeline(pipeline);
  pass.setBindGroup(0, device.createBindGroup({ layout, entries: bindings }));
  pass.dispatchWorkgroups(workgroups);
  pass.end();
  encoder.copyBufferToBuffer(bound[0]!, 0, staging, 0, staging.size);
  return encoder.finish();
}

async function watched<T>(device: GPUDevice, run: () => T): Promise<[T, GPUError | null]> {
  device.pushErrorScope("validation");
  let error: Promise<GPUError | null>;
  let value: T;
  try {
    value = run();
  } finally {
    error = device.popErrorScope();
  }
  return [value, await error];
}
