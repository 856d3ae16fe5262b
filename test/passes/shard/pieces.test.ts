/** Programs of ranks cut at their collectives: run piece by piece they give, bit for bit, what they give whole. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { getFunc, isOp, type Node, topoOrder } from "../../../src/ir/graph.ts";
import { interpretRanks } from "../../../src/ir/interpret-ranks.ts";
import { opDef, opKind } from "../../../src/ir/ops/all.ts";
import { verifyModule } from "../../../src/ir/verify.ts";
import { parseModelConfigText } from "../../../src/models/deepseek/config.ts";
import { buildModel } from "../../../src/models/deepseek/model.ts";
import { modelSharding } from "../../../src/models/deepseek/sharding.ts";
import { inlineCalls } from "../../../src/passes/shard/inline.ts";
import { cutAtCollectives } from "../../../src/passes/shard/pieces.ts";
import { absoluteLayers, relativeLayers } from "../../../src/passes/shard/relative-layers.ts";
import { rankInputs, rankModules, shardModule } from "../../../src/passes/shard/shard.ts";
import { collectivesOf } from "../../../src/passes/shard/verify-ranks.ts";
import { same } from "../../arb/compare.ts";
import { withInputs } from "../../arb/inputs.ts";
import { arbWishes, shardOrSkip } from "../../arb/placement.ts";
import { arbModule } from "../../arb/program.ts";
import { goldenConfigText } from "../../models/read-golden.ts";
import { interpretPieces } from "./interpret-pieces.ts";

test("random programs on random meshes", () => {
  const met = new Set<string>();
  let [cut, most] = [0, 0];
  fc.assert(
    fc.property(withInputs(arbModule({ maxSteps: 12 })), arbWishes, ([module, { inputs, weights }], wishes) => {
      const sharded = shardOrSkip(module, wishes);
      if (sharded === undefined) return;
      const modules = rankModules(sharded);
      const own = modules.map((_, rank) => rankInputs(sharded, rank, inputs));
      const programs = modules.map((each) => cutAtCollectives(inlineCalls(each)));
      for (const { pieces } of programs) {
        for (const piece of pieces) if (piece.module !== null) verifyModule(piece.module);
        for (const { exchanges } of pieces) for (const { node } of exchanges) met.add(node.op);
        if (pieces.length > 1) cut++;
        most = Math.max(most, pieces.length);
      }
      const { mesh, stageAxis } = sharded;
      const whole = interpretRanks(
        mesh,
        modules.map((each, rank) => ({ module: each, inputs: own[rank]! })),
        { weights, stageAxis },
      );
      const found = interpretPieces(mesh, programs, own, weights, stageAxis);
      for (const [rank, results] of found.entries()) same(results, whole[rank]!);
    }),
    { numRuns: 300 },
  );
  expect(cut).toBeGreaterThan(100);
  expect(most).toBeGreaterThan(2);
  expect([...met]).toEqual(expect.arrayContaining(["allGather", "allReduce", "send", "receive"]));
});

describe("a model", () => {
  const config = parseModelConfigText(goldenConfigText("v3"));
  const bucket = { tokens: 2, sequences: 1, blocks: 1, outputs: 1, blockSize: 4, slots: 8, ropeRows: 8 };
  const sharded = shardModule(buildModel(config, bucket), modelSharding(config, { pp: 2, tp: 2 }));

  test.each([0, 1, 2, 3])("of rank %i has every collective once, and none inside a piece", (rank) => {
    const module = rankModules(sharded)[rank]!;
    const { pieces } = cutAtCollectives(inlineCalls(module));
    const exchanged = pieces.flatMap(({ exchanges }) => exchanges.map(({ node }) => node.op));
    expect(exchanged.sort()).toEqual(
      collectivesOf(module)
        .map(({ op }) => op)
        .sort(),
    );
    for (const { module: piece } of pieces) {
      if (piece === null) continue;
      const inside = topoOrder(getFunc(piece, piece.entry).outs);
      expect(inside.filter(({ op }) => opKind(op) === "collective" || opDef(op).transfer || op === "call")).toEqual([]);
      // Counted from the first layer, and back.
      const { module: relative, first } = relativeLayers(piece);
      const weightsOf = (outs: readonly Node[]) =>
        topoOrder(outs).flatMap((node) => (isOp(node, "weight") ? [node.attrs.name] : []));
      const { outs } = getFunc(relative, relative.entry);
      const names = weightsOf(getFunc(piece, piece.entry).outs);
      expect(weightsOf(absoluteLayers(outs, first))).toEqual(names);
      expect(weightsOf(outs).join()).not.toMatch(/layers\.\d/);
    }
  });
});
