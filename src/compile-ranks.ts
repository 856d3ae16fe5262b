/** Divided programs for whoever drives several devices: what one rank of a mesh computes, and what it exchanges. */
import type { Module } from "./ir/graph.ts";
import { coordsOf, type Mesh } from "./ir/mesh.ts";
import { inlineCalls } from "./passes/shard/inline.ts";
import { cutAtCollectives, type Pieces } from "./passes/shard/pieces.ts";
import type { Placement } from "./passes/shard/propagate.ts";
import { rankModule, type ShardOptions, shardModule } from "./passes/shard/shard.ts";

export type { Piece, PieceExchange, Pieces } from "./passes/shard/pieces.ts";
export { absoluteLayers, relativeLayers } from "./passes/shard/relative-layers.ts";

export interface RankProgram {
  /** The mesh as the division has it, which may have split an axis in two. */
  readonly mesh: Mesh;
  readonly stageAxis: string;
  readonly pieces: Pieces;
  /** Which results of the whole program the first results of the pieces are, by number. */
  readonly results: readonly number[];
}

/** @throws UnsupportedError where the module cannot be divided so, with the nearest division that works. */
export function programOfRank(
  module: Module,
  placement: Placement,
  rank: number,
  options: ShardOptions = {},
): RankProgram {
  const sharded = shardModule(module, placement, options);
  const { mesh, stageAxis, stages } = sharded;
  const own = rankModule(sharded, rank);
  const { results } = stages[coordsOf(mesh, rank)[stageAxis] ?? 0]!;
  return { mesh, stageAxis, pieces: cutAtCollectives(inlineCalls(own)), results };
}
