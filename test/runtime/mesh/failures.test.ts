/** Ranks that end, hang or fail: requests end with an error that names the rank and the step, and nothing waits forever. */
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import type { MeshRunner } from "../../../src/runtime/mesh/mesh-runner.ts";
import { shardAndDeploy } from "../../../src/runtime/mesh/shard-and-deploy.ts";
import { goldenTensors } from "../../models/read-golden.ts";

const name = "qwen2-tied";
const folder = fileURLToPath(new URL(`../../fixtures/goldens/${name}`, import.meta.url));
const golden = goldenTensors(name, "golden");
const ids = [...golden.get("input_ids")!.data].slice(0, 12);
const greedy = [...golden.get("greedy")!.data].slice(12);
const quick = { contextLength: 64, compile: { verify: 0, optimize: false }, backend: "js" } as const;
const options = { maxTokens: 28, temperature: 0, ignoreEos: true } as const;

test.each([
  [1, 1],
  [2, 0],
  [13, 1],
  [26, 0],
])("a rank that ends in step %i", async (at, rank) => {
  const model = await shardAndDeploy(folder, { ...quick, devices: { tp: 2 } });
  const runner = model.runner as MeshRunner; // what shardAndDeploy makes
  const step = runner.step.bind(runner);
  const seen: number[] = [];
  let count = 0;
  runner.step = async (batch, signal) => {
    // Not waited for, so that it happens in the middle of the step.
    if (count++ === at) void runner.endRank(rank);
    const logits = await step(batch, signal);
    seen.push(logits.indexOf(logits.reduce((a, b) => Math.max(a, b))));
    return logits;
  };
  const error = new RegExp(`rank ${rank}, step [0-9]+: the thread ended: exit code 1`);
  await expect(model.generate(ids, options).collect()).rejects.toThrow(error);
  // A step that was over before its rank was still counts; none is wrong.
  expect(seen).toEqual(greedy.slice(0, seen.length));
  expect([at, at + 1]).toContain(seen.length);
  await expect(model.generate(ids, options).collect()).rejects.toThrow(`rank ${rank}`);
  await model.close();
});

test.each([3, 6])("a rank that ends while it may be helping, in step %i", async (at) => {
  const demo = fileURLToPath(new URL("../../../models/tiny-deepseek", import.meta.url));
  // What each step computes is enough to be shared by threads.
  const quantize = { weights: "int8", group: 16 } as const;
  const model = await shardAndDeploy(demo, { devices: { tp: 2 }, contextLength: 64, quantize });
  const runner = model.runner as MeshRunner; // what shardAndDeploy makes
  const step = runner.step.bind(runner);
  let count = 0;
  runner.step = (batch, signal) => {
    if (count++ === at) setTimeout(() => void runner.endRank(1), 1);
    return step(batch, signal);
  };
  const started = performance.now();
  await expect(model.generate([1, 2, 3, 4], { ...options, maxTokens: 60 }).collect()).rejects.toThrow(
    /rank 1, step [0-9]+: the thread ended/,
  );
  await model.close();
  // Far less than any deadline.
  expect(performance.now() - started).toBeLessThan(10_000);
});
