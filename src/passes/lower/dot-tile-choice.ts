/** The tile of rows by tokens that a workgroup of a GPU computes where there are many tokens. */
import type { Workgroup } from "../../ir/target.ts";

export interface DotTile {
  /** Rows of the tile; an invocation has two fours of them. */
  readonly rows: number;
  readonly tokens: number;
  /** Tokens of an invocation, a multiple of four. */
  readonly own: number;
  /** Invocations that have the same rows and tokens and divide the groups. */
  readonly slices: number;
}

interface Product {
  readonly rows: number;
  readonly tokens: number;
  readonly groups: number;
}

export const invocationsOf = ({ rows, tokens, own, slices }: DotTile): number => (rows / 8) * (tokens / own) * slices;

/** Bytes that the tile takes, with room for what is combined at the end. */
const bytesOf = ({ rows, tokens, slices }: DotTile): number =>
  16 * (slices * (8 * (rows / 4 + tokens / 4 + 2) + 9 + 2 * (rows / 4 + tokens / 4)) + 256);

/** From the largest on. */
const sizes: readonly Omit<DotTile, "slices">[] = [
  { rows: 128, tokens: 64, own: 8 },
  { rows: 64, tokens: 64, own: 8 },
  { rows: 64, tokens: 32, own: 4 },
  { rows: 64, tokens: 16, own: 4 },
  { rows: 32, tokens: 16, own: 4 },
];

/** Workgroups that keep a large GPU busy. */
const enough = 256;

export function chooseTile({ rows, tokens, groups }: Product, { invocations, bytes }: Workgroup): DotTile {
  const scratch = (globalThis as { tile?: DotTile }).tile;
  if (scratch !== undefined) return scratch;
  const fits = (tile: DotTile) => invocationsOf(tile) <= Math.min(invocations, 256) && bytesOf(tile) <= bytes;
  const possible = sizes
    .map((size) => ({ ...size, slices: 1 }))
    .filter((tile) => fits(tile) && (tile.tokens <= tokens || tile.tokens === 16));
  const count = (tile: DotTile) => Math.ceil(rows / tile.rows) * Math.ceil(tokens / tile.tokens);
  const chosen = possible.find((tile) => count(tile) >= enough) ?? possible.at(-1)!;
  let { slices } = chosen;
  while (slices < 8 && groups % (2 * slices) === 0 && fits({ ...chosen, slices: 2 * slices })) slices *= 2;
  return { ...chosen, slices };
}
