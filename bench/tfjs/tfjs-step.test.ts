/** The tfjs step continues the recorded chats token for token, in every variant, and prefill equals decoding one by one. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { loadDemoModel } from "../demo-model.ts";
import { createTfjsModel, fastestVariant, tf } from "./load-tfjs-step.ts";
import type { TfjsVariant } from "./tfjs-step.ts";

const { config, weight, folder } = loadDemoModel();
// The layout of the file is described in its folder's README.
const { greedy } = JSON.parse(readFileSync(new URL("reference.json", folder), "utf8")) as {
  greedy: Record<string, { prompt_ids: number[]; output_ids: number[] }>;
};

const variants: readonly TfjsVariant[] = [
  fastestVariant,
  { linear: "conv1x1", cache: "perHead" },
  { linear: "transposeB", cache: "latent" },
  { linear: "preTransposed", cache: "perHead" },
];

for (const variant of variants) {
  test(`continues every recorded chat: ${variant.linear}, ${variant.cache}`, () => {
    const model = createTfjsModel(config, weight, variant);
    let tensors: number | undefined;
    for (const [prompt, { prompt_ids, output_ids }] of Object.entries(greedy)) {
      model.reset();
      tensors ??= tf.memory().numTensors;
      assert.equal(tf.memory().numTensors, tensors, "tensors of an earlier sequence are left");
      const out = [argmax(model.prefill(prompt_ids))];
      while (out.length < output_ids.length) out.push(argmax(model.decode(out.at(-1)!)));
      assert.deepEqual(out, output_ids, prompt);
    }
  });
}

test("a prompt in two pieces or token by token gives the logits of one prefill", () => {
  const model = createTfjsModel(config, weight);
  const { prompt_ids } = Object.values(greedy)[0]!;
  const whole = model.prefill(prompt_ids);
  model.reset();
  model.prefill(prompt_ids.slice(0, 5));
  const pieces = model.prefill(prompt_ids.slice(5));
  model.reset();
  let single = whole;
  for (const id of prompt_ids) single = model.decode(id);
  // Logits are some tens; f32 sums of at most 768 products in another order differ by less than 1e-3.
  for (const other of [pieces, single]) {
    other.forEach((value, i) => {
      assert.ok(Math.abs(value - whole[i]!) < 1e-3, `logit ${i}: ${value} and ${whole[i]}`);
    });
  }
});

function argmax(values: Float32Array): number {
  return values.reduce((best, value, i) => (value > values[best]! ? i : best), 0);
}
