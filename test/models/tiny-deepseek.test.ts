/** The trained model in models/tiny-deepseek: the reference continues a chat as Hugging Face transformers did in float32. */
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { checkWeights } from "../../src/models/deepseek/check-weights.ts";
import { parseModelConfigText } from "../../src/models/deepseek/config.ts";
import { referenceGreedy } from "../../src/models/deepseek/reference.ts";
import { readSafetensors, weightsFrom } from "./read-golden.ts";

const folder = new URL("../../models/tiny-deepseek/", import.meta.url);

test("a chat continues as recorded", () => {
  const config = parseModelConfigText(readFileSync(new URL("config.json", folder), "utf8"));
  const shards = ["1", "2"].map((i) => readSafetensors(new URL(`model-0000${i}-of-00002.safetensors`, folder)));
  const tensors = new Map(shards.flatMap((shard) => Array.from(shard)));
  const headers = new Map(Array.from(tensors, ([name, tensor]) => [name, tensor.type]));
  expect(checkWeights(config, headers).unexpected).toEqual([]);
  // The layout of the file is described in its folder's README.
  const reference = JSON.parse(readFileSync(new URL("reference.json", folder), "utf8")) as {
    greedy: Record<string, { prompt_ids: number[]; output_ids: number[] }>;
  };
  const { prompt_ids, output_ids } = reference.greedy["What is 27 + 15?"]!;
  const continued = referenceGreedy(config, weightsFrom(tensors), prompt_ids, output_ids.length);
  expect(continued.slice(prompt_ids.length)).toEqual(output_ids);
});
