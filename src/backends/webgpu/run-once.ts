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
  const types: readonly GPUBufferBindingType[] = ["storage", ...inputs.map(() => "read-only-storage" as const)];
  const entries = types.map((type, binding) => ({ binding, visibility: computeStage, buffer: { type } }));
  const buffers: GPUBuffer[] = [];
  const buffer = (size: number, usage: number) => {
    const made = device.createBuffer({ size, usage });
    buffers.push(made);
    return made;
  };
  const record = () => {
    const layout = device.createBindGroupLayout({ entries });
    const pipeline = device.createComputePipeline({
      layout: device.createPipelineLayout({ bindGroupLayouts: [layout] }),
      compute: { module: device.createShaderModule({ code }), entryPoint: "main" },
    });
    const [result, staging] = [buffer(4 * words, GPUBufferUse.tensor), buffer(4 * words, GPUBufferUse.staging)];
    const bound = [result, ...inputs.map(({ byteLength }) => buffer(byteLength, GPUBufferUse.tensor))];
    for (const [i, data] of inputs.entries()) device.queue.writeBuffer(bound[i + 1]!, 0, data);
    const bindings = bound.map((each, binding) => ({ binding, resource: { buffer: each } }));
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, device.createBindGroup({ layout, entries: bindings }));
    pass.dispatchWorkgroups(workgroups);
    pass.end();
    encoder.copyBufferToBuffer(result, 0, staging, 0, 4 * words);
    device.queue.submit([encoder.finish()]);
    return staging;
  };
  try {
    const [staging, error] = await watched(device, record);
    if (error !== null) throw new Error(error.message);
    await staging.mapAsync(mapForReading);
    return new Uint32Array(staging.getMappedRange().slice(0));
  } finally {
    for (const each of buffers) each.destroy();
  }
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
