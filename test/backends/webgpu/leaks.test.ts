/** Loading, running and giving back a small program over and over leaves nothing behind, on the device or here. */
import { expect, test } from "vitest";
import { compile, prepareDevice } from "../../../src/compile.ts";
import { getFunc } from "../../../src/ir/graph.ts";
import { moduleOf } from "../../arb/module-of.ts";
import { nullGpu } from "./gpu.ts";

/** Bytes of buffers that a device was asked for and has not been asked to destroy. */
function countBytes(device: GPUDevice): () => number {
  let bytes = 0;
  const create = device.createBuffer.bind(device);
  device.createBuffer = (descriptor) => {
    const buffer = create(descriptor);
    const destroy = buffer.destroy.bind(buffer);
    bytes += descriptor.size;
    buffer.destroy = () => {
      bytes -= descriptor.size;
      destroy();
      return undefined;
    };
    return buffer;
  };
  return () => bytes;
}

test("1000 times", async () => {
  const adapter = await nullGpu.requestAdapter();
  const gpuDevice = await adapter!.requestDevice();
  const held = countBytes(gpuDevice);
  const device = await prepareDevice("webgpu", { gpuDevice });
  const module = moduleOf((m, p) => m.softmax(m.mul(p("x", "f32", 4, 300), m.neg(p("y", "f32", 4, 300)))));
  const { params } = getFunc(module, "main");
  const cycle = async () => {
    const { instantiate } = compile(module, device);
    const memory = new Map(params.map(({ attrs, type }) => [attrs.name, device.allocate(type)]));
    const instance = instantiate({ weight: () => new Float32Array(), params: memory });
    await instance.run();
    await instance.queue?.({ times: 2, write: [], read: instance.results[0]! });
    instance.release();
    for (const data of memory.values()) device.free(data);
  };
  const heap = () => {
    (globalThis as { gc?: () => void }).gc?.(); // only with --expose-gc
    const { heapUsed, arrayBuffers } = process.memoryUsage();
    return heapUsed + arrayBuffers;
  };
  for (let i = 0; i < 50; i++) await cycle();
  const before = heap();
  for (let i = 0; i < 950; i++) await cycle();
  expect(held()).toBe(0);
  // 950 cycles that kept one of their arrays of 4800 bytes would hold 4.5 MB; garbage that was not collected yet comes and goes.
  const limit = "gc" in globalThis ? 4e6 : 64e6;
  expect(heap() - before).toBeLessThan(limit);
  await device.close();
}, 120_000);
