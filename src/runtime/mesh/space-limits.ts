/** How large the steps of a cache space may be. */
import type { BucketLimits } from "../engine/bucket-ladder.ts";
import type { CacheSpace } from "./messages.ts";

/** Each lane's share of what a mesh may hold at once, rounded up; a lane has room for one sequence of full length at least. */
export function limitsOfLane(limits: BucketLimits, lanes: number): BucketLimits {
  const blocks = Math.floor(limits.slots / limits.blockSize / lanes);
  return {
    ...limits,
    sequences: Math.ceil(limits.sequences / lanes),
    slots: Math.max(limits.blocks, blocks) * limits.blockSize,
  };
}

/** One sequence of its own has a cache of its own. */
export function limitsOfSpace(limits: BucketLimits, space: CacheSpace): BucketLimits {
  return space !== "single" ? limits : { ...limits, sequences: 1, slots: limits.blocks * limits.blockSize };
}
