/** Packing of intermediate values into one arena, given when each is needed. */
import { arenaAlignment } from "../ir/plan.ts";

/** A value needed from step `first` to step `last`, both included. */
export interface LiveRange {
  readonly bytes: number;
  readonly first: number;
  readonly last: number;
}

/**
 * Offsets such that ranges needed at one time do not overlap. Largest first, each at the lowest free offset: simple, and
 * within a few percent of the lower bound on transformers, whose few large values dominate.
 */
export function packArena(ranges: readonly LiveRange[]): { offsets: readonly number[]; bytes: number } {
  const offsets = new Array<number>(ranges.length).fill(0);
  const order = ranges.map((_, i) => i).sort((a, b) => ranges[b]!.bytes - ranges[a]!.bytes || a - b);
  const placed: number[] = [];
  let total = 0;
  for (const i of order) {
    const range = ranges[i]!;
    if (range.bytes === 0) continue;
    const busy = placed
      .filter((j) => ranges[j]!.first <= range.last && range.first <= ranges[j]!.last)
      .map((j) => ({ from: offsets[j]!, to: align(offsets[j]! + ranges[j]!.bytes) }))
      .sort((a, b) => a.from - b.from);
    let offset = 0;
    for (const { from, to } of busy) {
      if (offset + range.bytes <= from) break;
      offset = Math.max(offset, to);
    }
    offsets[i] = offset;
    total = Math.max(total, align(offset + range.bytes));
    placed.push(i);
  }
  return { offsets, bytes: total };
}

function align(bytes: number): number {
  return Math.ceil(bytes / arenaAlignment) * arenaAlignment;
}
