/** Weights and caches larger than a binding, and than a buffer, may be: seen and held in parts, with the same results. */
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { compile, prepareDevice } from "../../../src/compile.ts";
import { getFunc } from "../../../src/ir/graph.ts";
import { interpret } from "../../../src/ir/interpret.ts";
import { loadModel } from "../../../src/runtime/load-model.ts";
import { scoreTokens } from "../../../src/runtime/quality/score.ts";
import { close } from "../../arb/compare.ts";
import { inputsOf, moduleOf } from "../../arb/module-of.ts";
import { goldenTensors } from "../../models/read-golden.ts";
import { gpu, hasGpu } from "./gpu.ts";
import { limitedGpu } from "./small-limits.ts";

const tiny = { maxStorageBufferBindingSize: 1 << 14, maxBufferSize: 1 << 16 };

describe.skipIf(!hasGpu)("with a driver", () => {
  const shapes = {
    "a contraction of f32": moduleOf((m, p) =>
      m.contract("n k, j k -> n j", p("x", "f32", 3, 64), p("w", "f32", 200, 64)),
    ),
    "a contraction of bf16": moduleOf((m, p) =>
      m.contract("n k, j k -> n j", p("x", "f32", 1, 64), m.cast(p("w", "bf16", 200, 64), "f32")),
    ),
    "a gather": moduleOf((m, p) => m.gather(p("w", "f32", 500, 24), p("ids", "i32", 7))),
    "a gather of bytes": moduleOf((m, p) => m.cast(m.gather(p("w", "i8", 999, 24), p("ids", "i32", 7)), "f32")),
  };
  test.each(Object.entries(shapes))("%s", async (_, module) => {
    const inputs = inputsOf(getFunc(module, "main"));
    const ids = inputs.find(({ type }) => type.dtype === "i32");
    // Rows of every part, and the last.
    ids?.data.set([0, 170, 171, 300, 340, 499, 900].map((id) => Math.min(id, 499)));
    const { gpu: small, problems, mostBindings } = limitedGpu(gpu, tiny);
    const device = await prepareDevice("webgpu", { gpu: small });
    const { run, program } = compile(module, device);
    expect(program.sources.join("")).toContain("fn at_");
    // Exact, as these are products of quarters.
    close(await run(inputs), interpret(module, inputs), { ulp: 0 });
    expect(problems).toEqual([]);
    expect(mostBindings()).toBeGreaterThan(3);
    await device.close();
  });

  const [rows, width] = [1500, 24];
  const slots = [0, 681, 682, 683, 1365, 1366, 1499];
  test.each([
    ["larger than a binding", { maxStorageBufferBindingSize: 1 << 16, maxBufferSize: 1 << 18 }],
    ["larger than a buffer", { maxStorageBufferBindingSize: 1 << 16, maxBufferSize: 1 << 17 }],
  ])("a cache %s is written and read in all parts", async (_, limits) => {
    const { gpu: small, problems, buffers } = limitedGpu(gpu, limits);
    const device = await prepareDevice("webgpu", { gpu: small });
    const module = moduleOf((m, p) => {
      const cache = m.updateRows(
        p("cache", "f32", rows, width),
        p("new", "f32", slots.length, width),
        p("at", "i32", slots.length),
      );
      return [cache, m.gather(cache, p("ids", "i32", 2 * slots.length))];
    });
    const { instantiate, program } = compile(module, device);
    const cache = device.allocate({ dtype: "f32", shape: [rows, width] }, "resident");
    const weight = () => {
      throw new Error("there are no weights");
    };
    const instance = instantiate({ weight, params: new Map([["cache", cache]]) });
    const [, fresh, at, ids] = instance.params;
    fresh!.set(Array.from(fresh!, (_, i) => i + 1));
    at!.set(slots);
    // Each row that is written, and the one after it, which is not.
    ids!.set(slots.flatMap((slot) => [slot, (slot + 7) % rows]));
    await instance.run();
    const found = instance.results[1]!;
    for (const [i] of slots.entries()) {
      expect([...found.slice(2 * i * width, (2 * i + 1) * width)]).toEqual([
        ...fresh!.slice(i * width, (i + 1) * width),
      ]);
      expect([...found.slice((2 * i + 1) * width, (2 * i + 2) * width)]).toEqual(new Array(width).fill(0));
    }
    expect(problems).toEqual([]);
    expect(program.sources.join("")).toContain("fn put_");
    expect(buffers.filter((bytes) => bytes > limits.maxBufferSize)).toEqual([]);
    instance.release();
    await device.close();
  });

  test("attention over a cache in parts, its new row computed by itself", async () => {
    const [keys, groups, d] = [300, 1, 64];
    const module = moduleOf((m, p) => {
      const cacheRows = p("rows", "i32", 1, keys);
      const slot = p("slot", "i32", 1);
      const caches = ["key", "value"].map((name) =>
        m.updateRows(p(name, "f32", keys, groups * d), p(`${name}_new`, "f32", 1, groups * d), slot),
      );
      const [k, v] = caches.map((cache) => m.reshape(m.gather(cache, cacheRows), [1, keys, groups, d]));
      const q = p("q", "f32", 1, 4, d);
      const found = m.attention(q, k!, v!, p("positions", "i32", 1), p("sequence", "i32", 1), 0.125);
      return [m.contract("n h d, o h d -> n o", found, p("w", "f32", 8, 4, d)), ...caches];
    });
    const main = getFunc(module, "main");
    const inputs = inputsOf(main);
    const of = (name: string) => inputs[main.params.findIndex((param) => param.attrs.name === name)]!.data;
    of("rows").set(Array.from({ length: keys }, (_, i) => (i * 7) % keys));
    of("positions").set([keys - 1]);
    for (const slot of [3, 200, 299]) {
      of("slot").set([slot]);
      const {
        gpu: small,
        problems,
        mostBindings,
      } = limitedGpu(gpu, { maxStorageBufferBindingSize: 1 << 16, maxBufferSize: 1 << 18 });
      const device = await prepareDevice("webgpu", { gpu: small });
      const { run } = compile(module, device);
      // Weighted means of 300 numbers below 2.
      close(await run(inputs), interpret(module, inputs), { ulp: 512, absolute: 1e-4 });
      expect(problems).toEqual([]);
      expect(mostBindings()).toBeGreaterThan(8);
      await device.close();
    }
  });

  test("a cache in more parts than there are bindings is refused with the numbers", async () => {
    const { gpu: small } = limitedGpu(gpu, { maxStorageBufferBindingSize: 1 << 12, maxBufferSize: 1 << 18 });
    const device = await prepareDevice("webgpu", { gpu: small });
    const module = moduleOf((m, p) =>
      m.updateRows(p("cache", "f32", rows, width), p("new", "f32", 1, width), p("at", "i32", 1)),
    );
    const { run } = compile(module, device);
    await expect(run(inputsOf(getFunc(module, "main")))).rejects.toThrow(
      /has 38 buffers of at most 4096 bytes \(\w+ of 144000 bytes in 36\): this GPU allows \d+/,
    );
    await device.close();
  });

  test.each(["qwen2-tied", "v3"] as const)("%s", async (name) => {
    const golden = goldenTensors(name, "golden");
    const { gpu: small, problems, buffers, mostBindings } = limitedGpu(gpu, tiny);
    const model = await loadModel(folderOf(name), {
      backend: "webgpu",
      gpu: small,
      contextLength: 48,
      maxSequences: 1,
      maxBatchTokens: 8,
      // So that some are larger than a buffer.
      ...(name === "v3" && { quantize: { weights: "f32" } }),
    });
    try {
      const ids = [...golden.get("input_ids")!.data].slice(0, 20);
      const logits = await scoreTokens(model.runner.single(), ids, 4);
      const expected = golden.get("logits")!.data;
      const most = logits.reduce((worst, x, i) => Math.max(worst, Math.abs(x - expected[i]!)), 0);
      expect(most).toBeLessThan(1e-4); // as in golden-runs.ts
      expect(problems).toEqual([]);
      expect(mostBindings()).toBeGreaterThan(4);
      expect(model.program.program.sources.join("")).toContain("_part1");
      // Experts are.
      if (name === "v3")
        expect(buffers.filter((bytes) => bytes === tiny.maxStorageBufferBindingSize).length).toBeGreaterThan(3);
    } finally {
      await model.close();
    }
  });

  test("packed products, as on a device that needs no parts", async () => {
    const limits = { maxStorageBufferBindingSize: 1 << 13, maxBufferSize: 1 << 16 };
    const { gpu: small, problems, mostBindings } = limitedGpu(gpu, limits);
    const logits = async (on: GPU) => {
      const options = { contextLength: 32, maxSequences: 1, maxBatchTokens: 4, stepsAhead: 0 };
      const quantize = { weights: "int8", activations: "int8" } as const;
      const model = await loadModel(folderOf("qwen2-tied"), { backend: "webgpu", gpu: on, quantize, ...options });
      try {
        return await scoreTokens(model.runner.single(), [5, 9, 2, 44, 17], 1);
      } finally {
        await model.close();
      }
    };
    const [parted, whole] = [await logits(small), await logits(gpu)];
    // Launches are merged otherwise where bindings are scarce, so sums may be added in another order.
    expect(parted.reduce((worst, x, i) => Math.max(worst, Math.abs(x - whole[i]!)), 0)).toBeLessThan(1e-4);
    expect(problems).toEqual([]);
    expect(mostBindings()).toBeGreaterThan(4);
  });
});

function folderOf(name: string): string {
  return fileURLToPath(new URL(`../../fixtures/goldens/${name}`, import.meta.url));
}
