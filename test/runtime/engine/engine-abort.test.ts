/** What the engine does with a step that is under way when requests are given up. */
import { expect, test } from "vitest";
import { Engine } from "../../../src/runtime/engine/engine.ts";
import { FakeRunner, letters } from "./fake-runner.ts";

test("ends the step under way when nobody is left who wants it", async () => {
  const signals: (AbortSignal | undefined)[] = [];
  const waits = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const runner = new FakeRunner({ before: (_, step) => waits[step]?.promise });
  const fake = runner.step.bind(runner);
  runner.step = (batch, signal) => {
    const ended = Promise.withResolvers<never>();
    signals.push(signal);
    signal?.addEventListener("abort", () => ended.reject(signal.reason));
    return Promise.race([fake(batch), ended.promise]);
  };
  const engine = new Engine(runner, { text: letters });
  const [a, b] = [engine.add({ prompt: [1, 2] }), engine.add({ prompt: [3] })];
  while (signals.length === 0) await new Promise((resolve) => setImmediate(resolve));
  a.abort();
  expect(signals[0]?.aborted).toBe(false);
  b.abort();
  expect(signals[0]?.aborted).toBe(true);
  for (const { resolve } of waits) resolve();
  expect((await b.result).finishReason).toBe("abort");
  const fresh = new Engine(new FakeRunner(), { text: letters });
  const again = { prompt: [5, 6], options: { temperature: 0, maxTokens: 3 } };
  const { tokens: expected } = await fresh.add(again).result;
  await fresh.close();
  const next = await engine.add(again).result;
  expect(next.tokens).toEqual(expected);
  await engine.close();
});
