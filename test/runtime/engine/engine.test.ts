/** The engine against a fake model whose output depends on every cache row: batching, chunking, sharing and preemption change no token. */

import { getEventListeners } from "node:events";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { InputError, InternalError } from "../../../src/ir/errors.ts";
import { Engine, type EngineRequest } from "../../../src/runtime/engine/engine.ts";
import { createScratch } from "../../../src/runtime/sampling/logits.ts";
import { argmax, planSampling, sampleToken } from "../../../src/runtime/sampling/sampler.ts";
import { checkSampling } from "../../../src/runtime/sampling/sampling-options.ts";
import { type FakeOptions, FakeRunner, letters, logitsOf } from "./fake-runner.ts";

const greedy = { temperature: 0 } as const;

/** The model run by hand, without engine or cache. */
function greedyReference(prompt: readonly number[], count: number, vocabSize = 50): number[] {
  const tokens = [...prompt];
  while (tokens.length < prompt.length + count) tokens.push(argmax(logitsOf(tokens, vocabSize)));
  return tokens.slice(prompt.length);
}

async function runAll(options: FakeOptions, requests: readonly EngineRequest[], prefixSharing = true) {
  const runner = new FakeRunner(options);
  const engine = new Engine(runner, { text: letters, prefixSharing });
  const results = await Promise.all(requests.map((request) => engine.add(request).result));
  const { stats } = engine;
  await engine.close();
  expect(stats).toMatchObject({ running: 0, waiting: 0, usedBlocks: 0, freeBlocks: runner.sizes.numBlocks });
  return { tokens: results.map(({ tokens }) => tokens), results, runner, stats };
}

async function runSingles(requests: readonly EngineRequest[]): Promise<(readonly number[])[]> {
  const all: (readonly number[])[] = [];
  for (const request of requests) all.push((await runAll({}, [request], false)).tokens[0]!);
  return all;
}

const arbitraryRequest: fc.Arbitrary<EngineRequest> = fc.record({
  // Few distinct tokens and a repeated head, so that prefixes are often equal.
  prompt: fc
    .tuple(fc.integer({ min: 0, max: 3 }), fc.array(fc.integer({ min: 0, max: 2 }), { minLength: 1, maxLength: 10 }))
    .map(([repeat, tail]) => [...new Array(repeat * 4).fill(7), ...tail]),
  options: fc.record({
    maxTokens: fc.integer({ min: 1, max: 12 }),
    seed: fc.integer(),
    temperature: fc.constantFrom(0, 0.7, 1.5),
    repetitionPenalty: fc.constantFrom(1, 1.3),
    topK: fc.constantFrom(undefined, 3, 40),
  }),
});

describe("tokens do not depend on how they are computed", () => {
  test("greedy equals the model run by hand", async () => {
    const prompt = [3, 1, 4, 1, 5, 9, 2, 6];
    const { tokens } = await runAll({}, [{ prompt, options: { ...greedy, maxTokens: 30 } }]);
    expect(tokens[0]).toEqual(greedyReference(prompt, 30));
  });

  test("sampling equals the sampler run by hand, with penalties that count and a random number for each position", async () => {
    const prompt = [3, 1, 4];
    const options = { maxTokens: 40, seed: 11, temperature: 1.2, frequencyPenalty: 1.1, repetitionPenalty: 1.2 };
    const sampling = planSampling(checkSampling(options, 50));
    const tokens = [...prompt];
    while (tokens.length < prompt.length + 40) {
      const output = new Map<number, number>();
      for (const token of tokens.slice(prompt.length)) output.set(token, (output.get(token) ?? 0) + 1);
      const history = { prompt: new Set(prompt), output };
      tokens.push(sampleToken(logitsOf(tokens, 50), sampling, history, tokens.length, createScratch(50)));
    }
    const run = await runAll({}, [{ prompt, options }]);
    expect(run.tokens[0]).toEqual(tokens.slice(prompt.length));
  });

  test("a run cut off anywhere and continued from its tokens goes on as it would have", async () => {
    const prompt = [3, 1, 4];
    const options = { maxTokens: 20, seed: 5, temperature: 1.1, topP: 0.9 };
    const whole = (await runAll({}, [{ prompt, options }])).tokens[0]!;
    const rest = await runAll({}, [
      { prompt: [...prompt, ...whole.slice(0, 7)], options: { ...options, maxTokens: 13 } },
    ]);
    expect(rest.tokens[0]).toEqual(whole.slice(7));
  });

  test("without a seed one is drawn, and the run can be repeated with it", async () => {
    const [first, second] = (await runAll({}, [{ prompt: [1] }, { prompt: [1] }])).results;
    expect(first!.seed).not.toBe(second!.seed);
    expect((await runAll({}, [{ prompt: [1], options: { seed: first!.seed } }])).tokens[0]).toEqual(first!.tokens);
  });

  test("batched, chunked, shared and preempted equal alone, for random requests and sizes", async () => {
    let preemptions = 0;
    let cached = 0;
    let widest = 0;
    let most = 0;
    const sizes = fc.record({
      blockSize: fc.integer({ min: 1, max: 5 }),
      maxBatchTokens: fc.integer({ min: 1, max: 24 }),
      maxSequences: fc.integer({ min: 1, max: 6 }),
      spareBlocks: fc.integer({ min: 0, max: 8 }),
      overlap: fc.integer({ min: 1, max: 3 }),
    });
    const property = fc.asyncProperty(
      sizes,
      fc.array(arbitraryRequest, { minLength: 1, maxLength: 7 }),
      fc.boolean(),
      async ({ spareBlocks, ...size }, requests, sharing) => {
        const rows = requests.map(({ prompt, options }) => prompt.length + options!.maxTokens! - 1);
        const numBlocks = Math.ceil(Math.max(...rows) / size.blockSize) + spareBlocks;
        const together = await runAll({ ...size, numBlocks }, requests, sharing);
        expect(together.tokens).toEqual(await runSingles(requests));
        preemptions += together.stats.preemptions;
        widest = Math.max(widest, together.runner.widest);
        most = Math.max(most, together.runner.most);
        for (const { usage } of together.results) cached += usage.cachedTokens;
      },
    );
    await fc.assert(property, { numRuns: 150 });
    // The property is worth something only if all this happened; the means are about 100, 700 and 5.
    expect(preemptions).toBeGreaterThan(15);
    expect(cached).toBeGreaterThan(100);
    expect(widest).toBeGreaterThan(2);
    expect(most).toBe(3);
  });

  test("a repeated prompt is taken from the cache, at most up to its last token", async () => {
    const runner = new FakeRunner({ blockSize: 4 });
    const engine = new Engine(runner, { text: letters });
    const request = { prompt: [1, 2, 3, 4, 5, 6, 7, 8], options: { ...greedy, maxTokens: 3 } };
    const first = await engine.add(request).result;
    const before = runner.computed;
    const second = await engine.add(request).result;
    expect(second.tokens).toEqual(first.tokens);
    expect([first.usage.cachedTokens, second.usage.cachedTokens]).toEqual([0, 4]);
    expect(runner.computed - before).toBe(4 + 2);
    await engine.close();
  });
});

describe("refusals", () => {
  const engine = new Engine(new FakeRunner({ maxContext: 20, numBlocks: 4, blockSize: 4 }), { text: letters });
  test.each<[string, EngineRequest, RegExp]>([
    ["no prompt", { prompt: [] }, /prompt.*at least one token/],
    ["unknown token", { prompt: [1, 50] }, /prompt\[1\].*0 to 49, got 50/],
    ["fraction", { prompt: [1.5] }, /prompt\[0\]/],
    [
      "over the context",
      { prompt: [1, 2], options: { maxTokens: 19 } },
      /maxTokens: longer than the context.*20.*\n.*at most 15/,
    ],
    ["over the cache", { prompt: [1, 2], options: { maxTokens: 16 } }, /maxTokens: longer than the whole cache.*17/],
    ["prompt over the cache", { prompt: new Array(17).fill(1) }, /prompt: longer than the whole cache/],
    [
      "misspelt option",
      { prompt: [1], options: { temperature: 1, ...{ temprature: 1 } } },
      /options.*temprature.*\n.*"temperature"/,
    ],
  ])("%s", (_name, request, message) => {
    expect(() => engine.add(request)).toThrow(InputError);
    expect(() => engine.add(request)).toThrow(message);
    expect(engine.stats).toMatchObject({ waiting: 0, running: 0 });
  });

  test("what just fits is served, and maxTokens left out fills the room", async () => {
    const { result } = engine.add({ prompt: [1, 2], options: greedy });
    expect((await result).tokens).toEqual(greedyReference([1, 2], 15));
    expect((await result).finishReason).toBe("length");
  });
});

describe("how requests end", () => {
  test("stop token: not shown, counted, named", async () => {
    const expected = greedyReference([5], 10);
    const stopToken = expected[4]!;
    const at = expected.indexOf(stopToken);
    const engine = new Engine(new FakeRunner(), { text: letters, eosTokenIds: [stopToken] });
    const whole = await engine.add({ prompt: [5], options: { ...greedy, maxTokens: 10 } }).collect();
    expect(whole.text).toBe(show(expected.slice(0, at)));
    expect(whole.result).toMatchObject({ finishReason: "stop", stopToken, usage: { completionTokens: at + 1 } });
    const ignoring = await engine
      .add({ prompt: [5], options: { ...greedy, maxTokens: 10, ignoreEos: true } })
      .collect();
    expect(ignoring.text).toBe(show(expected));
  });

  test("stop string over several tokens: cut before it, generation ends at once", async () => {
    const expected = greedyReference([5], 20);
    const stop = show(expected.slice(5, 8));
    const engine = new Engine(new FakeRunner(), { text: letters });
    const { text, result } = await engine.add({ prompt: [5], options: { ...greedy, maxTokens: 20, stop } }).collect();
    const cut = show(expected).indexOf(stop);
    expect(text).toBe(show(expected.slice(0, cut)));
    expect(result).toMatchObject({ finishReason: "stop", stopString: stop });
    expect(result.tokens).toEqual(expected.slice(0, cut + 3));
  });

  test("parts carry the tokens they came from; the iterator returns the result", async () => {
    const engine = new Engine(new FakeRunner(), { text: letters });
    const generation = engine.add({ prompt: [9], options: { ...greedy, maxTokens: 6 } });
    const iterator = generation[Symbol.asyncIterator]();
    const tokens: number[] = [];
    let step = await iterator.next();
    for (; !step.done; step = await iterator.next()) {
      expect(step.value.text).toBe(show(step.value.tokens));
      tokens.push(...step.value.tokens);
    }
    expect(tokens).toEqual(greedyReference([9], 6));
    expect(step.value).toBe(await generation.result);
  });

  test("timings follow the clock", async () => {
    let time = 0;
    const runner = new FakeRunner({
      before: () => {
        time += 10;
      },
    });
    const engine = new Engine(runner, { text: letters, now: () => time });
    const { timings } = await engine.add({ prompt: [1, 2], options: { ...greedy, maxTokens: 5 } }).result;
    expect(timings).toEqual({ queueMs: 0, prefillMs: 10, firstTokenMs: 10, decodeMs: 40, tokensPerSecond: 100 });
  });
});

describe("aborting", () => {
  test("a signal frees the blocks at once, during a step too, and others are untouched", async () => {
    const controller = new AbortController();
    const seen: number[] = [];
    const runner = new FakeRunner({
      before: (_batch, step) => {
        if (step !== 5) return;
        const used = engine.stats.usedBlocks;
        controller.abort();
        seen.push(used, engine.stats.usedBlocks);
      },
    });
    const engine = new Engine(runner, { text: letters, prefixSharing: false });
    const doomed = engine.add({ prompt: [1, 2, 3], options: { ...greedy, maxTokens: 50, signal: controller.signal } });
    const other = engine.add({ prompt: [4, 5, 6], options: { ...greedy, maxTokens: 20 } });
    expect(await doomed.result).toMatchObject({ finishReason: "abort", usage: { completionTokens: 5 } });
    expect(seen).toEqual([4, 2]);
    expect((await other.result).tokens).toEqual(greedyReference([4, 5, 6], 20));
    expect(engine.stats.usedBlocks).toBe(0);
  });

  test("a signal that outlives its requests keeps no listener", async () => {
    const engine = new Engine(new FakeRunner(), { text: letters });
    const { signal } = new AbortController();
    await engine.add({ prompt: [1], options: { ...greedy, maxTokens: 3, signal } }).result;
    const left = engine.add({ prompt: [1], options: { ...greedy, maxTokens: 3, signal } });
    expect(getEventListeners(signal, "abort").length).toBe(1);
    left.abort();
    expect(getEventListeners(signal, "abort").length).toBe(0);
  });

  test("other tasks get their turn at every step, however fast the steps are", async () => {
    const engine = new Engine(new FakeRunner(), { text: letters });
    let tasks = 0;
    let running = true;
    const task = () => {
      tasks++;
      if (running) setImmediate(task);
    };
    task();
    await engine.add({ prompt: [1], options: { ...greedy, maxTokens: 50 } }).result;
    running = false;
    expect(tasks).toBeGreaterThanOrEqual(50);
  });

  test("leaving the loop aborts", async () => {
    const engine = new Engine(new FakeRunner(), { text: letters });
    const generation = engine.add({ prompt: [1], options: { ...greedy, maxTokens: 100 } });
    for await (const _part of generation) break;
    expect(engine.stats).toMatchObject({ usedBlocks: 0, running: 0 });
    expect((await generation.result).finishReason).toBe("abort");
  });

  test("a signal aborted before the request", async () => {
    const engine = new Engine(new FakeRunner(), { text: letters });
    const { text, result } = await engine.add({ prompt: [1], options: { signal: AbortSignal.abort() } }).collect();
    expect([text, result.finishReason, result.timings.firstTokenMs]).toEqual(["", "abort", null]);
    expect(engine.stats.steps).toBe(0);
  });

  test("a thousand aborted requests leave nothing behind", async () => {
    const engine = new Engine(new FakeRunner(), { text: letters });
    const controller = new AbortController();
    const options = { ...greedy, maxTokens: 50, signal: controller.signal };
    const all = Array.from({ length: 1000 }, (_, i) => engine.add({ prompt: [i % 50, 1, 2], options }));
    await all[0]![Symbol.asyncIterator]().next();
    controller.abort();
    expect(engine.stats).toMatchObject({ running: 0, waiting: 0, usedBlocks: 0 });
    for (const { result } of all) expect((await result).finishReason).toBe("abort");
  });

  test("close aborts, refuses, and may be repeated", async () => {
    const engine = new Engine(new FakeRunner(), { text: letters });
    const generation = engine.add({ prompt: [1], options: { maxTokens: 100 } });
    await engine.close();
    await engine.close();
    expect((await generation.result).finishReason).toBe("abort");
    expect(() => engine.add({ prompt: [1] })).toThrow(InputError);
  });
});

describe("failures", () => {
  test("a failing step fails the running requests with its error; waiting and later ones are served", async () => {
    const broken = new Error("device lost");
    const runner = new FakeRunner({
      maxSequences: 2,
      before: (_batch, step) => {
        if (step === 3) throw broken;
      },
    });
    const engine = new Engine(runner, { text: letters });
    const options = { ...greedy, maxTokens: 8 };
    const [a, b, c] = [
      [1, 2],
      [3, 4],
      [5, 6],
    ].map((prompt) => engine.add({ prompt, options }));
    await expect(a!.collect()).rejects.toBe(broken);
    await expect(b!.result).rejects.toBe(broken);
    expect((await c!.result).tokens).toEqual(greedyReference([5, 6], 8));
    expect((await engine.add({ prompt: [1, 2], options }).result).tokens).toEqual(greedyReference([1, 2], 8));
    expect(engine.stats.usedBlocks).toBe(0);
  });

  test("after a failed step nothing in the cache is trusted", async () => {
    const runner = new FakeRunner({
      before: (_batch, step) => {
        if (step === 3) throw new Error("device lost");
      },
    });
    const engine = new Engine(runner, { text: letters });
    const request = { prompt: [1, 2, 3, 4, 5, 6], options: { ...greedy, maxTokens: 8 } };
    await expect(engine.add(request).result).rejects.toThrow("device lost");
    expect((await engine.add(request).result).usage.cachedTokens).toBe(0);
    expect((await engine.add(request).result).usage.cachedTokens).toBe(4);
  });

  test("what was streamed before the error is still read", async () => {
    const runner = new FakeRunner({
      before: (_batch, step) => {
        if (step === 3) throw new Error("device lost");
      },
    });
    const generation = new Engine(runner, { text: letters }).add({ prompt: [1], options: greedy });
    const read: number[] = [];
    await expect(
      (async () => {
        for await (const { tokens } of generation) read.push(...tokens);
      })(),
    ).rejects.toThrow("device lost");
    expect(read).toEqual(greedyReference([1], 3));
  });

  test("NaN logits fail only the request they belong to", async () => {
    class Poisoned extends FakeRunner {
      override async step(batch: Parameters<FakeRunner["step"]>[0]): Promise<Float32Array> {
        const logits = await super.step(batch);
        batch.outputs.forEach((i, o) => {
          if (batch.tokens[0] !== undefined && batch.sequence[i] === 0 && this.steps === 3)
            logits[o * this.sizes.vocabSize] = Number.NaN;
        });
        return logits;
      }
    }
    const engine = new Engine(new Poisoned(), { text: letters });
    const options = { ...greedy, maxTokens: 6 };
    const first = engine.add({ prompt: [1], options });
    const second = engine.add({ prompt: [2], options });
    await expect(first.result).rejects.toThrow(InternalError);
    expect((await second.result).tokens).toEqual(greedyReference([2], 6));
  });

  test("a runner that gives too few logits is found out", async () => {
    const runner = new FakeRunner();
    const short = Object.assign(runner, { step: async () => new Float32Array(3) });
    await expect(new Engine(short, { text: letters }).add({ prompt: [1] }).result).rejects.toThrow(
      /expected 50.*got 3/,
    );
  });
});

function show(tokens: readonly number[]): string {
  return tokens.map((id) => String.fromCodePoint(65 + id)).join("");
}
