/** Ranks that are no threads: on this thread or in processes, on a GPU or an engine of TensorFlow.js. The same tokens, and clear ends. */
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import type { MeshRunner } from "../../../src/runtime/mesh/mesh-runner.ts";
import { type DeployOptions, shardAndDeploy } from "../../../src/runtime/mesh/shard-and-deploy.ts";
import type { Model } from "../../../src/runtime/model.ts";
import { tensorFlowFolder } from "../../backends/tfjs/tensorflow.ts";
import { hasGpu } from "../../backends/webgpu/gpu.ts";
import { type GoldenName, goldenTensors } from "../../models/read-golden.ts";
import { largestDifference } from "../../models/step.ts";

/** As in deploy.test.ts. */
const tolerance = 1e-4;
const sizes = { contextLength: 64, compile: { verify: 0 } } as const;
const plain = { contextLength: 64, backend: "js", compile: { verify: 0, optimize: false } } as const;
const greedy = { maxTokens: 28, temperature: 0, ignoreEos: true } as const;

function deploy(name: string, options: DeployOptions): Promise<Model> {
  return shardAndDeploy(fileURLToPath(new URL(`../../fixtures/goldens/${name}`, import.meta.url)), options);
}

function numbersOf(name: GoldenName) {
  const golden = goldenTensors(name, "golden");
  const ids = [...golden.get("input_ids")!.data].slice(0, 12);
  return { ids, expected: [...golden.get("greedy")!.data].slice(12), logits: golden.get("logits")!.data };
}

async function tokensOf(model: Model, ids: readonly number[]): Promise<number[]> {
  return [...(await model.generate(ids, greedy).collect()).result.tokens];
}

describe.each<[what: string, name: GoldenName, options: DeployOptions, runs: boolean]>([
  ["here", "v3", { ...plain, devices: { pp: 2, tp: 2 }, place: "here" }, true],
  ["here, more lanes than stages", "qwen2-tied", { ...plain, devices: { pp: 2 }, place: "here", lanes: 3 }, true],
  ["processes", "v2-lite", { ...plain, devices: { pp: 3 }, place: "processes" }, true],
  ["processes with tensor parallelism", "qwen2-tied", { ...plain, devices: 2, place: "processes" }, true],
  ["threads that decode ahead", "v3", { ...plain, devices: { pp: 2, tp: 2 }, stepsAhead: 4 }, true],
  ["webgpu here", "qwen2-tied", { ...sizes, devices: { pp: 2 }, backend: "webgpu" }, hasGpu],
  ["webgpu in processes", "v2-lite", { ...sizes, devices: { pp: 2 }, backend: "webgpu", place: "processes" }, hasGpu],
  ["tfjs-cpu", "v3", { ...sizes, devices: { pp: 2 }, backend: "tfjs-cpu" }, true],
  [
    "tensorflow graphs",
    "v2-lite",
    { ...sizes, devices: { pp: 2 }, backend: "tensorflow", packageFolder: tensorFlowFolder ?? "" },
    tensorFlowFolder !== null,
  ],
])("%s: %s", (_, name, options, runs) => {
  test.skipIf(!runs)("has the golden's tokens and logits, of several requests and of one", async () => {
    const { ids, expected, logits } = numbersOf(name);
    const model = await deploy(name, { ...options, stepMs: 20_000 });
    try {
      expect(await Promise.all([1, 2, 3].map(() => tokensOf(model, ids)))).toEqual([expected, expected, expected]);
      expect(await tokensOf(model, ids)).toEqual(expected);
      const found = await model.logits(ids);
      expect(largestDifference(found, logits.subarray(0, found.length))).toBeLessThan(tolerance);
    } finally {
      await model.close();
    }
  });
});

test("ranks draw the tokens that one device draws", async () => {
  const { ids } = numbersOf("qwen2-tied");
  const options = { ...greedy, temperature: 0.8, topP: 0.9, seed: 7 };
  const drawn = async (some: DeployOptions) => {
    const model = await deploy("qwen2-tied", some);
    try {
      return [...(await model.generate(ids, options).collect()).result.tokens];
    } finally {
      await model.close();
    }
  };
  const one = await drawn({ ...plain, devices: 1 });
  expect(await drawn({ ...plain, devices: { pp: 2 }, place: "here" })).toEqual(one);
});

describe.each([
  ["processes", "the process ended: SIGKILL"],
  ["here", "it was ended"],
] as const)("a rank that ends (%s)", (place, how) => {
  test.each([
    [0, 1],
    [1, 2],
    [1, 5],
  ])("rank %i with chunk %i of steps: an error that says so, and no wrong token", async (rank, at) => {
    const { ids, expected } = numbersOf("qwen2-tied");
    const options = { ...plain, devices: { pp: 2 }, place, stepMs: 20_000, stepsAhead: 4, lanes: 1 } as const;
    const model = await deploy("qwen2-tied", options);
    try {
      const runner = model.runner as MeshRunner; // what shardAndDeploy makes
      const ahead = runner.ahead!;
      const start = ahead.start.bind(ahead);
      const found: number[] = [expected[0]!];
      let count = 0;
      ahead.start = async (...args) => {
        const run = await start(...args);
        const queue = async (steps: number) => {
          // Not waited for, so that it happens in the middle of the chunk.
          if (++count === at) void runner.endRank(rank);
          const tokens = await run.queue(steps);
          found.push(...tokens);
          return tokens;
        };
        return { queue };
      };
      await expect(tokensOf(model, ids)).rejects.toThrow(new RegExp(`rank ${rank}, .*${how}`));
      expect(found).toEqual(expected.slice(0, found.length));
      expect(found.length).toBeLessThan(expected.length);
      await expect(tokensOf(model, ids)).rejects.toThrow(`rank ${rank}`);
    } finally {
      await model.close();
    }
  });
});

test("a long prompt's chunks are in several stages at once, and change no token", async () => {
  const { ids, expected } = numbersOf("v3");
  const options = { ...plain, devices: { pp: 3 }, maxBatchTokens: 2, lanes: 1 };
  const model = await deploy("v3", options);
  try {
    const runner = model.runner as MeshRunner; // what shardAndDeploy makes
    const step = runner.step.bind(runner);
    let [under, most] = [0, 0];
    runner.step = (...args) => {
      most = Math.max(most, ++under);
      return step(...args).finally(() => under--);
    };
    expect(await tokensOf(model, ids)).toEqual(expected);
    expect(most).toBe(3);
  } finally {
    await model.close();
  }
});

test.each<[Partial<DeployOptions>, string]>([
  [{ backend: "webgpu", place: "threads" }, "expected js or wasm, which threads can run"],
  [{ backend: "webgup" }, 'there is no backend "webgup"'],
  [{ gpus: [] }, "expected numbers of GPUs, got []"],
  [{ gpus: [0, 97] }, "there is no /dev/nvidia"],
  [{ gpus: [0], place: "here" }, "only processes can have GPUs of their own"],
  [{ place: "thread" as "threads" }, "expected threads or processes or here"],
  [{ lanes: 0 }, "shardAndDeploy lanes: expected a whole number from 1 to 1024, got 0"],
  [{ backend: "tensorflow", packageFolder: "/nowhere" }, "tensorflow"],
])("refuses %j", async (options, message) => {
  await expect(deploy("qwen2-tied", { ...sizes, devices: { pp: 2 }, ...options })).rejects.toThrow(message);
});
