/** What a model leaves behind: aborts in the middle of a step, threads after close, memory after many devices. */
import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { openWasm } from "../../../src/backends/wasm/device.ts";
import { compile } from "../../../src/compile.ts";
import { maths } from "../../../src/ir/build.ts";
import { Builder, makeModule } from "../../../src/ir/graph.ts";
import { tensorFrom } from "../../../src/ir/tensor.ts";
import { parseModelConfigText } from "../../../src/models/deepseek/config.ts";
import { checkpointDTypes } from "../../../src/models/deepseek/layers.ts";
import { withDerivedWeights } from "../../../src/models/deepseek/rope-tables.ts";
import { loadModel } from "../../../src/runtime/load-model.ts";
import { ModelRunner } from "../../../src/runtime/steps/model-runner.ts";
import { WeightStore } from "../../../src/runtime/weights/weight-store.ts";
import { goldenConfigText, goldenTensors, weightsFrom } from "../../models/read-golden.ts";

const demo = fileURLToPath(new URL("../../../models/tiny-deepseek", import.meta.url));
/** Threads of this process; where the system does not tell, always 0. */
const threadsNow = () => (process.platform === "linux" ? readdirSync("/proc/self/task").length : 0);

describe.each(["v3", "qwen2-tied"] as const)("%s", (name) => {
  const config = parseModelConfigText(goldenConfigText(name));
  const tensors = goldenTensors(name, "model");
  const read = withDerivedWeights(weightsFrom(tensors), config, 16);
  const headers = new Map(Array.from(tensors, ([tensor, { type }]) => [tensor, type] as const));
  const limits = { tokens: 8, sequences: 1, blocks: 4, outputs: 8, blockSize: 4, slots: 16, ropeRows: 16 };
  const batch = {
    tokens: Int32Array.of(3, 1, 4, 1, 5, 9, 2, 6),
    positions: Int32Array.from({ length: 8 }, (_, i) => i),
    sequence: new Int32Array(8),
    slots: Int32Array.from({ length: 8 }, (_, i) => i),
    blockTables: [Int32Array.of(0, 1, 2, 3)],
    outputs: Int32Array.from({ length: 8 }, (_, i) => i),
  };
  const logitsOn = async (...[options, more]: Parameters<typeof openWasm>) => {
    const device = openWasm(options, more);
    const store = new WeightStore(async (tensor) => read(tensor), device);
    const build = { weightDType: checkpointDTypes(config, headers) };
    const runner = new ModelRunner(config, store, { device, limits, build, compile: {} });
    const logits = (await runner.step(batch)).slice();
    const { summary } = device;
    await device.close();
    return { logits, summary };
  };

  test("has the same bits on any number of threads, and at addresses beyond 32 bits", async () => {
    const { logits: expected, summary } = await logitsOn();
    expect(summary).toContain("one thread");
    for (const threads of [2, 3]) {
      expect((await logitsOn({ threads }, { smallest: 1 })).logits).toEqual(expected);
    }
    // A program of more than a MiB where a MiB is all that 32 bits reach; and one whose arrays lie beyond 4 GiB.
    for (const more of [{ narrowBytes: 1 }, { narrowBytes: 1, start: 5 * 2 ** 30 }]) {
      const wide = await logitsOn({ threads: 2 }, { ...more, smallest: 1 });
      expect(wide.summary).toContain("64-bit addresses");
      expect(wide.logits).toEqual(expected);
    }
  });

  test("that does not fit in the machine says so in numbers", async () => {
    const refused = logitsOn({}, { machineBytes: 1000 });
    await expect(refused).rejects.toThrow(
      /wasm memory: the program needs \d+ bytes \(0\.00 GiB\) .* machine has 1000 b/,
    );
  });
});

test("a request is given up in the middle of a step, the next one works, and no thread is left", async () => {
  const load = () => loadModel(demo, { threads: 2, maxBatchTokens: 128, contextLength: 256 });
  // Node starts its threads for files with the first one.
  await (await load()).close();
  const before = threadsNow();
  const model = await load();
  expect(threadsNow()).toBeGreaterThanOrEqual(before + 2);
  const prompt = Array.from({ length: 120 }, (_, i) => 100 + i);
  const answer = async () => (await model.generate(prompt, { maxTokens: 4, temperature: 0 }).collect()).result.tokens;
  const expected = await answer();
  for (const ms of [0, 1, 3, 7]) {
    const controller = new AbortController();
    const aborted = model.generate(prompt.toReversed(), { temperature: 0, ignoreEos: true, signal: controller.signal });
    setTimeout(() => controller.abort(), ms);
    expect((await aborted.collect()).result.finishReason).toBe("abort");
    expect(await answer()).toEqual(expected);
  }
  const one = Int32Array.of(0);
  const step = { tokens: one, positions: one, sequence: one, slots: one, blockTables: [one], outputs: one };
  await expect(model.runner.step(step, AbortSignal.abort(new Error("enough")))).rejects.toThrow("enough");
  await model.close();
  expect(threadsNow()).toBeLessThanOrEqual(before);
});

test("two hundred devices leave no threads and little memory", async () => {
  const builder = new Builder();
  const [x, w] = [builder.param("x", "f32", [8, 64]), builder.param("w", "f32", [64, 64])];
  const y = maths(builder).contract("n i, o i -> n o", x, w);
  const module = makeModule("small", [{ name: "main", params: [x, w], outs: [y] }], "main");
  const inputs = [x, w].map(({ type }) =>
    tensorFrom(type, new Float32Array(type.shape[0]! * type.shape[1]!).fill(0.5)),
  );
  const cycle = async (threads: number) => {
    const device = openWasm({ threads }, { smallest: 1 });
    const [result] = await compile(module, device).run(inputs);
    expect(result!.data[0]).toBe(16);
    await device.close();
  };
  for (let i = 0; i < 20; i++) await cycle(1 + (i % 2));
  const [threads, bytes] = [threadsNow(), process.memoryUsage().rss];
  for (let i = 0; i < 180; i++) await cycle(i % 6 === 0 ? 2 : 1);
  expect(threadsNow()).toBeLessThanOrEqual(threads);
  // A device that stayed would hold a MiB at least; what is not yet collected is less than this.
  expect(process.memoryUsage().rss - bytes).toBeLessThan(96 * 2 ** 20);
});
