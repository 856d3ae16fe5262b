/** The models as tensor IR, in the interpreter, against what Hugging Face transformers computed (see reference.test.ts). */
import { describe, expect, test } from "vitest";
import { parseModelConfigText } from "../../src/models/deepseek/config.ts";
import { goldenConfigText, goldenNames, goldenTensors } from "./read-golden.ts";
import { interpretedModel, joined, largestDifference } from "./step.ts";

/**
 * Values are rounded to f32 after each op here, and the goldens were computed in double for the most part. Twice the
 * largest difference measured, 1.5e-5, which is in a hidden state of v2, where expert weights are multiplied by 16.
 */
const tolerance = 3e-5;

describe.each(goldenNames)("golden %s", (name) => {
  const config = parseModelConfigText(goldenConfigText(name));
  const tensors = goldenTensors(name, "model");
  const golden = goldenTensors(name, "golden");
  const ids = Array.from(golden.get("input_ids")!.data);

  test("logits and hidden states", () => {
    const model = interpretedModel(config, tensors, { blockSize: 8, total: 10, blocks: 5 });
    const { logits, hidden } = model.step([
      { ids: ids.slice(0, 40), start: 0, table: [0, 1, 2, 3, 4] },
      { ids: ids.slice(40), start: 0, table: [5, 6, 7, 8, 9] },
    ]);
    expect(largestDifference(joined(logits), golden.get("logits")!.data)).toBeLessThan(tolerance);
    expect(hidden.length).toBe(config.num_hidden_layers + 1);
    hidden.forEach((x, i) => {
      // Hidden states are stored for the first sequence.
      const difference = largestDifference(x.subarray(0, x.length / 2), golden.get(`hidden.${i}`)!.data);
      expect(difference, `hidden.${i}`).toBeLessThan(tolerance);
    });
  });
});
