/**
 * The reference model against what Hugging Face transformers computed in float64 (stored as float32), and the trained
 * model of models/tiny-deepseek against what it computed in float32.
 */
import { describe, expect, test } from "vitest";
import { parseModelConfigText } from "../../src/models/deepseek/config.ts";
import { referenceGreedy, referenceLogits } from "../../src/models/deepseek/reference.ts";
import { goldenConfigText, goldenNames, goldenTensors, weightsFrom } from "./read-golden.ts";

/**
 * We compute in double. The goldens do too, except where transformers goes through float32 whatever the model's dtype
 * (norms, rope tables, softmax, gate); the whole computation in float32 was measured to be 1.4e-5 away, so that is a bound.
 */
const tolerance = 1.4e-5;

function largestDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  expect(a.length).toBe(b.length);
  let largest = 0;
  for (let i = 0; i < a.length; i++) {
    const difference = Math.abs(a[i]! - b[i]!);
    if (!(difference <= largest)) largest = difference; // a NaN stays
  }
  return largest;
}

describe.each(goldenNames)("golden %s", (name) => {
  const config = parseModelConfigText(goldenConfigText(name));
  const weight = weightsFrom(goldenTensors(name, "model"));
  const golden = goldenTensors(name, "golden");
  const ids = Array.from(golden.get("input_ids")!.data);

  test("logits and hidden states", () => {
    for (const sequence of [0, 1]) {
      const { logits, hidden } = referenceLogits(config, weight, ids.slice(sequence * 40, (sequence + 1) * 40));
      const expected = golden.get("logits")!.data;
      const half = expected.length / 2;
      expect(largestDifference(logits, expected.subarray(sequence * half, (sequence + 1) * half))).toBeLessThan(
        tolerance,
      );
      if (sequence > 0) continue; // hidden states are stored for the first sequence
      expect(hidden.length).toBe(config.num_hidden_layers + 1);
      hidden.forEach((x, i) => {
        expect(largestDifference(x, golden.get(`hidden.${i}`)!.data), `hidden.${i}`).toBeLessThan(tolerance);
      });
    }
  });

  test("greedy continuation", () => {
    const expected = Array.from(golden.get("greedy")!.data);
    expect(referenceGreedy(config, weight, expected.slice(0, 12), 28)).toEqual(expected);
  });
});
