/** What a workgroup that multiplies by matrix units has in shared memory besides codes: scales as f32, and what sums are multiplied by. */
import { type Buf, type Expr, iadd, idiv, imul, int, irem, op } from "../../ir/kernel/kernel.ts";
import { store } from "../../ir/kernel/stmt.ts";
import { type Dot, readsSums, scalesOf, shareOf } from "./dot-group-parts.ts";
import type { DotTile } from "./dot-tile-choice.ts";
import { stageInputScales, type TilePlace } from "./dot-token-stage.ts";
import { clampTo } from "./index-math.ts";
import { shareOut } from "./share-out.ts";
import type { Together } from "./writer.ts";

export interface Staged {
  /** [slice, four of rows] and [slice, four of tokens], four f32 each. */
  readonly scales: Buf;
  readonly inputScales: Buf;
  /** What the input's sums are multiplied by, and these sums, where they count. */
  readonly shares: Buf | undefined;
  readonly inputSums: Buf | undefined;
}

export function stagedFor(dot: Dot, { rows, tokens, slices }: DotTile): Staged {
  const [ofRows, ofTokens] = [rows / 4, tokens / 4];
  const floats = (hint: string, fours: number) => dot.w.shared(hint, "f32", 4 * fours * slices);
  const summed = readsSums(dot);
  return {
    scales: floats("tile_scales", ofRows),
    inputScales: floats("tile_x_scales", ofTokens),
    shares: summed ? floats("tile_shares", ofRows) : undefined,
    inputSums: summed ? floats("tile_x_sums", ofTokens) : undefined,
  };
}

export function stageScales(
  dot: Dot,
  tile: DotTile,
  staged: Staged,
  place: TilePlace,
  together: Together,
  g: Expr,
): void {
  const { w, block: rows } = dot;
  const { scales, inputScales, shares, inputSums } = staged;
  const ofRows = tile.rows / 4;
  shareOut(w, together, tile.slices * ofRows, (i) => {
    const [mine, slice] = [w.bind("four", irem(i, int(ofRows))), w.bind("slice", idiv(i, int(ofRows)))];
    const fours = int(rows / 4);
    const block = blockOf(iadd(place.block, idiv(mine, fours)), tile, dot);
    const at = inside(iadd(g, slice), dot.groups, tile, dot);
    const ofFour = scalesOf(dot, place.token(int(0)), block, at, imul(irem(mine, fours), int(4)), 4);
    w.emit(store(scales, imul(i, int(4)), ofFour.scale));
    if (shares !== undefined) w.emit(store(shares, imul(i, int(4)), shareOf(dot, ofFour)));
  });
  const size = { tokens: tile.tokens, groups: tile.slices };
  stageInputScales(dot, size, place.token, { scales: inputScales, sums: inputSums }, together, g);
}

/** Past the last group, the last. */
export const inside = (index: Expr, count: number, { slices }: DotTile, { groups }: Dot): Expr =>
  groups % slices === 0 ? index : op("min", index, int(count - 1));

/** Past the last block, the last: it is computed and not stored. */
export const blockOf = (block: Expr, { rows }: DotTile, { blocks, block: each }: Dot): Expr =>
  (blocks * each) % rows === 0 ? block : clampTo(block, blocks);
