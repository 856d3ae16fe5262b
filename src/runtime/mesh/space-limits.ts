/** How large the steps of a cache space may be. */
import type { BucketLimits } from "../bucket-ladder.ts";
import type { CacheSpace } from "./messages.ts";

/** One sequence of its own has a cache of its own. */
export function limitsOfSpace(limits: BucketLimits, space: CacheSpace): BucketLimits {
  return space === "requests" ? limits : { ...limits, sequences: 1, slots: limits.blocks * limits.blockSize };
}
