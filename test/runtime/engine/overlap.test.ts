/** Chunks of a prompt begun before those before are done: what happens when one fails, or its request is given up. */
import { expect, test } from "vitest";
import { Engine } from "../../../src/runtime/engine/engine.ts";
import { argmax } from "../../../src/runtime/sampling/sampler.ts";
import { FakeRunner, letters, logitsOf } from "./fake-runner.ts";

const greedy = { temperature: 0 } as const;

/** The model run by hand, without engine or cache. */
function greedyReference(prompt: readonly number[], count: number): number[] {
  const tokens = [...prompt];
  while (tokens.length < prompt.length + count) tokens.push(argmax(logitsOf(tokens, 50)));
  return tokens.slice(prompt.length);
}

test("a chunk of a prompt that fails while the next is under way fails its request, and others go on", async () => {
  const broken = new Error("device lost");
  const before = (_batch: unknown, step: number) => {
    if (step === 1) throw broken;
  };
  const runner = new FakeRunner({ maxBatchTokens: 2, maxSequences: 1, overlap: 2, before });
  const engine = new Engine(runner, { text: letters });
  const options = { ...greedy, maxTokens: 4 };
  const [first, second] = [[1, 2, 3, 4, 5, 6, 7, 8, 9], [5]].map((prompt) => engine.add({ prompt, options }));
  await expect(first!.result).rejects.toBe(broken);
  expect((await second!.result).tokens).toEqual(greedyReference([5], 4));
  expect(runner.most).toBe(2);
  // Nothing of what the failed steps were to write is found by its content.
  const again = await engine.add({ prompt: [1, 2, 3, 4, 5, 6, 7, 8, 9], options }).result;
  expect([again.usage.cachedTokens, again.tokens]).toEqual([0, greedyReference([1, 2, 3, 4, 5, 6, 7, 8, 9], 4)]);
  expect(engine.stats.usedBlocks).toBe(0);
});

test("a request that is aborted while chunks of it are under way leaves nothing behind", async () => {
  const controller = new AbortController();
  const before = (_batch: unknown, step: number) => {
    if (step === 1) controller.abort();
  };
  const runner = new FakeRunner({ maxBatchTokens: 2, overlap: 3, before });
  const engine = new Engine(runner, { text: letters });
  const prompt = [1, 2, 3, 4, 5, 6, 7, 8, 9];
  const options = { ...greedy, maxTokens: 4, signal: controller.signal };
  const { finishReason } = await engine.add({ prompt, options }).result;
  expect(finishReason).toBe("abort");
  const { tokens } = await engine.add({ prompt, options: { ...greedy, maxTokens: 4 } }).result;
  expect(tokens).toEqual(greedyReference(prompt, 4));
  await engine.close();
});
