/** What `loadModel` computes on: as a cache says, as nobody says, and where the first choice refuses. */
import { existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { cacheHome } from "../../../src/env.ts";
import { loadModel } from "../../../src/runtime/load-model.ts";
import type { BackendProbe } from "../../../src/runtime/probe/backend-probe.ts";
import { readConditions } from "../../../src/runtime/probe/machine.ts";
import { writeProbeCache } from "../../../src/runtime/probe/probe-cache.ts";
import { goldenFolder } from "../../cli/ciuic.ts";
import { row, someFigures } from "./rows.ts";

const folder = cacheHome();
const file = join(folder, "probe.json");
const model = goldenFolder("qwen2-distill");
const fast = { ...someFigures, reading: 1e12, f32Vector: 1e12, f32Matrix: 1e13, launch: 1e-8 };

beforeEach(() => rmSync(folder, { recursive: true, force: true }));
afterEach(() => rmSync(folder, { recursive: true, force: true }));

function keep(probes: readonly BackendProbe[]): void {
  const conditions = readConditions(process.env.VK_DRIVER_FILES ?? process.env.VK_ICD_FILENAMES ?? "");
  expect(
    writeProbeCache(folder, {
      schema: "ciuic-probe-1",
      conditions,
      probes,
      complete: true,
      busy: 0,
      cached: false,
      notes: [],
    }),
  ).toBeNull();
}

/** The device, and why. */
async function chosen(options: Parameters<typeof loadModel>[1] = {}) {
  const loaded = await loadModel(model, options);
  const { choice } = loaded;
  const summary = loaded.device?.summary;
  await loaded.close();
  return { summary, choice };
}

it("a small model on a machine that was never probed pays for no measurement", async () => {
  const { summary, choice } = await chosen();
  expect(summary).toMatch(/^WebAssembly, .*, one thread$/);
  expect(choice).toMatchObject({ backend: "wasm", threads: 1, fits: true });
  expect(choice?.chosen.measured).toBe(false);
  expect(existsSync(file)).toBe(false);
});

it("what was probed decides", async () => {
  keep([row("wasm"), row("wasm", { threads: 2, figures: fast }), row("js")]);
  const two = await chosen();
  expect([two.summary, two.choice?.threads]).toEqual([expect.stringMatching(/2 threads$/), 2]);
  keep([row("wasm"), row("js", { figures: fast })]);
  const plain = await chosen();
  expect([plain.summary, plain.choice?.backend]).toEqual(["JavaScript, one thread", "js"]);
  expect(plain.choice?.why).toMatch(/^a js: about [\d.]+ tokens\/s expected once warm, wasm on one thread [\d.]+$/);
});

it("what is asked for is not chosen, and threads alone are", async () => {
  keep([row("wasm"), row("wasm", { threads: 2, figures: fast }), row("js", { figures: fast })]);
  expect(await chosen({ backend: "js" })).toEqual({ summary: "JavaScript, one thread", choice: null });
  expect((await chosen({ backend: "wasm", threads: 1 })).choice).toBeNull();
  expect((await chosen({ backend: "wasm" })).choice).toMatchObject({ backend: "wasm", threads: 2 });
  await expect(chosen({ backend: "wsam" })).rejects.toThrow(/there is no backend "wsam"\nDid you mean "wasm"/);
});

it("a backend that refuses the model is left for the next", async () => {
  keep([row("webgpu", { memory: null, figures: fast }), row("wasm"), row("js")]);
  const none = { requestAdapter: async () => null } as unknown as GPU; // a GPU object without a GPU
  const { summary, choice } = await chosen({ gpu: none });
  expect(choice?.backend).toBe("webgpu");
  expect(summary).toMatch(/^WebAssembly, .*, one thread$/);
});

it("a cache that makes no sense is as good as none", async () => {
  mkdirSync(folder, { recursive: true });
  writeFileSync(file, "{");
  expect((await chosen()).choice).toMatchObject({ backend: "wasm", threads: 1 });
});
