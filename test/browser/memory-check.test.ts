/** What a browser tells of its machine against what a model takes. */
import { expect, test } from "vitest";
import { type Capabilities, chooseBackends } from "../../src/browser/backend-choice.ts";
import { fittingBackends } from "../../src/browser/memory-check.ts";
import type { LoadSettings } from "../../src/browser/protocol.ts";
import { UnsupportedError } from "../../src/ir/errors.ts";
import { parseModelConfig } from "../../src/models/deepseek/config.ts";
import { published } from "../models/published-configs.ts";

const entry = Object.entries(published).find(([name]) => /R1-Distill-Qwen-1\.5B/.test(name))!;
const qwen = parseModelConfig(entry[1].config, entry[0]);
const everything: Capabilities = {
  webgpu: null,
  softwareGpu: false,
  wasm: null,
  isolation: null,
  blobWorkers: true,
  cores: 4,
  binding: 2 ** 27,
};

function choose(settings: LoadSettings, more: Partial<Capabilities> = {}) {
  const capabilities = { ...everything, ...more };
  const { possible, refused } = fittingBackends(chooseBackends(settings, capabilities), qwen, settings, capabilities);
  return { possible: possible.map(({ label }) => label), refused };
}

test("a GPU whose kernels see too little of a buffer is passed over, with what would fit", () => {
  const { possible, refused } = choose({ quantize: { weights: "f32" } });
  expect(possible[0]).toBe("WebAssembly with threads");
  expect(refused).toEqual([
    { label: "WebGPU", reason: expect.stringMatching(/too large for it: lm_head.*933 MB.*fits as stored/) },
  ]);
  expect(choose({ quantize: { weights: "int8" } }).possible[0]).toBe("WebGPU");
  // In bf16, as it is stored, the head is half as large.
  expect(choose({}).possible[0]).toBe("WebGPU");
  expect(choose({ quantize: { weights: "f32" } }, { binding: 2 ** 30 }).possible[0]).toBe("WebGPU");
  // What nobody tells speaks against nothing.
  expect(choose({ quantize: { weights: "f32" } }, { binding: null }).possible[0]).toBe("WebGPU");
});

test("a machine with too little memory for all of them is told what each takes", () => {
  const small = { memory: 2 ** 31, webgpu: "none here" };
  expect(() => choose({}, small)).toThrow(UnsupportedError);
  expect(() => choose({}, small)).toThrow(/too large for this browser: .*needs \d\.\d+ GB of 2\.15 GB/);
  expect(choose({ quantize: { weights: "int4" }, contextLength: 1024 }, small).possible).toContain(
    "WebAssembly on one thread",
  );
});
