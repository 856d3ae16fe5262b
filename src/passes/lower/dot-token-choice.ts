/** The tile of blocks of rows by tokens that a workgroup of a GPU computes where there are several tokens. */
import { dotGroup } from "../../ir/ops/dot.ts";
import type { Workgroup } from "../../ir/target.ts";

export interface TokenTile {
  /** A multiple of four. */
  readonly tokens: number;
  readonly invocations: number;
  /** Invocations that share blocks of rows, and how many blocks these are. */
  readonly perBlock: number;
  readonly own: number;
  /** Groups that are staged at a time, a multiple of those that `perBlock` invocations multiply at once. */
  readonly groups: number;
}

interface Product {
  readonly blocks: number;
  readonly groups: number;
  readonly tokens: number;
  /** Rows of a block. */
  readonly block: number;
  /** Whether sums of the input's codes are staged too. */
  readonly sums: boolean;
  /** Products of such a size that are made side by side. */
  readonly copies?: number;
}

/** Tokens from which on an invocation's registers are filled with sums of 16. */
const many = 64;
/** Invocations that keep a large GPU busy. */
const busy = 1 << 17;
/** Shared memory for staged inputs: more of it keeps workgroups from running side by side. */
const stagedBytes = 20480;

/** Measured on an H200 (docs/decisions/0028). */
export function chooseTokenTile(product: Product, { invocations, bytes }: Workgroup): TokenTile {
  const { blocks, groups, copies = 1 } = product;
  const full = product.tokens >= many;
  const tokens = full ? 16 : product.tokens > 4 ? 8 : 4;
  const most = Math.min(invocations, full ? 256 : 128);
  const own = !full && blocks * copies < 256 ? 1 : 2;
  let perBlock = Math.min(32, most);
  const all = (Math.ceil(blocks / own) * copies * product.tokens) / tokens;
  const fewest = 3;
  while (!full && perBlock < most && perBlock * all < busy && groups * 8 >= 2 * fewest * perBlock) perBlock *= 2;
  const room = Math.min(stagedBytes, bytes - combinedBytes(most)) / bytesOf(tokens, product.sums);
  return { tokens, own, perBlock, invocations: most, groups: chooseGroups(groups, perBlock / 8, room) };
}

/** Codes, scale and perhaps sum of a group of some tokens, and what keeps banks apart. */
const bytesOf = (tokens: number, sums: boolean): number => tokens * (dotGroup + (sums ? 8 : 4)) + 16;

/** At most what sums of four tokens take that invocations combine: three places of half as many, where subgroups are small. */
const combinedBytes = (invocations: number): number => 24 * invocations;

/** A multiple of `step`, so that few groups are staged past the last, and that not too often: some wait while others stage. */
function chooseGroups(groups: number, step: number, most: number): number {
  const cost = (size: number) => Math.ceil(groups / size) * (size + 0.4);
  let best = step;
  for (let size = step; size <= Math.max(step, most); size += step) if (cost(size) <= cost(best)) best = size;
  return best;
}
