/**
 * Lowering of `dotGroups` for GPUs with matrix units and many tokens: a workgroup computes a tile of rows by tokens. A group at
 * a time (or as many as there are slices of invocations) it brings the tile's codes and scales to shared memory, has them
 * multiplied there (`dot-units.ts`), and each invocation scales the integers of two fours of rows and some tokens.
 */

import {
  type Buf,
  type Expr,
  extract,
  iadd,
  idiv,
  imul,
  int,
  intrinsic,
  irem,
  load,
  num,
  op,
  type Ref,
  splat,
} from "../../ir/kernel/kernel.ts";
import { assign, barrier, note, store, when } from "../../ir/kernel/stmt.ts";
import type { MatrixUnits, Workgroup } from "../../ir/target.ts";
import type { Dot } from "./dot-group-parts.ts";
import { chooseTile, type DotTile, invocationsOf } from "./dot-tile-choice.ts";
import { type Staged, stagedFor, stageScales } from "./dot-tile-stage.ts";
import type { TilePlace } from "./dot-token-stage.ts";
import { multiplyByUnits, stageUnitCodes, type UnitTables, unitNote, unitSums, unitTablesFor } from "./dot-units.ts";
import { clampTo, flatten, range } from "./index-math.ts";
import type { Together } from "./writer.ts";

interface Tiles {
  readonly dot: Dot;
  readonly tile: DotTile;
  readonly staged: Staged;
  readonly tables: UnitTables;
}

/** What an invocation computes: `pair` of fours of rows (the first and the one half a tile further), tokens from `first`. */
interface Own {
  readonly slice: Expr;
  readonly pair: Expr;
  readonly first: Expr;
}

/** Says whether it lowered: one of the units fits. */
export function lowerDotTiles(dot: Dot, workgroup: Workgroup, units: MatrixUnits): boolean {
  const { w, lead, blocks, block: each, groups } = dot;
  const last = lead.at(-1)!;
  const tile = chooseTile({ rows: each * blocks, tokens: last, groups }, workgroup, units);
  if (tile === undefined) return false;
  const size = invocationsOf(tile);
  const { rows, tokens, own, slices } = tile;
  w.emit(note(`tile: ${rows} rows by ${tokens} tokens, 8 by ${own} an invocation, ${slices} groups at a time`));
  w.emit(note(unitNote(tile)));
  const tiles = { dot, tile, staged: stagedFor(dot, tile), tables: unitTablesFor(dot, tile) };
  const enter = (axis: number, idx: readonly Expr[]): void => {
    const how = "grid";
    if (axis < lead.length - 1) {
      w.loop("nkl"[axis] ?? "l", lead[axis]!, (i) => enter(axis + 1, [...idx, i]), how);
      return;
    }
    const atTokens = (from: Expr) => {
      const token = (t: Expr) => [...idx, last % tokens === 0 ? iadd(from, t) : clampTo(iadd(from, t), last)];
      const inside = (t: Expr) => (last % tokens === 0 ? undefined : op("lt", iadd(from, t), int(last)));
      const atRows = (block: Expr) =>
        w.workgroup(size, (together) => writeTile(tiles, { block, token, inside }, together));
      w.loop("b", blocks, atRows, how, rows / each);
    };
    w.loop("n", last, atTokens, how, tokens);
  };
  enter(0, []);
  return true;
}

/** The sums of the tile at `place`, and what is stored of them. */
function writeTile(tiles: Tiles, place: TilePlace, together: Together): void {
  const { dot, tile } = tiles;
  const { w, groups } = dot;
  const { rows, own, slices } = tile;
  const { lane } = together;
  const pairs = rows / 8;
  const mine: Own = {
    slice: w.bind("slice", irem(lane, int(slices))),
    pair: w.bind("pair", irem(idiv(lane, int(slices)), int(pairs))),
    first: w.bind("first", imul(idiv(lane, int(slices * pairs)), int(own))),
  };
  const sums = range(own).map(() => [0, 1].map(() => dot.w.variable("sum", splat(num("f32", 0), 4))));
  w.loop("g", groups, (g) => addUnits(tiles, place, mine, sums, together, g), "serial", slices);
  const totals = sums.map((own) => own.map((sum) => (slices === 1 ? sum : w.combine("total", "add", sum, slices))));
  storeTile(tiles, place, mine, totals);
}

type Sums = readonly (readonly Ref[])[];

/** Adds the products of the slices' groups from `g`. Scales are loaded before the second barrier, so that all that is staged can be replaced after it. */
function addUnits(tiles: Tiles, place: TilePlace, own: Own, sums: Sums, together: Together, g: Expr): void {
  const { dot, tile, staged, tables } = tiles;
  stageUnitCodes(dot, tile, tables, place, together, g);
  stageScales(dot, tile, staged, place, together, g);
  dot.w.emit(barrier);
  const scales = scalesFor(tiles, own);
  multiplyByUnits(dot, tile, tables, together);
  const products = sums.map((each, t) =>
    each.map((_, half) => {
      const four = iadd(own.pair, int((half * tile.rows) / 8));
      return unitSums(tile, tables, own.slice, iadd(own.first, int(t)), four);
    }),
  );
  addScaled(dot, scales, sums, products);
}

/** Of both fours of rows, and of each four of tokens. */
interface Scales {
  readonly rows: readonly Expr[];
  readonly shares: readonly Expr[] | undefined;
  readonly tokens: readonly Expr[];
  readonly sums: readonly Expr[] | undefined;
}

function scalesFor({ dot: { w }, tile, staged }: Tiles, { slice, pair, first }: Own): Scales {
  const fours = tile.rows / 4;
  const { scales, shares, inputScales, inputSums } = staged;
  const tokenFour = w.bind("four", idiv(first, int(4)));
  const ofRows = (buf: Buf, hint: string) =>
    [0, 1].map((half) => {
      const four = iadd(iadd(imul(slice, int(fours)), pair), int((half * fours) / 2));
      return w.bind(hint, load(buf, imul(four, int(4)), 4));
    });
  const ofTokens = (buf: Buf, hint: string) =>
    range(tile.own / 4).map((q) => {
      const four = iadd(iadd(imul(slice, int(tile.tokens / 4)), tokenFour), int(q));
      return w.bind(hint, load(buf, imul(four, int(4)), 4));
    });
  return {
    rows: ofRows(scales, "scale"),
    shares: shares && ofRows(shares, "share"),
    tokens: ofTokens(inputScales, "x_scale"),
    sums: inputSums && ofTokens(inputSums, "x_sum"),
  };
}

/** Adds a group's integers, each with the scales of its row and token. */
function addScaled({ w }: Dot, scales: Scales, sums: Sums, products: readonly (readonly Expr[])[]): void {
  for (const [t, own] of sums.entries()) {
    const [q, i] = [Math.floor(t / 4), t % 4];
    const xSum = scales.sums && extract(scales.sums[q]!, i);
    for (const [half, sum] of own.entries()) {
      const product = intrinsic("unbiased", products[t]![half]!);
      const factor = op("mul", scales.rows[half]!, splat(extract(scales.tokens[q]!, i), 4));
      w.emit(assign(sum.name, intrinsic("fma", product, factor, sum)));
      if (xSum === undefined) continue;
      w.emit(assign(sum.name, intrinsic("fma", splat(xSum, 4), scales.shares![half]!, sum)));
    }
  }
}

/** The slices share out the tokens. */
function storeTile(
  { dot, tile }: Tiles,
  { block, token, inside }: TilePlace,
  { slice, pair, first }: Own,
  totals: readonly (readonly Expr[])[],
): void {
  const { w, group, lead, blocks, block: each } = dot;
  const { rows, slices } = tile;
  const shape = [...lead, blocks * each];
  const allBlocks = (blocks * each) % rows === 0;
  for (const [t, own] of totals.entries()) {
    const at = iadd(first, int(t));
    for (const [half, total] of own.entries()) {
      const [four, fours] = [iadd(pair, int((half * rows) / 8)), int(each / 4)];
      const mine = iadd(block, idiv(four, fours));
      const there = allBlocks ? mine : w.bind("block", clampTo(mine, blocks));
      const row = w.bind("row", iadd(imul(there, int(each)), imul(irem(four, fours), int(4))));
      const idx = token(at).map((i) => w.bind("at", i));
      const stores = w.nested(() => {
        if (group.root === group.anchor) {
          w.emit(store(w.out, flatten([...idx, row], shape), total));
          return;
        }
        const values = range(4).map((r) => {
          w.hold(group.anchor, () => extract(total, r));
          return w.value(group.root, [...idx, iadd(row, int(r))]);
        });
        const offset = flatten([...idx, row], shape);
        if (w.out.dtype === "f32") w.emit(store(w.out, offset, intrinsic("join4", ...values)));
        else for (const [r, value] of values.entries()) w.emit(store(w.out, iadd(offset, int(r)), value));
      });
      const conditions = [
        slices === 1 ? undefined : op("eq", slice, int(t % slices)),
        inside(at),
        allBlocks ? undefined : op("lt", mine, int(blocks)),
      ].filter((condition) => condition !== undefined);
      if (conditions.length === 0) for (const stmt of stores) w.emit(stmt);
      else
        w.emit(
          when(
            conditions.reduce((a, b) => op("and", a, b)),
            stores,
          ),
        );
    }
  }
}
