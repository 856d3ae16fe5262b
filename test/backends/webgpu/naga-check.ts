/**
 * For Deno: compiles the shaders of a JSON file with its WebGPU, wgpu with the shader compiler naga, and prints what is wrong
 * with each as JSON. `deno run --allow-read --unstable-webgpu naga-check.ts FILE`
 */
declare const Deno: {
  readonly args: readonly string[];
  readTextFileSync(path: string): string;
  exit(code: number): never;
};
interface Shader {
  readonly name: string;
  readonly code: string;
}

// Written by naga.test.ts.
const shaders: readonly Shader[] = JSON.parse(Deno.readTextFileSync(Deno.args[0]!));
const adapter = await navigator.gpu?.requestAdapter();
const device = await adapter?.requestDevice({
  requiredLimits: { maxStorageBuffersPerShaderStage: adapter.limits.maxStorageBuffersPerShaderStage },
});
const pipelineEvery = 25;
const problems: (Shader & { readonly message: string })[] = [];
for (const [i, { name, code }] of (device ? shaders : []).entries()) {
  device!.pushErrorScope("validation");
  const module = device!.createShaderModule({ code });
  // The driver takes a hundred times as long as naga, so it gets some of them.
  if (i % pipelineEvery === 0)
    device!.createComputePipeline({ layout: "auto", compute: { module, entryPoint: "main" } });
  const error = await device!.popErrorScope();
  if (error !== null) problems.push({ name, message: error.message, code });
}
console.log(JSON.stringify({ adapter: adapter ? adapter.info.description || "a GPU" : null, problems }));
Deno.exit(0);

export {};
