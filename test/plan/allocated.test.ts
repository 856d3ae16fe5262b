/** What `plan-memory` says of the demo model's device memory against what devices allocate: within a tenth. */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import * as tf from "@tensorflow/tfjs-core";
import { beforeAll, expect, it } from "vitest";
import { prepareDevice } from "../../src/compile.ts";
import { parseModelConfigText } from "../../src/models/deepseek/config.ts";
import { backendHoldings, memoryOn } from "../../src/plan/backend-memory.ts";
import type { Precision } from "../../src/plan/model-memory.ts";
import { sizesOfConfig } from "../../src/plan/weight-groups.ts";
import { type LoadOptions, loadModel } from "../../src/runtime/load-model.ts";
import { nullGpu } from "../backends/webgpu/gpu.ts";

const folder = fileURLToPath(new URL("../../models/tiny-deepseek", import.meta.url));
const sizes = sizesOfConfig(parseModelConfigText(readFileSync(`${folder}/config.json`, "utf8")));
const context = 256;

function planned(backend: string, precision: Precision): number {
  const holding = backendHoldings.find((each) => each.backend === backend)!;
  return memoryOn(holding, precision, sizes, { context, sequences: 1, tokens: 128 }).device;
}

/** A model that has answered, so that programs for prompts and for single tokens are there. */
async function answered(backend: string, precision: Precision, options: LoadOptions = {}) {
  const activations = precision === "f32" ? {} : { activations: "int8" as const };
  const quantize = precision === "stored" ? {} : { quantize: { weights: precision, ...activations } };
  const model = await loadModel(folder, { ...options, ...quantize, backend, contextLength: context, maxSequences: 1 });
  const prompt = Array.from({ length: 130 }, (_, i) => i + 5);
  const { result } = model.generate(prompt, { maxTokens: 3, ignoreEos: true, temperature: 0 });
  // A device that computes nothing may give logits that are no numbers; its memory is all there by then.
  await (backend === "webgpu" ? result.catch(() => null) : result);
  return model;
}

// It allocates and checks like any Dawn, and computes nothing: tokens mean nothing here.
it.each(["stored", "f32", "int8", "int4"] as const)("buffers on WebGPU, %s", async (precision) => {
  const model = await answered("webgpu", precision, { gpu: nullGpu });
  const held = model.device!.heldBytes!();
  await model.close();
  expect(held).toBeGreaterThan(5e6);
  expect(planned("webgpu", precision) / held).toBeGreaterThan(0.9);
  expect(planned("webgpu", precision) / held).toBeLessThan(1.1);
});

it.each(["stored", "f32", "int4"] as const)("memory of a WebAssembly device, %s", async (precision) => {
  const model = await answered("wasm", precision, { threads: 1 });
  const held = model.device!.heldBytes!();
  await model.close();
  expect(planned("wasm", precision) / held).toBeGreaterThan(0.9);
  expect(planned("wasm", precision) / held).toBeLessThan(1.1);
});

// What counts tensors asks the current backend too.
beforeAll(async () => {
  await (await prepareDevice("tfjs-cpu")).close();
  await tf.setBackend("cpu");
});

it("tensors of an engine op by op, where codes are f32", async () => {
  const before = tf.memory().numBytes;
  const model = await answered("tfjs-wasm", "int8");
  const held = tf.memory().numBytes - before;
  await model.close();
  // Values of a step come and go.
  expect(planned("tfjs-wasm", "int8") / held).toBeGreaterThan(0.9);
  expect(planned("tfjs-wasm", "int8") / held).toBeLessThan(1.1);
});
