/** Random programs divided over random meshes in random ways: all ranks in step give what one device gives. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { UnsupportedError } from "../../../src/ir/errors.ts";
import { type Module, topoOrder } from "../../../src/ir/graph.ts";
import { type Mesh, sizeAlong } from "../../../src/ir/mesh.ts";
import type { Shape } from "../../../src/ir/types.ts";
import type { Placement } from "../../../src/passes/shard/propagate.ts";
import { interpretSharded, type Sharded, shardModule } from "../../../src/passes/shard/shard.ts";
import { collectivesOf } from "../../../src/passes/shard/verify-ranks.ts";
import { close } from "../../arb/compare.ts";
import { runInterpret, withInputs } from "../../arb/inputs.ts";
import { arbModule, type ProgramOptions } from "../../arb/program.ts";

interface Wishes {
  readonly mesh: Mesh;
  readonly picks: readonly number[];
}

const arbWishes: fc.Arbitrary<Wishes> = fc.record({
  mesh: fc.constantFrom<Mesh>(
    { a: 2 },
    { a: 3 },
    { a: 2, b: 2 },
    { a: 3, b: 2 },
    { pp: 2, a: 2 },
    { pp: 3 },
    { a: 2, pp: 2, b: 3 },
  ),
  picks: fc.array(fc.nat(63), { minLength: 8, maxLength: 8 }),
});

/** Cuts each weight and parameter along some of the axes that divide it, by the picks. */
function placementOf({ mesh, picks }: Wishes): Placement {
  const axes = Object.keys(mesh).filter((axis) => axis !== "pp");
  let next = 0;
  const cut = (shape: Shape) => {
    const dims = shape.map((): string[] => []);
    for (const axis of axes) {
      const pick = picks[next++ % picks.length]!;
      const dim = pick % (shape.length + 1);
      const own = dims[dim];
      if (own !== undefined && shape[dim]! % sizeAlong(mesh, [...own, axis]) === 0) own.push(axis);
      if (pick % 7 === 0) own?.reverse();
    }
    return { dims };
  };
  const known = new Map<string, ReturnType<typeof cut>>();
  const of = (name: string, shape: Shape) => {
    const key = `${name} ${shape}`;
    const found = known.get(key) ?? cut(shape);
    known.set(key, found);
    return found;
  };
  return {
    mesh,
    weight: of,
    param: of,
    result: (i, shape) => (picks[i % picks.length]! % 3 === 0 ? of(`result ${i}`, shape) : undefined),
  };
}

function shardOrSkip(module: Module, wishes: Wishes): Sharded | undefined {
  try {
    return shardModule(module, placementOf(wishes));
  } catch (error) {
    // Too few calls and contractions for the stages.
    if (error instanceof UnsupportedError && "pp" in wishes.mesh) return undefined;
    throw error;
  }
}

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
    const options: ProgramOptions = { finite: true, maxSteps: 12, without: [...jumps, "updateRows"] };
    // As for the pipeline: a few ops of values up to about 4, each scaling the roundings before it.
    const met = check(options, { ulp: 4096, absolute: 1e-3, finiteOnly: true });
    expect([...met.keys()].sort()).toEqual(expect.arrayContaining(["allReduce", "receive", "send"]));
  });
});
