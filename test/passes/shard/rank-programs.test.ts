/** Programs of single ranks: other passes work on them as on any program, and they read no more than their share. */
import { describe, expect, test } from "vitest";
import { getFunc, isOp, type Module, topoOrder } from "../../../src/ir/graph.ts";
import { interpretRanks } from "../../../src/ir/interpret-ranks.ts";
import type { Mesh } from "../../../src/ir/mesh.ts";
import { jsTarget, type Target } from "../../../src/ir/target.ts";
import { byteSize } from "../../../src/ir/types.ts";
import { parseModelConfig, parseModelConfigText } from "../../../src/models/deepseek/config.ts";
import { buildModel } from "../../../src/models/deepseek/model.ts";
import { modelSharding, type ShardingAxes } from "../../../src/models/deepseek/sharding.ts";
import { runPasses } from "../../../src/passes/pass.ts";
import { tensorPasses } from "../../../src/passes/pipeline.ts";
import { regionBytes, weightRegions } from "../../../src/passes/shard/regions.ts";
import { joinResults, rankInputs, rankModules, type Sharded, shardModule } from "../../../src/passes/shard/shard.ts";
import { weightBytesOf } from "../../../src/plan/shape.ts";
import { published } from "../../models/published-configs.ts";
import { type GoldenName, goldenConfigText, goldenTensors } from "../../models/read-golden.ts";
import { interpretedModel, joined, largestDifference, type Run } from "../../models/step.ts";

const target: Target = { ...jsTarget, collectives: true };
const quantize = { weights: "int8", group: 4 } as const;

/** Logits of two short sequences. */
function logitsOf(name: GoldenName, run: Run): Float32Array {
  const config = parseModelConfigText(goldenConfigText(name));
  const ids = Array.from(goldenTensors(name, "golden").get("input_ids")!.data);
  const model = interpretedModel(config, goldenTensors(name, "model"), { blockSize: 4, total: 2, blocks: 1 }, run);
  const { logits } = model.step([
    { ids: ids.slice(0, 3), start: 0, table: [0] },
    { ids: ids.slice(40, 43), start: 0, table: [1] },
  ]);
  return joined(logits);
}

describe.each(["qwen3-distill", "v3"] as const)("%s", (name) => {
  const config = parseModelConfigText(goldenConfigText(name));
  test.each<[Mesh, ShardingAxes]>([
    [{ tp: 2 }, {}],
    [{ pp: 2, tp: 2 }, {}],
    [{ dp: 2 }, { experts: "dp" }],
  ])("over %j, optimised and quantised per rank, is the same optimised and quantised whole", (mesh, axes) => {
    const passes = tensorPasses(target, { quantize });
    const whole: Run = (module, inputs, { weights }) => {
      const all = runPasses(module, passes, target, { verify: 2 });
      return interpretRanks({}, [{ module: all, inputs }], { weights })[0]!;
    };
    const divided: Run = (module, inputs, { weights }) => {
      const sharded = shardModule(module, modelSharding(config, mesh, { ...axes, group: quantize.group }));
      const programs = rankModules(sharded).map((each, rank) => ({
        module: runPasses(each, passes, target, { verify: 2 }),
        inputs: rankInputs(sharded, rank, inputs),
      }));
      return joinResults(sharded, interpretRanks(sharded.mesh, programs, { weights }));
    };
    // Cuts fall between groups, so codes and scales are the same; sums are grouped by rank.
    expect(largestDifference(logitsOf(name, divided), logitsOf(name, whole))).toBeLessThan(1e-4);
  });
});

describe("a rank reads its share of the checkpoint", () => {
  const bucket = { tokens: 4, sequences: 4, blocks: 2, outputs: 4, blockSize: 4, slots: 32, ropeRows: 16 };
  const cases: readonly [string, Mesh, ShardingAxes][] = [
    ["DeepSeek-V3", { tp: 8 }, {}],
    ["DeepSeek-V3", { dp: 4, tp: 2 }, { experts: ["dp", "tp"] }],
    ["DeepSeek-V2-Lite", { ep: 4 }, {}],
    ["R1-Distill-Qwen-1.5B", { tp: 4 }, {}],
  ];
  test.each(cases)("%s over %j, as plans count it", (name, mesh, axes) => {
    const config = parseModelConfig(published[name]!.config);
    const sharded: Sharded = shardModule(buildModel(config, bucket), modelSharding(config, mesh, axes));
    const bits = config.quantization !== null ? 8 : config.dtype === "float32" ? 32 : 16;
    const planned = weightBytesOf(config, mesh, bits, axes);
    const modules = rankModules(sharded);
    for (const module of [modules[0]!, modules.at(-1)!]) {
      // Tables, norms and routers of FP8 models are wider than 8 bits, and so are scales.
      const slack = config.quantization === null ? 1e-3 : 0.06;
      expect(Math.abs(bytesRead(module) / planned - 1)).toBeLessThan(slack);
    }
  });
});

/** Bytes of all regions, a function's once for each of its calls, tables of angles left out. */
function bytesRead(module: Module): number {
  const calls = topoOrder(getFunc(module, module.entry).outs).filter((node) => isOp(node, "call"));
  const layers = new Map(calls.map(({ attrs }) => [`${attrs.func} ${attrs.layer}`, attrs.func]));
  const times = (func: string) =>
    func === module.entry ? 1 : [...layers.values()].filter((each) => each === func).length;
  let bytes = 0;
  for (const [func, regions] of weightRegions(module)) {
    for (const region of regions) {
      if (region.name.startsWith("rope.")) continue;
      expect(regionBytes(region)).toBeLessThanOrEqual(byteSize(region.type));
      bytes += times(func) * regionBytes(region);
    }
  }
  return bytes;
}
