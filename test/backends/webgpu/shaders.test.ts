/** Shaders are compiled once for a device, whichever program has them, and side by side. */

import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { compile, prepareDevice } from "../../../src/compile.ts";
import { leastWebGpu } from "../../../src/ir/target.ts";
import { parseModelConfigText } from "../../../src/models/deepseek/config.ts";
import { buildModel } from "../../../src/models/deepseek/model.ts";
import { nullGpu } from "./gpu.ts";

test("programs of several buckets share them", async () => {
  const adapter = await nullGpu.requestAdapter();
  const gpuDevice = await adapter!.requestDevice(); // the null backend has one always
  let [begun, underWay, mostUnderWay] = [0, 0, 0];
  const compileAsync = gpuDevice.createComputePipelineAsync.bind(gpuDevice);
  gpuDevice.createComputePipelineAsync = (descriptor) => {
    begun++;
    mostUnderWay = Math.max(mostUnderWay, ++underWay);
    return compileAsync(descriptor).finally(() => underWay--);
  };
  const device = await prepareDevice("webgpu", { gpuDevice });
  expect(device.target.buffers).toBeGreaterThanOrEqual(leastWebGpu.buffers);
  const file = new URL("../../fixtures/goldens/v3/config.json", import.meta.url);
  const config = parseModelConfigText(readFileSync(file, "utf8"), "v3");
  const counts: [kernels: number, compiled: number][] = [];
  for (const blocks of [2, 4, 8]) {
    const sizes = { tokens: 1, sequences: 1, blocks, outputs: 1, blockSize: 16, slots: 256, ropeRows: 128 };
    const { plan, instantiate } = compile(buildModel(config, sizes, {}), device);
    const before = begun;
    const weight = (func: string, index: number) => device.allocate(plan.funcs.get(func)!.weights[index]!.type);
    const instance = instantiate({ weight });
    await instance.run();
    instance.release();
    counts.push([plan.kernels.length, begun - before]);
  }
  const [first, ...others] = counts as [[number, number], ...[number, number][]]; // of three
  // Some kernels of one program have the same text, too.
  expect(first[1]).toBeLessThanOrEqual(first[0]);
  expect(first[1]).toBeGreaterThan(first[0] / 2);
  // What attends to more blocks is another shader; most are not.
  for (const [kernels, compiled] of others) expect(compiled).toBeLessThan(kernels / 3);
  expect(mostUnderWay).toBeGreaterThan(first[1] / 2);
  await device.close();
});
