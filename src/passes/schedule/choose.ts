/** Register tiles, from a table of what was measured (bench/kitchen): the largest tile that divides the sizes. */
import type { Target } from "../../ir/target.ts";

export interface Tile {
  /** Rows of the activation operand kept at once. */
  readonly outer: number;
  /** Rows of the streamed operand kept at once. */
  readonly rows: number;
}

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
