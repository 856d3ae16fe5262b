/** What the runners of all cache spaces of a mesh share. */
import type { BucketLimits } from "../engine/bucket-ladder.ts";
import type { MeshRanks } from "./mesh-ranks.ts";
import type { RankMemory, RankTimes } from "./messages.ts";

export interface MeshDeadlines {
  /** For all ranks to have done a step, in milliseconds. */
  readonly stepMs: number;
  /** For compiling a bucket and reading weights. */
  readonly loadMs: number;
}

export interface MeshState {
  readonly ranks: MeshRanks;
  readonly deadlines: MeshDeadlines;
  readonly vocabSize: number;
  /** Of each lane. */
  readonly limits: BucketLimits;
  readonly lanes: number;
  /** Steps that may be under way at once in a lane: one per stage. */
  readonly overlap: number;
  /** Most steps that ranks decode without being asked; 0: none. */
  readonly stepsAhead: number;
  steps: number;
  /** Of the last step, by rank. */
  times: readonly RankTimes[];
  memory: readonly RankMemory[];
  summaries: readonly string[];
}
