/** What computes when nobody says: WebAssembly where the engine has it, else JavaScript, and how many threads. */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath, pathToFileURL } from "node:url";
import { describe, expect, test } from "vitest";
import { missingWasm, probe } from "../../src/backends/wasm/probe.ts";
import { openDefaultDevice } from "../../src/compile.ts";
import { parseModelConfigText } from "../../src/models/deepseek/config.ts";
import { defaultThreads, parametersPerToken } from "../../src/runtime/default-threads.ts";
import { loadModel } from "../../src/runtime/load-model.ts";
import { KernelProfile, showKernelTimes } from "../../src/runtime/report/kernel-profile.ts";
import { published } from "../models/published-configs.ts";

const golden = fileURLToPath(new URL("../fixtures/goldens/qwen2-tied", import.meta.url));

test("WebAssembly where the engine has vectors, else JavaScript that says why", () => {
  const device = openDefaultDevice();
  expect(device.target.name).toBe("wasm");
  const none = { ...probe(), tier: "none" } as const;
  expect(missingWasm(probe())).toBeNull();
  const fallback = openDefaultDevice({ threads: 2 }, missingWasm(none));
  expect(fallback.target.name).toBe("js");
  expect(fallback.summary).toBe("JavaScript, one thread (the engine has no WebAssembly with SIMD)");
});

test("a model runs in an engine without WebAssembly, and says what computes", () => {
  const source = pathToFileURL(fileURLToPath(new URL("../../src/runtime/load-model.ts", import.meta.url))).href;
  const program = `
    const { loadModel } = await import(${JSON.stringify(source)});
    delete globalThis.WebAssembly;
    const model = await loadModel(${JSON.stringify(golden)}, { contextLength: 32 });
    const { result } = await model.generate([1, 2, 3], { maxTokens: 4, temperature: 0, ignoreEos: true }).collect();
    console.log(JSON.stringify([model.device.summary, result.tokens.length]));
    await model.close();`;
  const printed = execFileSync(process.execPath, ["--input-type=module", "--eval", program], { encoding: "utf8" });
  expect(JSON.parse(printed)).toEqual(["JavaScript, one thread (the engine has no WebAssembly with SIMD)", 4]);
});

describe("threads", () => {
  const configOf = (name: string) => parseModelConfigText(JSON.stringify(published[name]!.config));

  test("are one per core, one alone for small models, never too many", () => {
    expect(defaultThreads(configOf("DeepSeek-V3"), 4)).toBe(4);
    expect(defaultThreads(configOf("DeepSeek-V3"), 512)).toBe(16);
    const small = parseModelConfigText(readFileSync(`${golden}/config.json`, "utf8"));
    expect(defaultThreads(small, 4)).toBe(1);
  });

  test("are chosen by what a token is multiplied with", () => {
    // Its makers say 37 billion activated parameters, the embedding (0.93 billion) included.
    expect(parametersPerToken(configOf("DeepSeek-V3")) / 1e9).toBeCloseTo(36.6, 0);
  });
});

test("a profile hears of every launch", async () => {
  const profile = new KernelProfile();
  const model = await loadModel(golden, { contextLength: 32, profile });
  await model.generate([1, 2, 3], { maxTokens: 3, temperature: 0, ignoreEos: true }).collect();
  await model.close();
  const text = showKernelTimes(profile.times(), { programs: true });
  expect(text).toMatch(/^[\d.]+ ms in \d+ launches of \d+ kernels\n/);
  expect(text.split("\n").length).toBeGreaterThan(5);
});
