/** How workgroups of a GPU divide the keys and columns of attention where each has a token and a head. */
import type { Workgroup } from "../../ir/target.ts";

export interface RowSizes {
  readonly tokens: number;
  readonly heads: number;
  readonly keys: number;
  /** Columns of a value. */
  readonly columns: number;
}

export interface RowShares {
  /** Invocations. */
  readonly size: number;
  /** Keys of a tile. */
  readonly tile: number;
  /** Columns of an invocation. */
  readonly columns: number;
  /** Invocations that have the same columns and divide the keys. */
  readonly slices: number;
}

/** Invocations of a key, and keys of an invocation. */
export const perKey = 8;
export const keysEach = 4;

/** Few workgroups are large: nobody else would use the GPU meanwhile. */
const fewWorkgroups = 512;
const [mostOfFew, mostOfMany] = [512, 128];

/** `lanes`: elements that lie side by side in memory and are read together. */
export function rowSharesOf(sizes: RowSizes, workgroup: Workgroup, lanes: number): RowShares {
  const few = sizes.tokens * sizes.heads <= fewWorkgroups;
  const { invocations, most: mostTogether = invocations } = workgroup;
  const most = few ? Math.min(mostTogether, mostOfFew) : Math.min(invocations, mostOfMany);
  const wanted = Math.max((sizes.keys * perKey) / keysEach, Math.ceil(sizes.columns / (2 * lanes)), 4 * perKey);
  const size = Math.min(most, 2 ** Math.ceil(Math.log2(wanted)));
  const tile = (size / perKey) * keysEach;
  let columns = 2 * lanes;
  while (columns * size < sizes.columns) columns *= 2;
  const slices = 2 ** Math.floor(Math.log2(size / Math.ceil(sizes.columns / columns)));
  return { size, tile, columns, slices: Math.min(slices, tile) };
}

/** Workgroups that a large GPU runs at the same time, one on a multiprocessor: registers are what they are short of. */
const resident = 128;
/** Fewer tiles than this take no longer than a launch that puts parts together. */
const fewestTiles = 3;

/** Parts in which a token's keys are divided among workgroups, each with tiles in turn: as many as can run at once. */
export function attentionPartsOf(sizes: RowSizes, tile: number): number {
  const tiles = Math.ceil(sizes.keys / tile);
  const parts = Math.min(tiles, Math.floor(resident / (sizes.tokens * sizes.heads)));
  return tiles < fewestTiles ? 1 : Math.max(parts, 1);
}
