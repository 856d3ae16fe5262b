/** The stream between engine and reader: order, slow and absent readers, errors. */

import { describe, expect, test } from "vitest";
import { Engine } from "../../../src/runtime/engine/engine.ts";
import type { GeneratedPart, GenerationResult } from "../../../src/runtime/engine/generate.ts";
import { Channel, Generation } from "../../../src/runtime/engine/generation.ts";
import { FakeRunner, letters } from "./fake-runner.ts";

function part(text: string): GeneratedPart {
  return { text, kind: "text", tokens: [] };
}

/** Only its identity matters here. */
const result = { finishReason: "length" } as GenerationResult;

function open() {
  let aborts = 0;
  const channel = new Channel(() => {
    aborts++;
    channel.finish(result);
  });
  return { channel, generation: new Generation(channel), aborts: () => aborts };
}

describe("reading", () => {
  test("parts written before and while reading come in order, then the result", async () => {
    const { channel, generation, aborts } = open();
    channel.push(part("a"));
    channel.push(part("b"));
    const iterator = generation[Symbol.asyncIterator]();
    expect((await iterator.next()).value).toEqual(part("a"));
    expect((await iterator.next()).value).toEqual(part("b"));
    const waiting = iterator.next();
    channel.push(part("c"));
    expect((await waiting).value).toEqual(part("c"));
    const last = iterator.next();
    channel.finish(result);
    expect(await last).toEqual({ done: true, value: result });
    expect(aborts()).toBe(0);
  });

  test("several reads at once are answered in order", async () => {
    const { channel, generation } = open();
    const iterator = generation[Symbol.asyncIterator]();
    const reads = [iterator.next(), iterator.next(), iterator.next()];
    channel.push(part("a"));
    channel.push(part("b"));
    channel.finish(result);
    expect((await Promise.all(reads)).map(({ value }) => value)).toEqual([part("a"), part("b"), result]);
  });

  test("leaving the loop and throwing in it abort once; later iteration ends", async () => {
    const { channel, generation, aborts } = open();
    channel.push(part("a"));
    channel.push(part("b"));
    const reading = (async () => {
      for await (const _part of generation) throw new Error("reader failed");
    })();
    await expect(reading).rejects.toThrow("reader failed");
    expect(aborts()).toBe(1);
    expect(await generation[Symbol.asyncIterator]().next()).toEqual({ done: true, value: result });
  });

  test("an error comes after the parts before it, and is no unhandled rejection for who only iterates", async () => {
    const { channel, generation } = open();
    channel.push(part("a"));
    channel.fail(new Error("broken"));
    const iterator = generation[Symbol.asyncIterator]();
    expect((await iterator.next()).value).toEqual(part("a"));
    await expect(iterator.next()).rejects.toThrow("broken");
  });

  test("the first ending stays", async () => {
    const { channel, generation } = open();
    channel.finish(result);
    channel.fail(new Error("too late"));
    expect(await generation.result).toBe(result);
    expect((await generation.collect()).text).toBe("");
  });
});

test("a request whose parts nobody reads ends all the same, with at most one part kept per token", async () => {
  const engine = new Engine(new FakeRunner(), { text: letters });
  const generation = engine.add({ prompt: [1], options: { maxTokens: 100, seed: 1 } });
  await generation.result;
  let parts = 0;
  for await (const _part of generation) parts++;
  expect(parts).toBe(100);
});

test("reasoning reaches the parts and the usage", async () => {
  const pieces = ["<think>", "hm", "</think>", "yes"].map((text) => new TextEncoder().encode(text));
  const script = new FakeRunner({ vocabSize: 4 });
  const scripted = Object.assign(script, {
    // Says the four tokens in turn.
    step: async ({ positions, outputs }: { positions: Int32Array; outputs: Int32Array }) =>
      Float32Array.from([...outputs].flatMap((i) => [0, 1, 2, 3].map((id) => (id === positions[i] ? 1 : 0)))),
  });
  const engine = new Engine(scripted, { text: { tokenBytes: (id) => pieces[id]!, isSpecial: () => false } });
  const options = { temperature: 0, maxTokens: 4 };
  const whole = await engine.add({ prompt: [0], options, reasoning: { startsInside: false } }).collect();
  expect(whole).toMatchObject({
    reasoning: "hm",
    text: "yes",
    result: { usage: { reasoningTokens: 3, completionTokens: 4 } },
  });
  const plain = await engine.add({ prompt: [0], options }).collect();
  expect(plain).toMatchObject({
    reasoning: "",
    text: "<think>hm</think>yes",
    result: { usage: { reasoningTokens: 0 } },
  });
});
