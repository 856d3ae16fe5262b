/** Register tiles, from a table of what was measured (bench/kitchen): the largest tile that divides the sizes. */
import type { Target } from "../../ir/target.ts";

export interface Tile {
  /** Rows of the activation operand kept at once. */
  readonly outer: number;
  /** Rows of the streamed operand kept at once. */
  readonly rows: number;
}

/** Rows of a tile from one to the next. */
export type Spacing = "neighbours" | "apart";

/** Scalar code has about 16 registers: four by four sums spill least for what they save in loads. */
const scalarTiles: readonly Tile[] = [
  { outer: 4, rows: 4 },
  { outer: 2, rows: 4 },
  { outer: 1, rows: 4 },
  { outer: 4, rows: 2 },
  { outer: 2, rows: 2 },
  { outer: 1, rows: 2 },
  { outer: 4, rows: 1 },
  { outer: 2, rows: 1 },
];

export function chooseTile(_target: Target, sizes: Tile): Tile {
  return (
    scalarTiles.find((tile) => sizes.outer % tile.outer === 0 && sizes.rows % tile.rows === 0) ?? { outer: 1, rows: 1 }
  );
}

/** Weights that a tile's rows are far apart in: fewer stay in caches, where it makes no difference to reading. */
const manyWeights = 2 ** 18;

/**
 * Where each row of the streamed operand lies in one piece and is read once, rows of a tile are far apart: each is a stream
 * that goes on through all tiles, where neighbours' end after a row. A matrix of 1536x8960 floats is read at 24.4 instead
 * of 14.2 GB/s, of 8960x1536 at 24.8 instead of 20.4; two or four sums along a row add nothing (bench/kitchen/wasm-rows.ts).
 * For few weights, neighbours: a value of neighbouring rows can be computed in one launch with what reads them.
 */
export function spacingOf(target: Target, tile: Tile, weights: number, inPieces: boolean): Spacing {
  const apart = target.lanes > 1 && tile.outer === 1 && tile.rows > 1 && weights >= manyWeights && inPieces;
  return apart ? "apart" : "neighbours";
}
