/**
 * For Deno: runs kernels on its WebGPU. Each line of the input is JSON: a shader, its workgroups, and its buffers in base64,
 * with how each is bound; each line of the output the buffers afterwards, or an error. `deno run --unstable-webgpu naga-run.ts`
 */
declare const Deno: {
  readonly stdin: { readonly readable: ReadableStream<Uint8Array<ArrayBuffer>> };
  exit(code: number): never;
};
interface Launch {
  readonly code: string;
  readonly workgroups: readonly [number, number];
  /** `bytes` in base64. */
  readonly buffers: readonly { readonly bytes: string; readonly access: "read" | "read_write" }[];
}

const adapter = await navigator.gpu?.requestAdapter();
if (!adapter) {
  console.log("null");
  Deno.exit(0);
}
const device = await adapter.requestDevice({
  requiredLimits: { maxStorageBuffersPerShaderStage: adapter.limits.maxStorageBuffersPerShaderStage },
});
console.log(JSON.stringify(adapter.info.description || "a GPU"));

const encode = (bytes: Uint8Array) => {
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text);
};
const decode = (text: string) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

async function run({ code, workgroups, buffers }: Launch) {
  device.pushErrorScope("validation");
  const module = device.createShaderModule({ code });
  const entries = buffers.map(({ access }, binding) => ({
    binding,
    visibility: GPUShaderStage.COMPUTE,
    buffer: { type: access === "read" ? ("read-only-storage" as const) : ("storage" as const) },
  }));
  const layout = device.createBindGroupLayout({ entries });
  const pipeline = device.createComputePipeline({
    layout: device.createPipelineLayout({ bindGroupLayouts: [layout] }),
    compute: { module, entryPoint: "main" },
  });
  const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
  const own = buffers.map(({ bytes }) => {
    const content = decode(bytes);
    const buffer = device.createBuffer({ size: content.length, usage });
    device.queue.writeBuffer(buffer, 0, content);
    return buffer;
  });
  const bound = own.map((buffer, binding) => ({ binding, resource: { buffer } }));
  const encoder = device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  pass.setPipeline(pipeline);
  pass.setBindGroup(0, device.createBindGroup({ layout, entries: bound }));
  pass.dispatchWorkgroups(...workgroups);
  pass.end();
  const staging = own.map((buffer) => {
    const copy = device.createBuffer({ size: buffer.size, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
    encoder.copyBufferToBuffer(buffer, 0, copy, 0, buffer.size);
    return copy;
  });
  device.queue.submit([encoder.finish()]);
  const error = await device.popErrorScope();
  if (error !== null) return { error: error.message };
  const found: string[] = [];
  for (const copy of staging) {
    await copy.mapAsync(GPUMapMode.READ);
    found.push(encode(new Uint8Array(copy.getMappedRange())));
  }
  for (const buffer of [...own, ...staging]) buffer.destroy();
  return { buffers: found };
}

let left = "";
for await (const text of Deno.stdin.readable.pipeThrough(new TextDecoderStream())) {
  const lines = (left + text).split("\n");
  left = lines.pop()!; // never without one
  for (const line of lines) console.log(JSON.stringify(await run(JSON.parse(line))));
}

export {};
