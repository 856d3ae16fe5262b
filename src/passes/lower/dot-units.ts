/**
 * Tiles of products by matrix units (`Multiply` of kernel IR): a group's codes lie in shared memory row by row, subgroups
 * multiply a share of the tile each, and every invocation takes its sums of integers from there, to scale them as the other
 * form does. So a group's integers, and with them results, are the same.
 */
import { biased } from "../../ir/kernel/intrinsics.ts";
import { type Buf, type Expr, iadd, idiv, imul, int, irem, load } from "../../ir/kernel/kernel.ts";
import { barrier, multiply, store } from "../../ir/kernel/stmt.ts";
import { dotGroup } from "../../ir/ops/dot.ts";
import { bytesAt, codesOf, type Dot, weightBytes } from "./dot-group-parts.ts";
import { type DotTile, invocationsOf, unitRowBytes, unitSumStride } from "./dot-tile-choice.ts";
import { blockOf, inside } from "./dot-tile-stage.ts";
import type { TilePlace } from "./dot-token-stage.ts";
import { perGroup } from "./dot-vectors.ts";
import { shareOut } from "./share-out.ts";
import type { Together } from "./writer.ts";

/** [slice, row, code], [slice, token, code] and [slice, token, row]. */
export interface UnitTables {
  readonly weights: Buf;
  readonly inputs: Buf;
  readonly sums: Buf;
}

export function unitTablesFor({ w }: Dot, tile: DotTile): UnitTables {
  const { rows, tokens, slices } = tile;
  return {
    weights: w.shared("tile_codes", "i8", slices * rows * unitRowBytes),
    inputs: w.shared("tile_x", "i8", slices * tokens * unitRowBytes),
    sums: w.shared("tile_sums", "i32", slices * tokens * unitSumStride(tile)),
  };
}

/** The first byte of a row, or a token, of a slice. */
const rowAt = (slice: Expr, count: number, row: Expr): Expr =>
  imul(iadd(imul(slice, int(count)), row), int(unitRowBytes));

export function stageUnitCodes(
  dot: Dot,
  tile: DotTile,
  { weights, inputs }: UnitTables,
  place: TilePlace,
  together: Together,
  g: Expr,
): void {
  const { w, bits, block: rows, groups } = dot;
  const perTile = tile.rows / rows;
  const vectors = perGroup * tile.slices;
  shareOut(w, together, perTile * vectors, (i) => {
    const [j, rest] = [w.bind("j", irem(i, int(vectors))), w.bind("block", idiv(i, int(vectors)))];
    const block = blockOf(iadd(place.block, rest), tile, dot);
    const at = inside(iadd(imul(g, int(perGroup)), j), perGroup * groups, tile, dot);
    const bytes = weightBytes(dot, place.token(int(0)), block, at);
    const own = irem(j, int(perGroup));
    const row = iadd(imul(rest, int(rows)), irem(own, int(rows)));
    const first = w.bind("at", rowAt(idiv(j, int(perGroup)), tile.rows, row));
    for (const [half, codes] of codesOf(dot, bytes).entries()) {
      const part = bits === 4 ? int(16 * half) : imul(idiv(own, int(rows)), int(16));
      w.emit(store(weights, iadd(first, part), codes));
    }
  });
  // Sixteen bytes of a token at a time.
  const parts = (dotGroup / 16) * tile.slices;
  shareOut(w, together, tile.tokens * parts, (i) => {
    const [part, token] = [w.bind("part", irem(i, int(parts))), w.bind("token", idiv(i, int(parts)))];
    const [slice, rest] = [idiv(part, int(dotGroup / 16)), irem(part, int(dotGroup / 16))];
    const ofGroup = inside(iadd(g, slice), dot.groups, tile, dot);
    const k = iadd(imul(ofGroup, int(dotGroup)), imul(rest, int(16)));
    const bytes = w.bind("x", bytesAt(dot, 0, place.token(token), k, 16));
    w.emit(store(inputs, iadd(rowAt(slice, tile.tokens, token), imul(rest, int(16))), bytes));
  });
}

/** Multiplies the slices' groups, each subgroup a share; then sums lie in shared memory. */
export function multiplyByUnits(
  { w }: Dot,
  tile: DotTile,
  { weights, inputs, sums }: UnitTables,
  { lane }: Together,
): void {
  const { subgroup, unit, size } = tile.units;
  const [alongRows, alongTokens] = [tile.rows / size.n, tile.tokens / size.m];
  const shares = alongRows * alongTokens * tile.slices;
  const mine = shares === 1 ? int(0) : w.bind("share", idiv(lane, int(subgroup)));
  const row = w.bind("share_row", imul(irem(mine, int(alongRows)), int(size.n)));
  const rest = idiv(mine, int(alongRows));
  const token = w.bind("share_token", imul(irem(rest, int(alongTokens)), int(size.m)));
  const slice = w.bind("share_slice", idiv(rest, int(alongTokens)));
  const stride = unitSumStride(tile);
  const atToken = iadd(imul(slice, int(tile.tokens)), token);
  w.emit(
    multiply({
      result: { buf: sums.name, index: iadd(imul(atToken, int(stride)), row), stride },
      left: { buf: inputs.name, index: rowAt(slice, tile.tokens, token), stride: unitRowBytes },
      right: { buf: weights.name, index: rowAt(slice, tile.rows, row), stride: unitRowBytes },
      size,
      unit,
      from: biased,
      over: subgroup,
    }),
  );
  w.emit(barrier);
}

/** Four rows' sums of a token. */
export function unitSums(tile: DotTile, { sums }: UnitTables, slice: Expr, token: Expr, four: Expr): Expr {
  const atToken = imul(iadd(imul(slice, int(tile.tokens)), token), int(unitSumStride(tile)));
  return load(sums, iadd(atToken, imul(four, int(4))), 4);
}

/** For the kernel's text. */
export function unitNote(tile: DotTile): string {
  const { size, unit, subgroup } = tile.units;
  const shares = invocationsOf(tile) / subgroup;
  return `${shares} subgroups multiply ${size.m} tokens by ${size.n} rows each, by units of ${unit.m} x ${unit.n} x ${unit.k}`;
}
