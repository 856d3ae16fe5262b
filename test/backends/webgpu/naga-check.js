/**
 * For Deno: compiles the shaders of a JSON file with its WebGPU, wgpu with the shader compiler naga, and prints what is wrong
 * with each as JSON. `deno run --allow-read --unstable-webgpu naga-check.js FILE`
 */
const shaders = JSON.parse(Deno.readTextFileSync(Deno.args[0]));
const adapter = await navigator.gpu?.requestAdapter();
const device = await adapter?.requestDevice({
  requiredLimits: { maxStorageBuffersPerShaderStage: adapter.limits.maxStorageBuffersPerShaderStage },
});
const pipelineEvery = 25;
const problems = [];
for (const [i, { name, code }] of (device ? shaders : []).entries()) {
  device.pushErrorScope("validation");
  const module = device.createShaderModule({ code });
  // The driver takes a hundred times as long as naga, so it gets some of them.
  if (i % pipelineEvery === 0)
    device.createComputePipeline({ layout: "auto", compute: { module, entryPoint: "main" } });
  const error = await device.popErrorScope();
  if (error !== null) problems.push({ name, message: error.message, code });
}
console.log(JSON.stringify({ adapter: adapter ? adapter.info.description || "a GPU" : null, problems }));
Deno.exit(0);
