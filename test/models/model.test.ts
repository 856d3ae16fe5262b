/** The models as tensor IR, in the interpreter, against what Hugging Face transformers computed (see reference.test.ts). */
import { describe, expect, test } from "vitest";
import { parseModelConfigText } from "../../src/models/deepseek/config.ts";
import { type GoldenName, goldenConfigText, goldenNames, goldenTensors } from "./read-golden.ts";
import { argMax, interpretedModel, joined, largestDifference } from "./step.ts";

/**
 * Values are rounded to f32 after each op here, and the goldens were computed in double for the most part. Twice the
 * largest difference measured, 1.5e-5, which is in a hidden state of v2, where expert weights are multiplied by 16.
 */
const tolerance = 3e-5;

const sizes = { blockSize: 8, total: 11, blocks: 5 };

function golden(name: GoldenName) {
  const config = parseModelConfigText(goldenConfigText(name));
  const expected = goldenTensors(name, "golden");
  const ids = Array.from(expected.get("input_ids")!.data);
  return { ids, expected, config, model: () => interpretedModel(config, goldenTensors(name, "model"), sizes) };
}

describe.each(goldenNames)("golden %s", (name) => {
  const { config, ids, expected, model } = golden(name);

  test("logits and hidden states of two sequences, and the same logits in chunks and token by token", () => {
    const { logits, hidden } = model().step([
      { ids: ids.slice(0, 40), start: 0, table: [0, 1, 2, 3, 4] },
      { ids: ids.slice(40), start: 0, table: [5, 6, 7, 8, 9] },
    ]);
    expect(largestDifference(joined(logits), expected.get("logits")!.data)).toBeLessThan(tolerance);
    expect(hidden.length).toBe(config.num_hidden_layers + 1);
    hidden.forEach((x, i) => {
      // Hidden states are stored for the first sequence.
      const difference = largestDifference(x.subarray(0, x.length / 2), expected.get(`hidden.${i}`)!.data);
      expect(difference, `hidden.${i}`).toBeLessThan(tolerance);
    });

    const scrambled = { start: 0, table: [7, 2, 10, 0, 5] };
    const chunked = model();
    // Blocks end at 8, 16, ...: inside chunks and between them. Every step of FP8 models dequantises all weights: few.
    const starts = config.quantization === null ? [0, 7, 14, 21, 28, ...range(35, 40)] : [0, 7, 39];
    const pieces = starts.flatMap((start, i) => {
      const chunk = { ...scrambled, start, ids: ids.slice(start, starts[i + 1] ?? 40) };
      return chunked.step([chunk]).logits;
    });
    // The interpreter computes each token by itself and in the same order, so the logits are equal bit for bit.
    expect(joined(pieces)).toEqual(joined(logits.slice(0, 40)));
  });
});

test.each(["llama-coder", "qwen3-distill", "v2-lite", "v3"] as const)("greedy continuation of %s", (name) => {
  const { expected, model } = golden(name);
  const wanted = Array.from(expected.get("greedy")!.data);
  const decoding = model();
  const ids = wanted.slice(0, 12);
  const table = [3, 9, 1, 4, 6];
  let next = ids;
  while (ids.length < wanted.length) {
    const { logits } = decoding.step([{ ids: next, start: ids.length - next.length, table }]);
    next = [argMax(logits.at(-1)!)];
    ids.push(...next);
  }
  expect(ids).toEqual(wanted);
});

test.each(["qwen2-tied", "v3"] as const)(
  "a ragged batch of %s is its sequences alone, and padding changes nothing",
  (name) => {
    const { ids, model } = golden(name);
    // One sequence decodes, one is at its start, one goes on with its prefill.
    const before = [
      { ids: ids.slice(0, 9), start: 0, table: [4, 0] },
      { ids: ids.slice(20, 33), start: 0, table: [8, 6, 9] },
    ];
    const chunks = [
      { ids: ids.slice(9, 10), start: 9, table: [4, 0] },
      { ids: ids.slice(50, 56), start: 0, table: [2] },
      { ids: ids.slice(33, 38), start: 13, table: [8, 6, 9] },
    ];
    const run = (padding: number) => {
      const batched = model();
      batched.step(before);
      return { logits: joined(batched.step(chunks, padding).logits), caches: batched.caches() };
    };
    const single = model();
    for (const chunk of before) single.step([chunk]);
    const alone = chunks.flatMap((chunk) => single.step([chunk]).logits);
    const together = run(0);
    expect(together.logits).toEqual(joined(alone));
    expect(together.caches).toEqual(single.caches());
    expect(run(2)).toEqual(together);
  },
);

function range(start: number, stop: number): number[] {
  return Array.from({ length: stop - start }, (_, i) => start + i);
}
