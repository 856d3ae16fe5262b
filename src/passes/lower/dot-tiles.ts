/**
 * Lowering of `dotGroups` for GPUs and many tokens: a workgroup computes a tile of rows by tokens. A group at a time (or as
 * many as there are slices of invocations) it brings the tile's codes and scales to shared memory (`dot-tile-stage.ts`), then
 * each invocation multiplies two fours of rows by some tokens. So a load of 16 bytes from there serves many products: for 8
 * rows and 8 tokens, four loads 64 products of four codes.
 */

import { biased } from "../../ir/kernel/intrinsics.ts";
import {
  type Expr,
  extract,
  iadd,
  idiv,
  imul,
  int,
  intrinsic,
  irem,
  load,
  loadBytes,
  num,
  op,
  type Ref,
  splat,
} from "../../ir/kernel/kernel.ts";
import { assign, barrier, note, store, when } from "../../ir/kernel/stmt.ts";
import type { Workgroup } from "../../ir/target.ts";
import type { Dot } from "./dot-group-parts.ts";
import { chooseTile, type DotTile, invocationsOf } from "./dot-tile-choice.ts";
import { type Place, perGroup, placeIn, type Staged, stage, stagedFor } from "./dot-tile-stage.ts";
import { clampTo, flatten, range } from "./index-math.ts";
import type { Together } from "./writer.ts";

export interface Tiles {
  readonly dot: Dot;
  readonly tile: DotTile;
  readonly staged: Staged;
}

/** What an invocation computes: `pair` of fours of rows (the first and the one half a tile further), tokens from `first`. */
interface Own {
  readonly slice: Expr;
  readonly pair: Expr;
  readonly first: Expr;
}

export function lowerDotTiles(dot: Dot, workgroup: Workgroup): void {
  const { w, lead, blocks, fours, groups } = dot;
  const last = lead.at(-1)!;
  const tile = chooseTile({ rows: 4 * fours * blocks, tokens: last, groups }, workgroup);
  const size = invocationsOf(tile);
  const { rows, tokens, own, slices } = tile;
  w.emit(note(`tile: ${rows} rows by ${tokens} tokens, 8 by ${own} an invocation, ${slices} groups at a time`));
  const tiles: Tiles = { dot, tile, staged: stagedFor(dot, tile) };
  const perTile = rows / (4 * fours);
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
      w.loop("b", blocks, atRows, how, perTile);
    };
    w.loop("n", last, atTokens, how, tokens);
  };
  enter(0, []);
}

/** The sums of the tile at `place`, and what is stored of them. */
export function writeTile(tiles: Tiles, place: Place, together: Together): void {
  const { dot, tile, staged } = tiles;
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
  const step = (g: Expr) => {
    stage(dot, tile, staged, place, together, g);
    w.emit(barrier);
    addProducts(tiles, mine, sums);
    w.emit(barrier);
  };
  w.loop("g", groups, step, "serial", slices);
  const totals = sums.map((own) => own.map((sum) => (slices === 1 ? sum : w.combine("total", "add", sum, slices))));
  storeTile(tiles, place, mine, totals);
}

/** Adds the products of the slice's group. */
function addProducts(tiles: Tiles, { slice, pair, first }: Own, sums: readonly (readonly Ref[])[]): void {
  const { dot, tile, staged } = tiles;
  const { w } = dot;
  const fours = tile.rows / 4;
  const { weights, inputs } = staged;
  const products = sums.map((own) => own.map(() => dot.w.variable("dot", splat(int(biased), 4))));
  const tokenFour = w.bind("four", idiv(first, int(4)));
  const chunk = (c: Expr) => {
    const codes = [0, 1].map((half) => {
      const at = placeIn(weights, slice, c, iadd(pair, int((half * fours) / 2)));
      return w.bind("codes", { ...loadBytes(weights.buf, at, 16) });
    });
    for (const q of range(tile.own / 4)) {
      const x = w.bind("x", loadBytes(inputs.buf, placeIn(inputs, slice, c, iadd(tokenFour, int(q))), 16));
      for (const i of range(4)) {
        for (const [half, sum] of products[4 * q + i]!.entries()) {
          w.emit(assign(sum.name, intrinsic("dot4s8", sum, intrinsic("spread4", x, int(i)), codes[half]!)));
        }
      }
    }
  };
  for (const c of range(perGroup)) chunk(int(c));
  addScaled(tiles, { slice, pair, tokenFour }, sums, products);
}

/** Adds a group's integers, each with the scales of its row and token. */
function addScaled(
  { dot: { w }, tile, staged }: Tiles,
  { slice, pair, tokenFour }: Pick<Own, "slice" | "pair"> & { readonly tokenFour: Expr },
  sums: readonly (readonly Ref[])[],
  products: readonly (readonly Ref[])[],
): void {
  const fours = tile.rows / 4;
  const { scales, inputScales } = staged;
  const ofRows = (buf: typeof scales, half: number) =>
    load(buf, imul(iadd(iadd(imul(slice, int(fours)), pair), int((half * fours) / 2)), int(4)), 4);
  const ofTokens = (buf: typeof scales, q: number) =>
    load(buf, imul(iadd(iadd(imul(slice, int(tile.tokens / 4)), tokenFour), int(q)), int(4)), 4);
  const rowScales = [0, 1].map((half) => w.bind("scale", ofRows(scales, half)));
  const shares = staged.shares && [0, 1].map((half) => w.bind("share", ofRows(staged.shares!, half)));
  for (const q of range(tile.own / 4)) {
    const xScales = w.bind("x_scale", ofTokens(inputScales, q));
    const xSums = staged.inputSums && w.bind("x_sum", ofTokens(staged.inputSums, q));
    for (const i of range(4)) {
      for (const [half, sum] of sums[4 * q + i]!.entries()) {
        const product = intrinsic("unbiased", products[4 * q + i]![half]!);
        const factor = op("mul", rowScales[half]!, splat(extract(xScales, i), 4));
        w.emit(assign(sum.name, intrinsic("fma", product, factor, sum)));
        if (xSums === undefined) continue;
        w.emit(assign(sum.name, intrinsic("fma", splat(extract(xSums, i), 4), shares![half]!, sum)));
      }
    }
  }
}

/** The slices share out the tokens. */
function storeTile(
  { dot, tile }: Tiles,
  { block, token, inside }: Place,
  { slice, pair, first }: Own,
  totals: readonly (readonly Expr[])[],
): void {
  const { w, group, lead, blocks, fours } = dot;
  const { rows, slices } = tile;
  const apart = rows / 8;
  const shape = [...lead, blocks * 4 * fours];
  const allBlocks = blocks % (rows / (4 * fours)) === 0;
  for (const [t, own] of totals.entries()) {
    const at = iadd(first, int(t));
    for (const [half, total] of own.entries()) {
      // Both fours are of one block of eight rows, or of blocks of four half a tile apart.
      const mine = iadd(block, fours === 2 ? pair : iadd(pair, int(half * apart)));
      const there = allBlocks ? mine : w.bind("block", clampTo(mine, blocks));
      const row = w.bind("row", iadd(imul(there, int(4 * fours)), int(fours === 2 ? 4 * half : 0)));
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
