/** Decoding ahead gives the tokens that step by step gives, however sequences end, come and go. */
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import type { GenerateOptions } from "../../../src/runtime/engine/generate.ts";
import { type LoadOptions, loadModel } from "../../../src/runtime/load-model.ts";
import type { Model } from "../../../src/runtime/model.ts";

const folder = new URL("../../../models/tiny-deepseek", import.meta.url).pathname;
const load = (options: LoadOptions) =>
  loadModel(folder, { backend: "js", contextLength: 96, maxSequences: 3, maxBatchTokens: 32, ...options });
let [slow, fast]: Model[] = [];
beforeAll(async () => {
  [slow, fast] = [await load({ stepsAhead: 0 }), await load({ stepsAhead: 4 })];
});
afterAll(async () => {
  await slow!.close();
  await fast!.close();
});

const prompts = [
  [1, 5, 9, 30],
  [2, 7, 8],
  [3, 4, 4, 4, 10, 11],
];

async function both(options: readonly GenerateOptions[]): Promise<void> {
  const run = async (model: Model) => {
    const results = await Promise.all(options.map((each, i) => model.generate(prompts[i]!, each).collect()));
    return results.map(({ text, result: { tokens, finishReason } }) => ({ text, tokens, finishReason }));
  };
  expect(await run(fast!)).toEqual(await run(slow!));
}

describe("the same tokens", () => {
  test("greedy, several of unequal lengths", async () => {
    const step = vi.spyOn(fast!.runner, "step");
    await both([
      { temperature: 0, maxTokens: 20, ignoreEos: true },
      { temperature: 0, maxTokens: 3, ignoreEos: true },
      { temperature: 0, maxTokens: 33, ignoreEos: true },
    ]);
    // Prompts, and the last token of what is left alone.
    expect(step.mock.calls.length).toBeLessThan(6);
    step.mockRestore();
    expect(fast!.engine.stats.usedBlocks).toBe(0);
  });

  test("drawn, with all that a device's sampler does, beside a greedy one", async () => {
    await both([
      { temperature: 0.6, topP: 0.95, seed: 1, maxTokens: 40, ignoreEos: true },
      { temperature: 1.2, topK: 20, minP: 0.02, seed: 2, maxTokens: 25, ignoreEos: true },
      { temperature: 0, maxTokens: 30, ignoreEos: true },
    ]);
  });

  test("with penalties, beside one without", async () => {
    const step = vi.spyOn(fast!.runner, "step");
    await both([
      { temperature: 0.8, repetitionPenalty: 1.3, seed: 5, maxTokens: 30, ignoreEos: true },
      { temperature: 0, presencePenalty: 0.7, frequencyPenalty: 0.4, maxTokens: 25, ignoreEos: true },
      { temperature: 0, maxTokens: 30, ignoreEos: true },
    ]);
    expect(step.mock.calls.length).toBeLessThan(6);
    step.mockRestore();
    // They change something, and count across chunks and across runs.
    const plain = { temperature: 0, maxTokens: 25, ignoreEos: true };
    const tokens = async (options: GenerateOptions) =>
      (await fast!.generate(prompts[1]!, options).collect()).result.tokens;
    expect(await tokens({ ...plain, frequencyPenalty: 0.4 })).not.toEqual(await tokens(plain));
  });

  test("with a bias, which is added here", async () => {
    await both([{ temperature: 0.8, logitBias: { 7: 3 }, seed: 5, maxTokens: 12, ignoreEos: true }]);
  });

  test("ending in the middle of a chunk, at a token and at a text", async () => {
    const { result } = await slow!.generate(prompts[0]!, { temperature: 0, maxTokens: 20, ignoreEos: true }).collect();
    for (const at of [2, 5, 6, 7]) {
      const stopTokenIds = [result.tokens[at]!];
      await both([{ temperature: 0, maxTokens: 20, ignoreEos: true, stopTokenIds }]);
    }
  });

  test("what follows on the blocks of one that ended early is not disturbed by what was computed beyond its end", async () => {
    const { result } = await slow!.generate(prompts[0]!, { temperature: 0, maxTokens: 9, ignoreEos: true }).collect();
    const options = { temperature: 0, maxTokens: 30, stopTokenIds: [result.tokens[5]!], ignoreEos: true };
    await both([options]);
    await both([options, { temperature: 0, maxTokens: 30, ignoreEos: true }]);
    const again = [...prompts[0]!, ...result.tokens];
    const next = (model: Model) => model.generate(again, { temperature: 0, maxTokens: 12, ignoreEos: true }).collect();
    expect((await next(fast!)).result.tokens).toEqual((await next(slow!)).result.tokens);
  });

  test("to the very end of the context", async () => {
    await both([{ temperature: 0, maxTokens: 92, ignoreEos: true }]);
  });
});

test("a request that comes in between is taken up, and one that is given up leaves nothing behind", async () => {
  const first = fast!.generate(prompts[0]!, { temperature: 0, maxTokens: 60, ignoreEos: true });
  const controller = new AbortController();
  const parts = first[Symbol.asyncIterator]();
  await parts.next();
  const second = fast!.generate(prompts[1]!, { temperature: 0, maxTokens: 10, ignoreEos: true });
  const third = fast!.generate(prompts[2]!, { maxTokens: 80, ignoreEos: true, signal: controller.signal });
  controller.abort();
  const [{ result }, aborted] = await Promise.all([second.collect(), third.collect()]);
  const expected = await slow!.generate(prompts[1]!, { temperature: 0, maxTokens: 10, ignoreEos: true }).collect();
  expect(result.tokens).toEqual(expected.result.tokens);
  expect(aborted.result.finishReason).toBe("abort");
  while ((await parts.next()).done !== true);
  expect(fast!.engine.stats).toMatchObject({ running: 0, waiting: 0, usedBlocks: 0 });
});
