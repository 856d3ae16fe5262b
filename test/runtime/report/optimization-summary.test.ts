/** The optimizer's summary agrees with what was compiled, and its text says so. */
import { readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Compiled, compileToPlan } from "../../../src/compile.ts";
import { wasmTarget } from "../../../src/ir/target.ts";
import { parseModelConfigText } from "../../../src/models/deepseek/config.ts";
import { buildModel } from "../../../src/models/deepseek/model.ts";
import { namesOf, weightSpecs } from "../../../src/models/deepseek/weights.ts";
import { loadModel } from "../../../src/runtime/load-model.ts";
import type { Model } from "../../../src/runtime/model.ts";
import { type OptimizationSummary, optimizationSummary } from "../../../src/runtime/report/optimization-summary.ts";
import { showSummary } from "../../../src/runtime/report/summary-text.ts";
import { compiledWeightBytes } from "../../../src/runtime/weights/weight-store.ts";

const folder = "models/tiny-deepseek";
const config = parseModelConfigText(readFileSync(`${folder}/config.json`, "utf8"));
const bucket = { tokens: 1, sequences: 1, blocks: 8, outputs: 1, blockSize: 16, slots: 128, ropeRows: 128 };

describe("of a compiled module", () => {
  let compiled: Compiled;
  let summary: OptimizationSummary;
  beforeAll(async () => {
    compiled = compileToPlan(buildModel(config, bucket), wasmTarget, { quantize: { weights: "int4" } });
    summary = await optimizationSummary(compiled, { bandwidth: 10e9 });
  });

  it("counts what the plan counts", () => {
    const { totals, report, functions, weights, speed } = summary;
    expect(totals.merged).toEqual({ launches: report.launches, bytes: report.bytes });
    expect(functions.reduce((sum, { calls, launches }) => sum + calls * launches, 0)).toBe(report.launches);
    expect(totals.unfused.launches).toBeGreaterThan(totals.fused.launches);
    expect(totals.fused.launches).toBeGreaterThanOrEqual(totals.merged.launches);
    expect(totals.fused.bytes).toBeLessThan(totals.unfused.bytes);
    expect(Object.values(weights.held).reduce((a, b) => a + b)).toBe(compiledWeightBytes(compiled.plan));
    expect(speed.most).toBeCloseTo(1 / (speed.readBytes / 10e9 + report.launches * 1e-6), 6);
    expect([speed.measured, speed.expected]).toEqual([null, null]);
  });

  it("follows the passes, each from where the one before it ended", () => {
    const { built, passes } = summary.report.history;
    let ops = built.ops;
    for (const pass of passes) {
      expect(pass.opsBefore).toBe(ops);
      ops = pass.opsAfter;
    }
    const at = passes.findIndex(({ name }) => name === "quantize");
    expect(passes[at]!.weightBytes).toBeLessThan(passes[at - 1]!.weightBytes / 4);
    expect(passes.at(-1)!.weightBytes).toBe(compiledWeightBytes(compiled.plan));
    expect(passes.some(({ rules }) => Object.keys(rules).length > 0)).toBe(true);
  });

  it("gives reasons for every near miss", () => {
    const missed = summary.functions.flatMap((func) => [...func.missed, ...func.unmerged]);
    expect(missed.length).toBeGreaterThan(3);
    expect(missed.every(({ why }) => why.length > 5)).toBe(true);
    expect(missed.map(({ why }) => why)).not.toContain("they can be merged");
    expect(JSON.parse(JSON.stringify(summary))).toEqual(summary);
  });

  it("tells of every weight in which form it is, and what decided", () => {
    const { forms, held, stored } = summary.weights;
    const sum = (values: readonly number[]) => values.reduce((a, b) => a + b, 0);
    expect(sum(forms.map(({ heldBytes }) => heldBytes))).toBeCloseTo(sum(Object.values(held)), 3);
    expect(sum(forms.map(({ storedBytes }) => storedBytes))).toBe(sum(Object.values(stored)));
    const names = weightSpecs(config).flatMap((spec) => [...namesOf(spec)]);
    const tables = forms.find(({ pattern }) => pattern === "rope.*");
    expect(sum(forms.map(({ tensors }) => tensors)) - tables!.tensors).toBe(names.length);
    const of = (pattern: string) => forms.find((form) => form.pattern === pattern);
    expect(of("lm_head")).toMatchObject({
      format: "int8",
      reason: "its error goes straight into the logits",
      tensors: 1,
    });
    expect(of("*.mlp.gate")).toMatchObject({ format: "none", held: ["bf16"], tensors: 5 });
    expect(of("*")!.names).toContain("model.layers.{layer}.mlp.experts.{0}.up_proj");
    expect(of("*")!.heldBytes / of("*")!.storedBytes).toBeCloseTo(4.5 / 16, 2);
    expect(of("of one axis")!.names).toContain("model.norm");
  });

  it("tells of overrides, and of nothing where nothing is quantised", async () => {
    const quantize = { weights: "int8", overrides: { "*.down_proj": "none" } } as const;
    const other = compileToPlan(buildModel(config, bucket), wasmTarget, { quantize });
    const { forms } = (await optimizationSummary(other)).weights;
    expect(forms.find(({ pattern }) => pattern === "*.down_proj")).toMatchObject({
      format: "none",
      reason: "asked for",
    });
    const wide = compileToPlan(buildModel(config, bucket), wasmTarget, { quantize: { weights: "f32" } });
    const wideForms = (await optimizationSummary(wide)).weights.forms;
    expect(wideForms.find(({ names }) => names.includes("model.norm"))?.pattern).toBe("of one axis");
    const plain = await optimizationSummary(compileToPlan(buildModel(config, bucket), wasmTarget));
    expect(plain.weights.forms).toEqual([]);
    expect(showSummary(plain)).not.toContain("weights by form");
  });

  it("prints", () => {
    const text = showSummary(summary);
    expect(text).toMatch(/weights {3}[\d.]+ MB \(i4 .*\), instead of 20.* MB in bf16/);
    expect(text).toMatch(/an op, a kernel +\d+ launches/);
    expect(text).toContain("not fused: mlp_in: 3 kernels read it");
    expect(text).toMatch(
      /^ {2}int4: \w+, f16 +\d+ tensors +[\d.]+ MB -> [\d.]+ MB {2}\*: linear layers and experts: nearly all bytes$/m,
    );
    // However many steps it took.
    expect(text).toMatch(/merged: \w+ \+ \w+ \+ .* -> /);
    expect(text.split("\n").length).toBeLessThan(110);
    expect(showSummary(summary, true).length).toBeGreaterThan(text.length);
  });
});

describe("of a loaded model", () => {
  let model: Model;
  beforeAll(async () => {
    model = await loadModel(folder, { backend: "wasm", quantize: { weights: "int8" }, contextLength: 64 });
  });
  afterAll(() => model.close());

  it("measures, and says what was changed", async () => {
    const { speed, lossy, hardware } = await optimizationSummary(model);
    expect(speed.measured).toBeGreaterThan(0);
    expect(speed.bandwidth).toBeGreaterThan(0);
    expect(lossy).toEqual(["weights rounded to int8"]);
    expect(hardware.device).toBe(model.device?.summary);
  });
});
