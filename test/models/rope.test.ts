/** Rope frequencies and factors against numbers worked out separately from the published formulas. */
import { describe, expect, test } from "vitest";
import { parseModelConfig } from "../../src/models/deepseek/config.ts";
import { inverseFrequencies, yarnRamp } from "../../src/models/deepseek/rope.ts";
import type { YarnScaling } from "../../src/models/deepseek/rope-config.ts";
import { publishedWith } from "./published-configs.ts";

const indices = [0, 8, 10, 16, 23, 24, 31];

function yarn(factor: number, original: number): YarnScaling {
  return {
    rope_type: "yarn",
    factor,
    original_max_position_embeddings: original,
    beta_fast: 32,
    beta_slow: 1,
    mscale: null,
    mscale_all_dim: null,
    attention_factor: null,
    attn_factor: null,
    truncate: true,
  };
}

/** The expected numbers have nine digits. */
function expectFrequencies(rope: Parameters<typeof inverseFrequencies>[0], expected: readonly number[]): void {
  const found = inverseFrequencies(rope);
  expect(found.length).toBe(rope.dim / 2);
  indices.forEach((i, at) => {
    expect(Math.abs(found[i]! / expected[at]! - 1), `frequency ${i}`).toBeLessThan(1e-8);
  });
}

describe("yarn", () => {
  test("DeepSeek-V3: theta 1e4, 4096 positions, factor 40", () => {
    const scaling = yarn(40, 4096);
    expect(yarnRamp(1e4, 64, scaling)).toEqual([10, 23]);
    expectFrequencies(
      { rope_theta: 1e4, dim: 64, scaling },
      [1, 0.1, 0.0562341325, 0.0055, 3.33380358e-5, 2.5e-5, 3.33380358e-6],
    );
  });

  test("theta 160000, 65536 positions, factor 16", () => {
    const scaling = yarn(16, 65536);
    expect(yarnRamp(160000, 64, scaling)).toEqual([15, 25]);
    expectFrequencies(
      { rope_theta: 160000, dim: 64, scaling },
      [1, 0.05, 0.0236435402, 0.002265625, 4.54442323e-5, 1.953125e-5, 5.68052904e-7],
    );
  });

  test("a ramp of width zero stays finite", () => {
    const scaling = { ...yarn(4, 32), beta_fast: 1, beta_slow: 1, truncate: false };
    for (const f of inverseFrequencies({ rope_theta: 1e4, dim: 8, scaling })) expect(f).toBeGreaterThan(0);
  });

  test.each([
    ["DeepSeek-V3", 1, 0.13523378],
    ["DeepSeek-V2", 1, 0.13523378],
    ["DeepSeek-V2-Lite", 1, 0.11472139],
  ])("%s: factor on cos and sin %d, softmax scale %d", (name, factor, scale) => {
    const { rope, attention } = parseModelConfig(publishedWith(name));
    expect(rope.attention_factor).toBe(factor);
    expect(attention.softmax_scale).toBeCloseTo(scale, 8);
  });

  test("without yarn the softmax scale is 192^-1/2", () => {
    const { rope, attention } = parseModelConfig(publishedWith("DeepSeek-V3", { rope_scaling: null }));
    expect(rope.attention_factor).toBe(1);
    expect(attention.softmax_scale).toBeCloseTo(0.07216878, 8);
  });

  test("R1-0528-Qwen3-8B: attn_factor is recorded and, as in Hugging Face, not used", () => {
    const { rope, attention } = parseModelConfig(publishedWith("R1-0528-Qwen3-8B"));
    expect(rope.attention_factor).toBeCloseTo(1.1386294, 7);
    expect(rope.scaling).toMatchObject({ attn_factor: 0.8782488562869419, attention_factor: null });
    expect(rope.attention_factor * 0.8782488562869419).toBeCloseTo(1, 12);
    expect(attention.softmax_scale).toBeCloseTo(128 ** -0.5, 12);
  });

  test("attention_factor overrides", () => {
    const config = publishedWith("R1-0528-Qwen3-8B", {
      rope_scaling: { rope_type: "yarn", factor: 4, original_max_position_embeddings: 32768, attention_factor: 1.5 },
    });
    expect(parseModelConfig(config).rope.attention_factor).toBe(1.5);
  });
});

test("default and linear", () => {
  const plain = inverseFrequencies({ rope_theta: 1e5, dim: 8, scaling: { rope_type: "default" } });
  expect(Array.from(plain)).toEqual([1, 1e5 ** -0.25, 1e5 ** -0.5, 1e5 ** -0.75]);
  const linear = inverseFrequencies({ rope_theta: 1e5, dim: 8, scaling: { rope_type: "linear", factor: 4 } });
  expect(Array.from(linear)).toEqual(Array.from(plain, (f) => f / 4));
});

test("llama3 keeps short waves, stretches long ones and mixes between", () => {
  const { rope } = parseModelConfig(publishedWith("R1-Distill-Llama-8B"));
  const plain = inverseFrequencies({ ...rope, scaling: { rope_type: "default" } });
  const scaled = inverseFrequencies(rope);
  scaled.forEach((f, i) => {
    const wave = (2 * Math.PI) / plain[i]!;
    const s = (8192 / wave - 1) / (4 - 1);
    const expected =
      wave < 8192 / 4 ? plain[i]! : wave > 8192 ? plain[i]! / 8 : ((1 - s) * plain[i]!) / 8 + s * plain[i]!;
    expect(Math.abs(f / expected - 1)).toBeLessThan(1e-12);
  });
  expect(scaled[0]).toBe(1);
  expect(scaled[63]).toBe(plain[63]! / 8);
});
