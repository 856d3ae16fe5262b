/** `benchModel` on the bundled model: what the report holds and how its parts agree. No times are compared with anything. */
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { showBench } from "../../../src/cli/bench-text.ts";
import { dispatch } from "../../../src/cli/dispatch.ts";
import { planTotals } from "../../../src/ir/plan.ts";
import { loadModel } from "../../../src/runtime/load-model.ts";
import { type BenchReport, benchModel, type ModelProfile } from "../../../src/runtime/report/bench-model.ts";
import { showKernelTimes } from "../../../src/runtime/report/kernel-profile.ts";
import { profileStep } from "../../../src/runtime/report/profile-step.ts";
import { ModelRunner } from "../../../src/runtime/steps/model-runner.ts";
import { singleBatch, someTokens } from "../../../src/runtime/steps/single-batch.ts";
import { ciuic } from "../../cli/ciuic.ts";
import { row, someFigures } from "../probe/rows.ts";

const demo = fileURLToPath(new URL("../../../models/tiny-deepseek", import.meta.url));
const golden = fileURLToPath(new URL("../../fixtures/goldens/qwen2-tied", import.meta.url));
const sizes = { promptTokens: 9, tokens: 3, rounds: 3, warmup: 0 };

function profileOf({ profile }: BenchReport): ModelProfile {
  if (profile === null || profile.missing !== null) throw new Error(`no profile: ${profile?.missing}`);
  return profile;
}

describe.each(["js", "wasm"])("on %s", (backend) => {
  it("gives rates, limits and where the time goes", async () => {
    const model = await loadModel(demo, { backend, threads: 2, contextLength: 64, maxSequences: 1 });
    try {
      const probes = async () => [row(backend, { figures: someFigures })];
      const report = await benchModel(model, { ...sizes, profile: true, probes });
      expect(JSON.parse(JSON.stringify(report))).toEqual(report);
      expect([report.schema, report.backend, report.request]).toEqual([
        "ciuic-bench-1",
        backend,
        { promptTokens: 9, tokens: 3, rounds: 3 },
      ]);
      for (const { rounds, median, least, most } of [report.prompt, report.decode, report.firstToken.warm]) {
        expect(rounds).toHaveLength(3);
        expect(median).toBe([...rounds].sort((a, b) => a - b)[1]);
        expect([least, most]).toEqual([Math.min(...rounds), Math.max(...rounds)]);
        expect(least).toBeGreaterThan(0);
      }
      const { plan, report: compiled } = model.program;
      expect(report.memory).toMatchObject({ ...model.memory, values: compiled.arenaBytes });
      expect(report.limits?.speed.launches).toBe(planTotals(plan).launches);
      // Shares are what each takes alone, by its rate, of the time that was measured.
      const { shares, expected } = report.limits!;
      expect(shares.launches! / report.decode.median).toBeCloseTo(expected!.launches * someFigures.launch, 12);
      const { prompt, decode } = profileOf(report);
      for (const step of [prompt, decode]) {
        expect(step.kernels.reduce((sum, { share }) => sum + share, 0)).toBeCloseTo(1, 12);
        expect(step.kernels.every(({ ms, bytes, ops }) => ms >= 0 && bytes > 0 && ops !== "")).toBe(true);
        const times = step.kernels.map(({ ms }) => ms);
        expect(times).toEqual([...times].sort((a, b) => b - a));
      }
      expect(decode.kernels.reduce((sum, { launches }) => sum + launches, 0)).toBe(planTotals(plan).launches);
      expect([prompt.tokens, prompt.after, decode.tokens, decode.after]).toEqual([9, 0, 1, 10]);
      // The step for 12 tokens is the smallest that takes 9.
      const { executable } = (model.runner as ModelRunner).compile({ tokens: 9, sequences: 1, blocks: 1, outputs: 1 });
      const launches = prompt.kernels.reduce((sum, each) => sum + each.launches, 0);
      expect(launches).toBe(planTotals(executable.plan).launches);
      const text = showBench({ ...report, loadSeconds: 1, residentBytes: 1e6 });
      expect(text).toMatch(/^prompt +[\d.]+ \[[\d.]+ to [\d.]+\] tokens\/s, 9 tokens$/m);
      expect(text).toMatch(/^where the time of a token after 10 goes/m);
      expect(text.match(/^share +|^ +share +time +launches/gm)).toHaveLength(2);
    } finally {
      await model.close();
    }
  });
});

it("says where kernels cannot be timed", async () => {
  for (const backend of ["interpreter", "tfjs-cpu"]) {
    const model = await loadModel(golden, { backend, contextLength: 32, maxSequences: 1 });
    try {
      const report = await benchModel(model, { ...sizes, rounds: 1, profile: true });
      expect(report.profile).toEqual({ missing: expect.stringMatching(/no kernels|not timed one by one/) });
      expect(report.limits?.by ?? "unknown").toBe("unknown");
      const text = showBench({ ...report, loadSeconds: 1, residentBytes: 1e6 });
      expect(text).toMatch(/^profile +none: .*(no kernels|not timed one by one)/m);
    } finally {
      await model.close();
    }
  }
});

it("gives back what a profiled runner held", async () => {
  const model = await loadModel(golden, { backend: "wasm", threads: 1, contextLength: 32, maxSequences: 1 });
  const held = model.device!.heldBytes!();
  const { runner } = model;
  if (!(runner instanceof ModelRunner)) throw new Error("it is compiled");
  const other = runner.profiled(undefined);
  await other.step(singleBatch(other.sizes, someTokens(1, 8)));
  expect(model.device!.heldBytes!()).toBeGreaterThan(held);
  other.release();
  expect(model.device!.heldBytes!()).toBe(held);
  const batch = singleBatch(runner.sizes, someTokens(1, 8));
  const wrong = { ...batch, positions: new Int32Array(999) };
  await expect(profileStep(runner, { tokens: 1, warmup: 0 }, wrong)).rejects.toThrow(RangeError);
  expect(model.device!.heldBytes!()).toBe(held);
  await model.close();
});

it("no prompt begins as another does", () => {
  const first = Array.from({ length: 200 }, (_, seed) => someTokens(1, 4096, seed)[0]);
  expect(new Set(first).size).toBe(200);
});

it("sums what it does not show of a table", () => {
  const time = { program: "p", name: "k", ops: "a, b, c, d, e, f, g", launches: 2, bytes: 4e6 };
  const times = [4, 3, 2, 1].map((ms, index) => ({ ...time, index, ms }));
  expect(showKernelTimes(times, { most: 2 })).toMatchInlineSnapshot(`
    "10.000 ms in 8 launches of 4 kernels
     share      time  launches       each     bytes  GB/s  kernel  computes
    40.0 %  4.000 ms         2  2000.0 us  4.000 MB  1.00  k#0     a, b, c, d, e and 2 others
    30.0 %  3.000 ms         2  1500.0 us  4.000 MB  1.33  k#1     a, b, c, d, e and 2 others
    and 2 more kernels, 30.0 %"
  `);
});

it("shows times that a clock is too coarse for", () => {
  const time = { program: "p", name: "k", ops: "add", index: 0, launches: 1, ms: 0, bytes: 4 };
  expect(showKernelTimes([time])).toMatch(/\n *0\.0 % +0\.000 ms +1 +0\.0 us +0\.000 MB +k#0 +add$/);
  expect(showKernelTimes([time, { ...time, index: 1 }], { most: 1 })).toMatch(/\nand 1 more kernels, 0\.0 %$/);
});

it("prints JSON that says what it measured, as a process", async () => {
  const flags = [
    "--backend",
    "js",
    "--prompt-tokens",
    "4",
    "--tokens",
    "2",
    "--rounds",
    "1",
    "--context",
    "32",
    "--json",
  ];
  const { code, stdout } = await ciuic(["bench", golden, ...flags]);
  expect(code).toBe(0);
  const { limits, ...report } = JSON.parse(stdout);
  expect(report).toMatchObject({
    schema: "ciuic-bench-1",
    model: golden,
    backend: "js",
    lossy: [],
    request: { promptTokens: 4, tokens: 2, rounds: 1 },
    profile: null,
    loadSeconds: expect.any(Number),
    residentBytes: expect.any(Number),
  });
  expect(["memory", "arithmetic", "launches", "other work", "unknown"]).toContain(limits.by);
});

describe("mistakes", () => {
  it.each([
    [["--tokens", "1"], /^ciuic: --tokens: expected a whole number from 2 to \d+, got 1\n$/],
    [["--rounds", "0"], /^ciuic: --rounds: expected a whole number from 1 to 1000, got 0\n$/],
    [["--prompt-tokens", "-3"], /^ciuic: --prompt-tokens: expected a whole number from 1 to \d+, got -3\n$/],
    [["--prompt-tokens", "1e9"], /^ciuic: --prompt-tokens: expected a whole number from 1/],
    [["--prompt-tokens", "100", "--context", "120"], /^ciuic: bench --context: expected at least 164, got 120\. /],
    [["--rounds", "many"], /^ciuic: bench --rounds: expected a whole number, got "many"\n$/],
    [["--profile=yes"], /^ciuic: bench --profile: takes no value, got "yes"\n$/],
    [["--quantize", "int3"], /^ciuic: bench --quantize: weights: expected f32 or none or int8/],
    [["--backend", "wams"], /Did you mean "wasm"\?\n$/],
    [["--round", "3"], /Did you mean "--rounds"\?\n$/],
    [["a", "b"], /^ciuic: bench: one word too many: "b"/],
  ] as const)("%j", async (args, message) => {
    let stderr = "";
    const code = await dispatch(["bench", ...args], (text) => {
      stderr += text;
    });
    expect([code, stderr]).toEqual([2, expect.stringMatching(message)]);
  });
});
