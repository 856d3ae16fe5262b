/** Collectives by hand, ranks that do not meet, stages, and what cannot be divided. */
import { describe, expect, test } from "vitest";
import { maths } from "../../../src/ir/build.ts";
import { Builder, type Module, makeModule, type Node } from "../../../src/ir/graph.ts";
import { interpretRanks } from "../../../src/ir/interpret-ranks.ts";
import { coordsOf, groupOf, indexAlong, type Mesh } from "../../../src/ir/mesh.ts";
import { parseModule } from "../../../src/ir/parse.ts";
import { printModule } from "../../../src/ir/print.ts";
import { jsTarget } from "../../../src/ir/target.ts";
import { tensorOf, valuesOf } from "../../../src/ir/tensor.ts";
import { parseModelConfigText } from "../../../src/models/deepseek/config.ts";
import { buildModel } from "../../../src/models/deepseek/model.ts";
import { modelSharding } from "../../../src/models/deepseek/sharding.ts";
import { legalize } from "../../../src/passes/legalize.ts";
import { runPasses } from "../../../src/passes/pass.ts";
import { interpretSharded, type Sharded, shardModule } from "../../../src/passes/shard/shard.ts";
import { balancedEnds } from "../../../src/passes/shard/stages.ts";
import { collectivesOf, verifyRanks } from "../../../src/passes/shard/verify-ranks.ts";
import { goldenConfigText } from "../../models/read-golden.ts";

/** A program of one parameter of shape [2, 2]. */
function program(body: (x: Node, make: Builder["make"]) => Node): Module {
  const builder = new Builder();
  const x = builder.param("x", "f32", [2, 2]);
  const make: Builder["make"] = (op, ins, attrs) => builder.make(op, ins, attrs);
  return makeModule("m", [{ name: "main", params: [x], outs: [body(x, make)] }], "main");
}

/** The results of ranks that have `[[1, 2], [3, 4]]`, `[[10, 20], [30, 40]]` and so on. */
function run(mesh: Mesh, modules: readonly Module[]): number[][] {
  const inputs = modules.map((_, rank) => [
    tensorOf(
      "f32",
      [2, 2],
      [1, 2, 3, 4].map((x) => x * 10 ** rank),
    ),
  ]);
  const results = interpretRanks(
    mesh,
    modules.map((module, rank) => ({ module, inputs: inputs[rank]! })),
  );
  return results.map(([result]) => valuesOf(result!));
}

const two = (module: Module) => run({ tp: 2 }, [module, module]);
const group = { over: "tp", parts: 2 };

describe("a mesh", () => {
  test("numbers ranks with the last axis fastest", () => {
    const mesh = { pp: 2, tp: 3 };
    expect(coordsOf(mesh, 4)).toEqual({ pp: 1, tp: 1 });
    expect(groupOf(mesh, 4, ["tp"])).toEqual([3, 4, 5]);
    expect(groupOf(mesh, 4, ["pp"])).toEqual([1, 4]);
    expect(groupOf(mesh, 4, ["tp", "pp"])).toEqual([0, 3, 1, 4, 2, 5]);
    expect(indexAlong(mesh, { pp: 1, tp: 2 }, ["tp", "pp"])).toBe(5);
  });
});

describe("collectives of two ranks", () => {
  test("shard", () => {
    expect(two(program((x, make) => make("shard", [x], { ...group, axis: 1 })))).toEqual([
      [1, 3],
      [20, 40],
    ]);
  });
  test("allReduce", () => {
    const sum = [11, 22, 33, 44];
    expect(two(program((x, make) => make("allReduce", [x], { ...group, by: "sum" })))).toEqual([sum, sum]);
    const most = [10, 20, 30, 40];
    expect(two(program((x, make) => make("allReduce", [x], { ...group, by: "max" })))).toEqual([most, most]);
  });
  test("reduceScatter", () => {
    const module = program((x, make) => make("reduceScatter", [x], { ...group, by: "sum", axis: 0 }));
    expect(two(module)).toEqual([
      [11, 22],
      [33, 44],
    ]);
  });
  test("allGather", () => {
    const all = [1, 2, 10, 20, 3, 4, 30, 40];
    expect(two(program((x, make) => make("allGather", [x], { ...group, axis: 1 })))).toEqual([all, all]);
  });
  test("allToAll", () => {
    const module = program((x, make) => make("allToAll", [x], { ...group, split: 0, concat: 1 }));
    expect(two(module)).toEqual([
      [1, 2, 10, 20],
      [3, 4, 30, 40],
    ]);
  });
  test("a message to the next stage", () => {
    const first = program((x, make) => make("send", [x], { stage: 1, channel: 0 }));
    const second = program((x, make) => make("add", [x, make("receive", [], { stage: 0, channel: 0, ...x.type })], {}));
    expect(run({ pp: 2 }, [first, second])[1]).toEqual([11, 22, 33, 44]);
    verifyRanks({ pp: 2 }, [first, second]);
  });
  test("have a text", () => {
    const module = program((x, make) => make("allToAll", [x], { ...group, split: 0, concat: 1 }));
    expect(printModule(module)).toContain('allToAll %x {concat=1, over="tp", parts=2, split=0}');
    expect(printModule(parseModule(printModule(module)))).toBe(printModule(module));
  });
});

describe("ranks that do not meet", () => {
  const sum = program((x, make) => make("allReduce", [x], { ...group, by: "sum" }));
  const most = program((x, make) => make("allReduce", [x], { ...group, by: "max" }));
  const none = program((x, make) => make("neg", [x], {}));
  const sent = program((x, make) => make("send", [x], { stage: 1, channel: 0 }));
  const awaited = program((x, make) => make("receive", [], { stage: 0, channel: 3, ...x.type }));

  test("are found before they run", () => {
    expect(() => verifyRanks({ tp: 2 }, [sum, most])).toThrow('rank 1, collective 0: expected allReduce {by="sum"');
    expect(() => verifyRanks({ tp: 2 }, [sum, none])).toThrow("got none");
    expect(() => verifyRanks({ tp: 3 }, [sum, sum, sum])).toThrow("expected a group of 3 along tp");
    expect(() => verifyRanks({ pp: 2 }, [sent, none])).toThrow("message 0 from stage 0 to stage 1: nobody receives it");
    expect(() => verifyRanks({ pp: 2 }, [none, awaited])).toThrow("nobody sends it");
  });
  test("and when they run", () => {
    expect(() => run({ tp: 2 }, [sum, most])).toThrow("the ranks wait for each other forever");
    expect(() => run({ tp: 2 }, [sum, none])).toThrow("rank 1 is at its end");
    expect(() => run({ pp: 2 }, [sent, none])).toThrow("nobody receives message 0 from rank 0 to rank 1");
    expect(() => run({ pp: 2 }, [none, awaited])).toThrow("forever");
  });
  test("one device refuses them all", () => {
    for (const module of [sum, sent, awaited]) {
      expect(() => runPasses(module, [legalize(jsTarget)], jsTarget)).toThrow("which needs other devices");
    }
  });
});

test("runs of layers are cut where the dearest is cheapest", () => {
  expect(balancedEnds([1, 1, 1, 1], 2)).toEqual([2, 4]);
  expect(balancedEnds([5, 1, 1, 1, 1], 2)).toEqual([1, 5]);
  expect(balancedEnds([1, 1, 1, 9], 3)).toEqual([1, 3, 4]);
  expect(balancedEnds([0, 0], 2)).toEqual([1, 2]);
});

test("an axis that changes dimension is exchanged, and the way back is none", () => {
  const { builder, transpose } = maths(new Builder());
  const x = builder.param("x", "f32", [2, 4]);
  const module = makeModule("m", [{ name: "main", params: [x], outs: [transpose(x, [1, 0]), x] }], "main");
  const dims = (a: readonly string[], b: readonly string[]) => ({ dims: [a, b] });
  const placement = { mesh: { tp: 2 }, weight: () => undefined, param: () => dims(["tp"], []) };
  const result = (i: number) => (i === 0 ? dims(["tp"], []) : dims([], ["tp"]));
  const sharded = shardModule(module, { ...placement, result });
  expect(collectivesOf(sharded.stages[0]!.module).map(({ op }) => op)).toEqual(["allToAll", "allToAll"]);
  const [turned, same] = interpretSharded(sharded, [tensorOf("f32", [2, 4], [1, 2, 3, 4, 5, 6, 7, 8])]);
  expect(valuesOf(turned!)).toEqual([1, 5, 2, 6, 3, 7, 4, 8]);
  expect(valuesOf(same!)).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
});

describe("models", () => {
  const bucket = { tokens: 4, sequences: 2, blocks: 2, outputs: 2, blockSize: 4, slots: 16, ropeRows: 16 };
  const shard = (
    name: "v3" | "qwen3-distill" | "v3-fp8",
    mesh: Mesh,
    axes?: Parameters<typeof modelSharding>[2],
  ): Sharded => {
    const config = parseModelConfigText(goldenConfigText(name));
    return shardModule(buildModel(config, bucket), modelSharding(config, mesh, axes));
  };
  const exchanged = (sharded: Sharded) =>
    sharded.stages.map(({ module }) => collectivesOf(module).flatMap(({ op }) => (op === "shard" ? [] : [op])));

  test("tensor parallel: a sum after attention and one after the feed-forward network of each layer", () => {
    // The embedding's too, whose rows are divided, and the logits are gathered.
    expect(exchanged(shard("v3", { tp: 2 }))).toEqual([[...new Array(7).fill("allReduce"), "allGather"]]);
    expect(exchanged(shard("qwen3-distill", { tp: 4 }))).toEqual([[...new Array(7).fill("allReduce"), "allGather"]]);
  });
  test("expert parallel: a sum per mixture", () => {
    expect(exchanged(shard("v3", { ep: 4 }))).toEqual([["allReduce", "allReduce"]]);
  });
  test("data parallel: nothing; with experts along the same axis, tokens gathered and sums scattered", () => {
    expect(exchanged(shard("v3", { dp: 2 }))).toEqual([[]]);
    const layer = ["allGather", "allGather", "allGather", "reduceScatter"];
    expect(exchanged(shard("v3", { dp: 2 }, { experts: "dp" }))).toEqual([[...layer, ...layer]]);
  });
  test("pipeline: one message between stages, with each rank's part", () => {
    const { stages } = shard("v3", { pp: 3 });
    expect(exchanged({ ...shard("v3", { pp: 3 }) })).toEqual([["send"], ["receive", "send"], ["receive"]]);
    // tokens are the first stage's, the last norm and head the last one's.
    expect(stages.map(({ params }) => params.includes(0))).toEqual([true, false, false]);
    expect(stages.flatMap(({ results }) => results).sort()).toEqual([0, 1, 2, 3]);
  });
  test("what cannot be divided is said, with the nearest division that works", () => {
    expect(() => shard("v3", { tp: 3 })).toThrow(
      /num_attention_heads 4 cannot be cut into 3 equal parts\nThe nearest division that works is 2/,
    );
    // 24 channels of an expert are no whole number of groups of 8 in two parts.
    expect(() => shard("v3", { tp: 2 }, { group: 8 })).toThrow(
      /moe_intermediate_size 24 in 2 parts would cut groups of 8 that share a scale\nThe nearest division that works is 1/,
    );
    expect(() => shard("v3", { tp: 2 }, { group: 4 })).not.toThrow();
    expect(() => shard("v3", { ep: 3 })).toThrow(/n_routed_experts 8 .*\nThe nearest division that works is 2/);
    expect(() => shard("v3", { pp: 30 })).toThrow(/cannot be divided into 30 stages\nThe nearest division/);
    const { builder } = maths(new Builder());
    const x = builder.weight("w", "f32", [6]);
    const module = makeModule("m", [{ name: "main", params: [], outs: [x] }], "main");
    const placement = { mesh: { tp: 4 }, weight: () => ({ dims: [["tp"]] }), param: () => undefined };
    expect(() => shardModule(module, placement)).toThrow(
      "weight w: dimension 0 of [6] cannot be cut into 4 equal parts",
    );
  });
  test("blocks with a scale each are cut between blocks, or as f32 after them", () => {
    const text = printModule(shard("v3-fp8", { tp: 2 }).stages[0]!.module);
    // 136 rows of experts are 1.06 blocks of 128: the parts are cut when the loader has multiplied them.
    expect(text).toMatch(/f32\[4,68,192\] = shard %\w+ \{axis=1/);
    // Two blocks of rows: codes and scales are cut alike.
    const m = maths(new Builder());
    const w = m.dequantizeBlocks(
      m.builder.weight("w", "f8e4m3", [256, 8]),
      m.builder.weight("s", "f32", [2, 1]),
      [128, 128],
    );
    const x = m.builder.param("x", "f32", [3, 8]);
    const module = makeModule(
      "m",
      [{ name: "main", params: [x], outs: [m.contract("n i, o i -> n o", x, w)] }],
      "main",
    );
    const weight = (_: string, shape: readonly number[]) => ({ dims: shape.map((_, i) => (i === 0 ? ["tp"] : [])) });
    const cut = shardModule(module, { mesh: { tp: 2 }, weight, param: () => undefined }).stages[0]!.module;
    expect(printModule(cut)).toMatch(/f8e4m3\[128,8\] = shard.*f32\[1,1\] = shard.*f32\[128,8\] = dequantizeBlocks/s);
  });
});
