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
  readonly copies?: number;
}

export const invocationsOf = ({ rows, tokens, own, slices }: DotTile): number => (rows / 8) * (tokens / own) * slices;

/** Bytes that the tile takes, with room for what is combined at the end. */
const bytesOf = ({ rows, tokens, slices }: DotTile): number =>
  16 * (slices * (8 * (rows / 4 + tokens / 4 + 2) + 9 + 2 * (rows / 4 + tokens / 4)) + 256);

/** From the largest on. */
const sizes: readonly Omit<DotTile, "slices">[] = [
  { rows: 64, tokens: 64, own: 8 },
  { rows: 64, tokens: 32, own: 8 },
  { rows: 64, tokens: 16, own: 4 },
  { rows: 32, tokens: 16, own: 4 },
];

/** Workgroups that keep a large GPU busy. */
const enough = 256;
/** Invocations of each: with more of them an H200 was slower, except where there are few workgroups. */
const [usual, ofFew] = [128, 256];

/** `copies`: products of such a size that are made side by side. */
export function chooseTile({ rows, tokens, groups, copies = 1 }: Product, { invocations, bytes }: Workgroup): DotTile {
  const fits = (tile: DotTile, most: number) =>
    invocationsOf(tile) <= Math.min(invocations, most) && bytesOf(tile) <= bytes;
  const possible = sizes
    .map((each) => ({ ...each, slices: 1 }))
    .filter((tile) => fits(tile, usual) && (tile.tokens <= tokens || tile.tokens === 16));
  const count = (tile: DotTile) => Math.ceil(rows / tile.rows) * Math.ceil(tokens / tile.tokens) * copies;
  const chosen = possible.find((tile) => count(tile) >= enough) ?? possible.at(-1)!;
  const most = count(chosen) < enough / 2 ? ofFew : usual;
  let { slices } = chosen;
  while (2 * slices <= groups && fits({ ...chosen, slices: 2 * slices }, most)) slices *= 2;
  return { ...chosen, slices };
}
