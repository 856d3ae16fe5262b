/** The tile of rows by tokens that a workgroup of a GPU computes by matrix units. */
import type { ProductSize } from "../../ir/kernel/multiply.ts";
import { dotGroup } from "../../ir/ops/dot.ts";
import type { MatrixUnits, Workgroup } from "../../ir/target.ts";

export interface DotTile {
  /** Rows of the tile; an invocation has two fours of them. */
  readonly rows: number;
  readonly tokens: number;
  /** Tokens of an invocation, a multiple of four. */
  readonly own: number;
  /** Invocations that have the same rows and tokens and divide the groups. */
  readonly slices: number;
  /** How subgroups multiply. */
  readonly units: UnitShare;
}

export interface UnitShare {
  readonly subgroup: number;
  readonly unit: ProductSize;
  /** What a subgroup multiplies of a slice: so many tokens by so many rows, a group long. */
  readonly size: ProductSize;
}

interface Product {
  readonly rows: number;
  readonly tokens: number;
  readonly groups: number;
}

export const invocationsOf = ({ rows, tokens, own, slices }: Divided): number => (rows / 8) * (tokens / own) * slices;

/** Bytes that scales take, and what is combined at the end. */
const scaleBytes = ({ rows, tokens, slices }: Divided): number => 16 * (slices * 2 * (rows / 4 + tokens / 4) + 256);

/**
 * Bytes from a row of codes to the next, and elements from a token's sums to the next. More than there are, so that
 * rows that are read at once lie in different banks; multiples of 16 bytes, as devices want.
 */
export const unitRowBytes = dotGroup + 16;
export const unitSumStride = ({ rows }: Divided): number => rows + 8;

const unitBytes = (tile: Divided): number => {
  const { rows, tokens, slices } = tile;
  return scaleBytes(tile) + slices * ((rows + tokens) * unitRowBytes + 4 * tokens * unitSumStride(tile));
};

type Divided = Omit<DotTile, "units">;

/** From the largest on. */
const sizes: readonly Omit<Divided, "slices">[] = [
  { rows: 64, tokens: 64, own: 4 },
  { rows: 64, tokens: 32, own: 4 },
  { rows: 64, tokens: 16, own: 4 },
];

/** Workgroups that keep a large GPU busy. */
const enough = 256;
/** Invocations of each: with more of them an H200 was slower, except where there are few workgroups. */
const [usual, ofFew] = [128, 256];

/** By the first of the device's units that fits; undefined where none does. */
export function chooseTile(
  product: Product,
  workgroup: Workgroup,
  { subgroup, sizes }: MatrixUnits,
): DotTile | undefined {
  for (const unit of sizes) {
    const suits = (tile: Divided) => unitBytes(tile) <= workgroup.bytes && shareOf(tile, subgroup, unit) !== undefined;
    const tile = chooseFrom(product, workgroup, suits);
    if (tile !== undefined) return { ...tile, units: { subgroup, unit, size: shareOf(tile, subgroup, unit)! } };
  }
  return undefined;
}

function chooseFrom(
  { rows, tokens, groups }: Product,
  { invocations }: Workgroup,
  suits: (tile: Divided) => boolean,
): Divided | undefined {
  const fits = (tile: Divided, most: number) => invocationsOf(tile) <= Math.min(invocations, most) && suits(tile);
  const possible = sizes
    .map((each) => ({ ...each, slices: 1 }))
    .filter((tile) => fits(tile, usual) && (tile.tokens <= tokens || tile.tokens === 16));
  const count = (tile: Divided) => Math.ceil(rows / tile.rows) * Math.ceil(tokens / tile.tokens);
  const chosen = possible.find((tile) => count(tile) >= enough) ?? possible.at(-1);
  if (chosen === undefined) return undefined;
  const most = count(chosen) < enough / 2 ? ofFew : usual;
  let { slices } = chosen;
  while (2 * slices <= groups && fits({ ...chosen, slices: 2 * slices }, most)) slices *= 2;
  return { ...chosen, slices };
}

/** A subgroup's share, about as many tokens as rows; undefined where subgroups cannot divide the tile. */
function shareOf(tile: Divided, subgroup: number, unit: ProductSize): ProductSize | undefined {
  const [ofTokens, ofRows] = [tile.tokens / unit.m, tile.rows / unit.n];
  const products = (tile.slices * ofTokens * ofRows) / (invocationsOf(tile) / subgroup);
  let tokens = 1;
  while (4 * tokens * tokens <= products && ofTokens % (2 * tokens) === 0) tokens *= 2;
  const rows = products / tokens;
  // Rows of units begin where vectors do.
  const whole = [
    unit.k / 16,
    unit.n / 4,
    ofTokens / tokens,
    ofRows / rows,
    rows,
    dotGroup / unit.k,
    invocationsOf(tile) / subgroup,
  ];
  return whole.every(Number.isInteger) ? { m: tokens * unit.m, n: rows * unit.n, k: dotGroup } : undefined;
}
