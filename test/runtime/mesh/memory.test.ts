/** What each rank of a mesh holds, against what the plan says that it will; and memory beyond what 32-bit addresses reach. */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { openWasm } from "../../../src/backends/wasm/device.ts";
import { compile, openDefaultDevice } from "../../../src/compile.ts";
import { maths } from "../../../src/ir/build.ts";
import { Builder, makeModule } from "../../../src/ir/graph.ts";
import type { Mesh } from "../../../src/ir/mesh.ts";
import { parseModelConfigText } from "../../../src/models/deepseek/config.ts";
import { stagesOf } from "../../../src/plan/candidate.ts";
import { type Degrees, memoryOf } from "../../../src/plan/cost.ts";
import { shapeOf } from "../../../src/plan/shape.ts";
import { limitsOf } from "../../../src/runtime/load-limits.ts";
import type { MeshRunner } from "../../../src/runtime/mesh/mesh-runner.ts";
import { rankValues } from "../../../src/runtime/mesh/rank-values.ts";
import { shardAndDeploy } from "../../../src/runtime/mesh/shard-and-deploy.ts";
import { limitsOfLane } from "../../../src/runtime/mesh/space-limits.ts";

const folder = fileURLToPath(new URL("../../../models/tiny-deepseek", import.meta.url));
const config = parseModelConfigText(readFileSync(`${folder}/config.json`, "utf8"));
const context = 256;

describe.each<[Mesh, Partial<Degrees>, group: number]>([
  [{ tp: 2 }, { tp: 2 }, 16],
  [{ pp: 2 }, { pp: 2 }, 32],
  // Every rank has all sequences, where a plan gives each its own: what they hold of weights is the same.
  [{ ep: 2 }, { dp: 2, experts: true }, 32],
  [{ ep: 4 }, { dp: 4, experts: true }, 32],
  [{ pp: 2, tp: 2 }, { pp: 2, tp: 2 }, 16],
])("int8 weights over %j", (devices, wanted, group) => {
  test("take what the plan says on every rank, within a tenth", async () => {
    const sizes = { contextLength: context, maxSequences: 2 };
    const compile = { verify: 0 } as const;
    const quantize = { weights: "int8", group } as const;
    const model = await shardAndDeploy(folder, { devices, ...sizes, compile, quantize });
    try {
      const prompts = [1, 2].map((first) => Array.from({ length: 200 }, (_, i) => first + i));
      const greedy = { maxTokens: 4, temperature: 0, ignoreEos: true };
      await Promise.all(prompts.map((prompt) => model.generate(prompt, greedy).collect()));
      const { ranks } = model.runner as MeshRunner; // what shardAndDeploy makes
      const degrees = { pp: 1, tp: 1, dp: 1, experts: false, ...wanted };
      const planned = shapeOf("", config, "int8", 32);
      // Codes and an f16 scale for a group, which is 32 in plans.
      const scale = (8 + 16 / group) / 8.5;
      const { layer, expert, table } = planned.bits;
      const shape = { ...planned, bits: { layer: layer * scale, expert: expert * scale, table: table * scale } };
      const work = { batch: 2 * degrees.dp, context, prompt: context, chunk: context };
      const stages = stagesOf(shape, degrees).map(({ layers }) => memoryOf(shape, layers, degrees, work));
      const lanes = degrees.pp;
      const limits = limitsOfLane(limitsOf(config, sizes, null), lanes);
      const asked = { requests: 2, prompt: 200, answer: 4 };
      const target = openDefaultDevice().target;
      const options = { ...compile, quantize };
      const values = rankValues(config, { mesh: devices, target, compile: options, limits, lanes, ...asked });
      const perStage = ranks.length / stages.length;
      for (const [rank, { weights, caches, held }] of ranks.entries()) {
        const plan = stages[Math.floor(rank / perStage)]!;
        const besides = held! - weights - caches;
        expect(Math.abs((weights + caches) / (plan.weights + plan.caches) - 1)).toBeLessThan(0.1);
        expect(caches).toBe(plan.caches);
        // What the device really allocated besides, and all of it.
        expect(Math.abs(values[rank]! / besides - 1)).toBeLessThan(0.1);
        expect(Math.abs((plan.weights + plan.caches + values[rank]!) / held! - 1)).toBeLessThan(0.1);
      }
    } finally {
      await model.close();
    }
  });
});

test("what is expected of a device chooses its memory, however small its first program is", async () => {
  const small = () => {
    const builder = new Builder();
    const x = builder.param("x", "f32", [4]);
    return makeModule("small", [{ name: "main", params: [x], outs: [maths(builder).add(x, 1)] }], "main");
  };
  for (const [bytes, wide] of [
    [2 ** 20, false],
    [5 * 2 ** 30, true],
  ] as const) {
    const device = openWasm({}, { machineBytes: 2 ** 36 });
    device.expect?.(bytes);
    compile(small(), device);
    expect(device.summary.includes("64-bit addresses")).toBe(wide);
    await device.close();
  }
  const poor = openWasm({}, { machineBytes: 2 ** 32 });
  expect(() => poor.expect?.(5 * 2 ** 30)).toThrow("the machine has");
  await poor.close();
});
