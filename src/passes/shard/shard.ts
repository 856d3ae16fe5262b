/**
 * Dividing a module over a mesh, whole: shardings are propagated, redundant collectives removed, the entry cut into
 * pipeline stages. The result is one program per stage, the same for all ranks of it, and says how inputs are cut and
 * results put together; `rankModule` is the program of one rank. The order is this because a message between stages is
 * then as each rank has it.
 */
import { invariant } from "../../ir/errors.ts";
import { Builder, type Module } from "../../ir/graph.ts";
import { interpretRanks, type RankOptions } from "../../ir/interpret-ranks.ts";
import { checkMesh, coordsOf, type Mesh, rankCount } from "../../ir/mesh.ts";
import { rewriter } from "../../ir/rewrite.ts";
import type { Tensor } from "../../ir/tensor.ts";
import { verifyModule } from "../../ir/verify.ts";
import { intern, mapOuts } from "../pass.ts";
import { localize } from "./localize.ts";
import { joinParts, partOf } from "./parts.ts";
import { divide, type Placement } from "./propagate.ts";
import { collectiveRules } from "./rules.ts";
import type { Sharding } from "./sharding.ts";
import { type StageOptions, type StageProgram, splitStages } from "./stages.ts";
import { verifyRanks } from "./verify-ranks.ts";

export interface ShardOptions extends StageOptions {
  /** The mesh axis of pipeline stages. Default `pp`, one stage if the mesh has no such axis. */
  readonly stageAxis?: string;
  /** False keeps every collective that propagation asks for. Default true. */
  readonly simplify?: boolean;
}

export interface Sharded {
  readonly mesh: Mesh;
  readonly stageAxis: string;
  readonly stages: readonly StageProgram[];
  /** Of the parameters and results of the program that was divided. */
  readonly params: readonly Sharding[];
  readonly results: readonly Sharding[];
}

/** Throws UnsupportedError, with the nearest division that works, where something cannot be cut as asked. */
export function shardModule(module: Module, placement: Placement, options: ShardOptions = {}): Sharded {
  const { stageAxis = "pp", simplify = true } = options;
  const { mesh } = placement;
  checkMesh(mesh);
  // Within a stage: nothing is cut along its axis.
  const { [stageAxis]: count = 1, ...within } = mesh;
  const divided = divide(module, { ...placement, mesh: within });
  const builder = new Builder();
  const rewrite = rewriter(collectiveRules, builder);
  const interned = intern(divided.module, builder);
  const simplified = simplify ? mapOuts(interned, (func) => rewrite(func.outs)) : interned;
  const stages = splitStages(simplified, count, options);
  for (const stage of stages) verifyModule(stage.module);
  const sharded = { mesh, stageAxis, stages, params: divided.params, results: divided.results };
  verifyRanks(mesh, rankModules(sharded), stageAxis);
  return sharded;
}

function stageOfRank({ mesh, stageAxis, stages }: Sharded, rank: number): StageProgram {
  const stage = stages[coordsOf(mesh, rank)[stageAxis] ?? 0];
  invariant(stage !== undefined, () => `rank ${rank} has no stage`);
  return stage;
}

/** The program of one rank, its parts of weights as slices. */
export function rankModule(sharded: Sharded, rank: number): Module {
  return localize(stageOfRank(sharded, rank).module, sharded.mesh, rank);
}

export function rankModules(sharded: Sharded): Module[] {
  return Array.from({ length: rankCount(sharded.mesh) }, (_, rank) => rankModule(sharded, rank));
}

/** What a rank's program gets of the inputs of the whole. */
export function rankInputs(sharded: Sharded, rank: number, inputs: readonly Tensor[]): Tensor[] {
  const coords = coordsOf(sharded.mesh, rank);
  return stageOfRank(sharded, rank).params.map((i) => partOf(inputs[i]!, sharded.params[i]!, sharded.mesh, coords));
}

/** The results of the whole from those of all ranks. */
export function joinResults(sharded: Sharded, results: readonly (readonly Tensor[])[]): Tensor[] {
  return sharded.results.map((sharding, i) => {
    const parts = results.flatMap((own, rank) => {
      const at = stageOfRank(sharded, rank).results.indexOf(i);
      return at < 0 ? [] : [{ tensor: own[at]!, coords: coordsOf(sharded.mesh, rank) }];
    });
    return joinParts(parts, sharding, sharded.mesh);
  });
}

/** Runs a divided program, all ranks in step, on the inputs of the whole. */
export function interpretSharded(sharded: Sharded, inputs: readonly Tensor[], options: RankOptions = {}): Tensor[] {
  const programs = rankModules(sharded).map((module, rank) => ({ module, inputs: rankInputs(sharded, rank, inputs) }));
  return joinResults(sharded, interpretRanks(sharded.mesh, programs, { ...options, stageAxis: sharded.stageAxis }));
}
