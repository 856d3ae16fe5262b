/**
 * Lowering of `dotGroups` for GPUs and many tokens: a workgroup computes a tile of rows by tokens. A group at a time (or as
 * many as there are slices of invocations) it brings the tile's codes and scales to shared memory (`dot-tile-stage.ts`), then
 * each invocation multiplies two fours of rows by some tokens. So a load of 16 bytes from there serves many products: for 8
 * rows and 8 tokens, four loads 64 products of four codes.
 */

import { biased } from "../../ir/kernel/intrinsics.ts";
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
  loadBytes,
  num,
  op,
  type Ref,
  splat,
} from "../../ir/kernel/kernel.ts";
import { assign, barrier, note, store, when } from "../../ir/kernel/stmt.ts";
import type { Workgroup } from "../../ir/target.ts";
import type { Dot } from "./dot-group-parts.ts";
import { chooseTile, type DotTile, invocationsOf, type UnitShare } from "./dot-tile-choice.ts";
import {
  type Place,
  perGroup,
  placeIn,
  type Staged,
  stageCodes,
  stagedFor,
  stageScales,
  type Tables,
  tablesFor,
} from "./dot-tile-stage.ts";
import { multiplyByUnits, stageUnitCodes, type UnitTables, unitNote, unitSums, unitTablesFor } from "./dot-units.ts";
import { clampTo, flatten, range } from "./index-math.ts";
import type { Together } from "./writer.ts";

export interface Tiles {
  readonly dot: Dot;
  readonly tile: DotTile;
  readonly staged: Staged;
  /** By products of four, or by matrix units. */
  readonly codes: { readonly kind: "dots"; readonly tables: Tables } | ByUnits;
}

interface ByUnits {
  readonly kind: "units";
  readonly tables: UnitTables;
  readonly share: UnitShare;
}

/** With shared memory for what is staged. */
export function tilesOf(dot: Dot, tile: DotTile): Tiles {
  const staged = stagedFor(dot, tile);
  const { units: share } = tile;
  if (share === undefined) return { dot, tile, staged, codes: { kind: "dots", tables: tablesFor(dot, tile) } };
  dot.w.emit(note(unitNote(tile)));
  return { dot, tile, staged, codes: { kind: "units", tables: unitTablesFor(dot, tile), share } };
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
  const tile = chooseTile({ rows: 4 * fours * blocks, tokens: last, groups }, workgroup, w.target.matrices);
  const size = invocationsOf(tile);
  const { rows, tokens, own, slices } = tile;
  w.emit(note(`tile: ${rows} rows by ${tokens} tokens, 8 by ${own} an invocation, ${slices} groups at a time`));
  const tiles = tilesOf(dot, tile);
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
  const { dot, tile, codes } = tiles;
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
  const here = { tiles, place, own: mine, sums, together };
  const step = (g: Expr) => (codes.kind === "dots" ? addDots(here, codes.tables, g) : addUnits(here, codes, g));
  w.loop("g", groups, step, "serial", slices);
  const totals = sums.map((own) => own.map((sum) => (slices === 1 ? sum : w.combine("total", "add", sum, slices))));
  storeTile(tiles, place, mine, totals);
}

type Sums = readonly (readonly Ref[])[];

interface Step {
  readonly tiles: Tiles;
  readonly place: Place;
  readonly own: Own;
  readonly sums: Sums;
  readonly together: Together;
}

/** Adds the products of the slices' groups from `g`, by products of four. */
function addDots({ tiles, place, own, sums, together }: Step, tables: Tables, g: Expr): void {
  const { dot, tile, staged } = tiles;
  stageCodes(dot, tile, tables, place, together, g);
  stageScales(dot, tile, staged, place, together, g);
  dot.w.emit(barrier);
  const products = productsOf(dot, tile, tables, own, sums);
  addScaled(dot, scalesFor(tiles, own), sums, products);
  dot.w.emit(barrier);
}

/** The same by matrix units. Scales are loaded before the second barrier, so that all that is staged can be replaced after it. */
function addUnits({ tiles, place, own, sums, together }: Step, { tables, share }: ByUnits, g: Expr): void {
  const { dot, tile, staged } = tiles;
  stageUnitCodes(dot, tile, tables, place, together, g);
  stageScales(dot, tile, staged, place, together, g);
  dot.w.emit(barrier);
  const scales = scalesFor(tiles, own);
  multiplyByUnits(dot, tile, share, tables, together);
  const products = sums.map((each, t) =>
    each.map((_, half) => {
      const four = iadd(own.pair, int((half * tile.rows) / 8));
      return unitSums(tile, tables, own.slice, iadd(own.first, int(t)), four);
    }),
  );
  addScaled(dot, scales, sums, products);
}

function productsOf({ w }: Dot, tile: DotTile, { weights, inputs }: Tables, own: Own, sums: Sums): Sums {
  const { slice, pair, first } = own;
  const fours = tile.rows / 4;
  const products = sums.map((each) => each.map(() => w.variable("dot", splat(int(biased), 4))));
  const tokenFour = w.bind("four", idiv(first, int(4)));
  for (const c of range(perGroup)) {
    const codes = [0, 1].map((half) => {
      const at = placeIn(weights, slice, int(c), iadd(pair, int((half * fours) / 2)));
      return w.bind("codes", { ...loadBytes(weights.buf, at, 16) });
    });
    for (const q of range(tile.own / 4)) {
      const at = placeIn(inputs, slice, int(c), iadd(tokenFour, int(q)));
      const x = w.bind("x", loadBytes(inputs.buf, at, 16));
      for (const i of range(4)) {
        for (const [half, sum] of products[4 * q + i]!.entries()) {
          w.emit(assign(sum.name, intrinsic("dot4s8", sum, intrinsic("spread4", x, int(i)), codes[half]!)));
        }
      }
    }
  }
  return products;
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
