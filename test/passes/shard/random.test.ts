/** Random programs divided over random meshes in random ways: all ranks in step give what one device gives. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Module, topoOrder } from "../../../src/ir/graph.ts";
import { interpretSharded } from "../../../src/passes/shard/shard.ts";
import { collectivesOf } from "../../../src/passes/shard/verify-ranks.ts";
import { close } from "../../arb/compare.ts";
import { runInterpret, withInputs } from "../../arb/inputs.ts";
import { arbWishes, shardOrSkip } from "../../arb/placement.ts";
import { arbModule, type ProgramOptions } from "../../arb/program.ts";

const runs = 300;
/** Whether the program multiplies and adds: of infinities and zeros, whose is whose then matters. */
function contracts(module: Module): boolean {
  return [...module.funcs.values()].some((func) => topoOrder(func.outs).some(({ op }) => op === "contract"));
}

function check(options: ProgramOptions, limits: Parameters<typeof close>[2]): ReadonlyMap<string, number> {
  const met = new Map<string, number>();
  const finite = options.finite ?? false;
  fc.assert(
    fc.property(withInputs(arbModule(options), { finite }), arbWishes, ([module, data], wishes) => {
      fc.pre(options.finite === true || !contracts(module));
      const sharded = shardOrSkip(module, wishes);
      if (sharded === undefined) return;
      for (const { module: stage } of sharded.stages) {
        for (const { op } of collectivesOf(stage)) met.set(op, (met.get(op) ?? 0) + 1);
      }
      close(interpretSharded(sharded, data.inputs, { weights: data.weights }), runInterpret(module, data), limits);
    }),
    { numRuns: runs },
  );
  return met;
}

describe("a divided program gives what the whole one gives", () => {
  test("bit for bit (but for the sign of zeros) where no sum is divided", () => {
    const met = check({ maxSteps: 12, without: ["contract", "reduceSum", "dotGroups"] }, { ulp: 0 });
    expect([...met.keys()].sort()).toEqual(expect.arrayContaining(["allGather", "allReduce", "shard"]));
  });

  test("up to rounding where sums are", () => {
    // Ops that turn a difference of one rounding into a jump.
    const jumps = [
      "floor",
      "round",
      "rem",
      "eq",
      "ne",
      "lt",
      "le",
      "gt",
      "ge",
      "topKIndices",
      "argMax",
      "cast",
      "pow",
    ] as const;
    const options: ProgramOptions = {
      finite: true,
      maxSteps: 12,
      sizes: [1, 2, 4, 6],
      without: [...jumps, "updateRows"],
    };
    // As for the pipeline: a few ops of values up to about 4, each scaling the roundings before it.
    const met = check(options, { ulp: 4096, absolute: 1e-3, finiteOnly: true });
    expect([...met.keys()].sort()).toEqual(expect.arrayContaining(["allReduce", "receive", "send"]));
  });
});
