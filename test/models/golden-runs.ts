/** What compiled models are compared with: logits of Hugging Face transformers, and what the demo model was recorded to do. */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, it } from "vitest";
import { type LoadOptions, loadModel } from "../../src/runtime/load-model.ts";
import type { Model } from "../../src/runtime/model.ts";
import { scoreTokens } from "../../src/runtime/quality/score.ts";
import { type goldenNames, goldenTensors } from "./read-golden.ts";

/** Transformers in float32 differs from the float64 goldens by up to 1.4e-5; 1e-4 leaves room for other orders of addition. */
const tolerance = 1e-4;

function largestDifference(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  expect(actual.length).toBe(expected.length);
  let most = 0;
  for (let i = 0; i < actual.length; i++) most = Math.max(most, Math.abs(actual[i]! - expected[i]!));
  return most;
}

/** The tests of one golden on a backend; `brief` leaves out those that compile most, for devices that compile slowly. */
export function testGolden(
  backend: string,
  name: (typeof goldenNames)[number],
  on: LoadOptions = {},
  { brief = false } = {},
): void {
  describe(`${name} on ${backend}`, () => {
    const golden = goldenTensors(name, "golden");
    const numbers = (tensor: string) => golden.get(tensor)!.data;
    const ids = [...numbers("input_ids")];
    const [first, second] = [ids.slice(0, 40), ids.slice(40)];
    const logits = numbers("logits");
    const models: Model[] = [];
    const load = async (options = {}) => {
      const model = await loadModel(fileURLToPath(new URL(`../fixtures/goldens/${name}`, import.meta.url)), {
        backend,
        contextLength: 128,
        ...on,
        ...options,
      });
      models.push(model);
      return model;
    };
    afterAll(async () => {
      for (const model of models) await model.close();
    });

    it("gives the logits of both sequences in one prefill, in chunks and token by token", async () => {
      const model = await load();
      const { vocab_size } = model.config;
      const expected = (i: number) => logits.subarray(i * 40 * vocab_size, (i + 1) * 40 * vocab_size);
      expect(largestDifference(await model.logits(first), expected(0))).toBeLessThan(tolerance);
      expect(largestDifference(await model.logits(second), expected(1))).toBeLessThan(tolerance);
      for (const chunk of [7, 1]) {
        const chunked = await scoreTokens(model.runner.single(), first, chunk);
        expect(largestDifference(chunked, expected(0))).toBeLessThan(tolerance);
      }
    });

    // The prompt's last layer as larger models have it.
    it("continues greedily through the cache", async () => {
      const model = await load({ lastRows: true });
      const { result } = await model
        .generate(first.slice(0, 12), { maxTokens: 28, temperature: 0, ignoreEos: true })
        .collect();
      expect([...first.slice(0, 12), ...result.tokens]).toEqual([...numbers("greedy")]);
    });

    it.skipIf(brief)("gives three sequences together what each gets alone", async () => {
      const model = await load({ maxBatchTokens: 16, lastRows: true });
      const prompts = [first.slice(0, 12), second.slice(0, 29), second.slice(5, 9)];
      const options = { maxTokens: 12, temperature: 0, ignoreEos: true };
      const run = async (prompt: readonly number[]) => (await model.generate(prompt, options).collect()).result.tokens;
      const alone = [];
      for (const prompt of prompts) alone.push(await run(prompt));
      expect(await Promise.all(prompts.map(run))).toEqual(alone);
    });

    it.skipIf(brief)("gives the same logits without optimisation", async () => {
      const model = await load({ compile: { optimize: false } });
      const plain = await model.logits(first);
      expect(largestDifference(plain, logits.subarray(0, plain.length))).toBeLessThan(tolerance);
    });
  });
}

/** What `reference.json` records. */
interface Reference {
  readonly windows: Readonly<Record<string, readonly (readonly number[])[]>>;
  readonly loss: Readonly<Record<string, number>>;
  readonly greedy: Readonly<
    Record<string, { readonly prompt_ids: readonly number[]; readonly output_ids: readonly number[] }>
  >;
}

/** The tests of the demo model on a backend. */
export function testTinyDeepseek(backend: string, on: LoadOptions = {}): void {
  describe(`tiny-deepseek on ${backend}`, () => {
    const folder = fileURLToPath(new URL("../../models/tiny-deepseek", import.meta.url));
    const reference: Reference = JSON.parse(readFileSync(`${folder}/reference.json`, "utf8"));

    it.each(Object.entries(reference.windows))("has the recorded loss on the windows of %s", async (name, windows) => {
      const model = await loadModel(folder, { backend, ...on });
      let [total, count] = [0, 0];
      for (const ids of windows) {
        const logits = await model.logits(ids);
        for (let i = 1; i < ids.length; i++) {
          total += negativeLogLikelihood(
            logits.subarray((i - 1) * model.config.vocab_size, i * model.config.vocab_size),
            ids[i]!,
          );
          count++;
        }
      }
      await model.close();
      expect(Math.abs(total / count - reference.loss[name]!)).toBeLessThan(1e-3);
    });

    it("continues the recorded chats, all at once", async () => {
      const model = await loadModel(folder, { backend, ...on });
      const outputs = Object.values(reference.greedy).map(async ({ prompt_ids, output_ids }) => {
        const options = { maxTokens: output_ids.length, temperature: 0 };
        const { result } = await model.generate(prompt_ids, options).collect();
        expect([...result.tokens]).toEqual([...output_ids]);
      });
      await Promise.all(outputs);
      await model.close();
    });

    it("answers in words", async () => {
      const model = await loadModel(folder, { backend, ...on });
      const messages = [{ role: "user", content: "What is 27 + 15?" }];
      const plain = await model.chat(messages, { temperature: 0, maxTokens: 64 }).collect();
      expect(plain.text).toBe("27 + 15 = 42.");
      const thought = await model.chat(messages, { temperature: 0, maxTokens: 128, thinking: true }).collect();
      expect(thought.text).toContain("42");
      expect(thought.reasoning).not.toBe("");
      await model.close();
    });
  });
}

function negativeLogLikelihood(logits: Float32Array, id: number): number {
  const most = logits.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  const total = logits.reduce((sum, x) => sum + Math.exp(x - most), 0);
  return Math.log(total) + most - logits[id]!;
}
