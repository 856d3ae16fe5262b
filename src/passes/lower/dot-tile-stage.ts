/**
 * What a workgroup has in shared memory of the groups that it multiplies: codes as the products of four want them, those of
 * weights unpacked once for all of the tile's tokens, and scales as f32. Vectors of four rows, or four tokens, are
 * neighbours, so that neighbouring invocations read from neighbouring banks.
 */
import type { Node } from "../../ir/graph.ts";
import {
  type Buf,
  type Expr,
  iadd,
  idiv,
  imul,
  int,
  intrinsic,
  irem,
  num,
  op,
  select,
  splat,
} from "../../ir/kernel/kernel.ts";
import { store, when } from "../../ir/kernel/stmt.ts";
import { dotGroup } from "../../ir/ops/dot.ts";
import { bytesAt, codesOf, type Dot, finiteScale, own, scalesOf, weightBytes } from "./dot-group-parts.ts";
import type { DotTile } from "./dot-tile-choice.ts";
import { clampTo, range } from "./index-math.ts";
import type { Together } from "./writer.ts";

/** Chunks of a group: of four codes each. */
export const perGroup = dotGroup / 4;

/** [slice, chunk, four of rows] and [slice, chunk, four of tokens], 16 bytes each. */
export interface Tables {
  readonly weights: Table;
  readonly inputs: Table;
}

export interface Staged {
  /** [slice, four of rows] and [slice, four of tokens], four f32 each. */
  readonly scales: Buf;
  readonly inputScales: Buf;
  /** What the input's sums are multiplied by, and these sums, where they count. */
  readonly shares: Buf | undefined;
  readonly inputSums: Buf | undefined;
}

/** Vectors from one chunk to the next, and from one slice to the next: more than there are, so that banks differ. */
interface Table {
  readonly buf: Buf;
  readonly chunk: number;
  readonly slice: number;
}

/** The place of a workgroup. */
export interface Place {
  /** The tile's first block of rows. */
  readonly block: Expr;
  /** The leading indices of a token of the tile, clamped to those there are. */
  readonly token: (t: Expr) => readonly Expr[];
  /** Whether it is one; undefined where all are. */
  readonly inside: (t: Expr) => Expr | undefined;
}

export function stagedFor({ w, group, rest }: Dot, { rows, tokens, slices }: DotTile): Staged {
  const [ofRows, ofTokens] = [rows / 4, tokens / 4];
  const floats = (hint: string, fours: number) => w.shared(hint, "f32", 4 * fours * slices);
  const summed = rest !== 0 || group.anchor.ins.length === 6;
  return {
    scales: floats("tile_scales", ofRows),
    inputScales: floats("tile_x_scales", ofTokens),
    shares: summed ? floats("tile_shares", ofRows) : undefined,
    inputSums: summed ? floats("tile_x_sums", ofTokens) : undefined,
  };
}

export function tablesFor({ w }: Dot, { rows, tokens, slices }: DotTile): Tables {
  const table = (hint: string, fours: number, apart: number): Table => {
    const chunk = fours + 1;
    const slice = perGroup * chunk + apart;
    return { buf: w.shared(hint, "i8", 16 * slice * slices), chunk, slice };
  };
  // Eight invocations that are served at once are of all slices, and each slice's read neighbours.
  return {
    weights: table("tile_codes", rows / 4, slices === 1 ? 0 : Math.max(1, 8 / slices)),
    inputs: table("tile_x", tokens / 4, slices === 1 ? 0 : 1),
  };
}

/** The first byte of a vector of a table. */
export function placeIn({ chunk, slice }: Table, ofSlice: Expr, ofChunk: Expr, four: Expr): Expr {
  return imul(iadd(iadd(imul(ofSlice, int(slice)), imul(ofChunk, int(chunk))), four), int(16));
}

/** Each of `count` things by one invocation; where one has several, their loads are on their way together. */
export function shareOut({ w }: Dot, { lane, size }: Together, count: number, body: (i: Expr) => void): void {
  const rounds = Math.floor(count / size);
  for (const round of range(rounds)) body(iadd(lane, int(round * size)));
  const rest = count - rounds * size;
  if (rest === 0) return;
  const stmts = w.nested(() => body(clampTo(iadd(lane, int(rounds * size)), count)));
  w.emit(when(op("lt", lane, int(rest)), stmts));
}

/** Brings codes of the groups from `g`, one for each slice, to tables. */
export function stageCodes(
  dot: Dot,
  tile: DotTile,
  { weights, inputs }: Tables,
  place: Place,
  together: Together,
  g: Expr,
) {
  const { w } = dot;
  stageWeights(dot, tile, place, together, g, ({ four, slice, chunk }, codes) => {
    w.emit(store(weights.buf, placeIn(weights, slice, chunk, four), codes));
  });
  const chunks = perGroup * tile.slices;
  shareOut(dot, together, (tile.tokens / 4) * chunks, (i) => {
    const { j, rest, slice, chunk } = chunkOf(dot, i, chunks);
    const k = imul(inside(iadd(imul(g, int(perGroup)), j), perGroup * dot.groups, tile, dot), int(4));
    const words = range(4).map((t) => w.bind("x", bytesAt(dot, 0, place.token(tokenOf(rest, t)), k, 4)));
    w.emit(store(inputs.buf, placeIn(inputs, slice, chunk, rest), intrinsic("join4", ...words)));
  });
}

/** Where codes belong: a four of the tile's rows, a chunk of a slice's group. */
interface CodesPlace {
  readonly four: Expr;
  readonly slice: Expr;
  readonly chunk: Expr;
}

/** Unpacks codes of weights, those of four rows at a time, and gives them to `put`. */
export function stageWeights(
  dot: Dot,
  tile: DotTile,
  place: Place,
  together: Together,
  g: Expr,
  put: (at: CodesPlace, codes: Expr) => void,
): void {
  const { blocks, fours } = dot;
  const chunks = perGroup * tile.slices;
  const perTile = tile.rows / (4 * fours);
  shareOut(dot, together, perTile * chunks, (i) => {
    const { j, rest, slice, chunk } = chunkOf(dot, i, chunks);
    const block = blockOf(iadd(place.block, rest), blocks, perTile);
    const at = inside(iadd(imul(g, int(perGroup)), j), perGroup * dot.groups, tile, dot);
    const bytes = weightBytes(dot, place.token(int(0)), block, at);
    for (const [half, codes] of codesOf(dot, bytes).entries())
      put({ four: iadd(rest, int(half * perTile)), slice, chunk }, codes);
  });
}

/** Thing `i` as chunk `j` of the slices' groups, and the rest. */
function chunkOf({ w }: Dot, i: Expr, chunks: number) {
  const [j, rest] = [w.bind("j", irem(i, int(chunks))), w.bind("four", idiv(i, int(chunks)))];
  return { j, rest, slice: idiv(j, int(perGroup)), chunk: irem(j, int(perGroup)) };
}

export function stageScales(dot: Dot, tile: DotTile, staged: Staged, place: Place, together: Together, g: Expr): void {
  const { w, group, bits, rest: zero, blocks, fours } = dot;
  const { scales, inputScales, shares, inputSums } = staged;
  const [ofRows, ofTokens] = [tile.rows / 4, tile.tokens / 4];
  const perTile = ofRows / fours;
  shareOut(dot, together, tile.slices * ofRows, (i) => {
    const [mine, slice] = [w.bind("four", irem(i, int(ofRows))), w.bind("slice", idiv(i, int(ofRows)))];
    // Blocks of eight rows have the lower fours first, then all upper ones.
    const [own, half] = fours === 2 ? [irem(mine, int(perTile)), idiv(mine, int(perTile))] : [mine, int(0)];
    const block = blockOf(iadd(place.block, own), blocks, perTile);
    const at = inside(iadd(g, slice), dot.groups, tile, dot);
    const { scale, minimum } = scalesOf(dot, place.token(int(0)), block, at, imul(half, int(4)));
    w.emit(store(scales, imul(i, int(4)), scale));
    if (shares === undefined) return;
    const share = op("mul", scale, splat(num("f32", -zero), 4));
    w.emit(store(shares, imul(i, int(4)), minimum === undefined ? share : op("add", share, minimum)));
  });
  shareOut(dot, together, tile.slices * ofTokens, (i) => {
    const [four, slice] = [w.bind("four", irem(i, int(ofTokens))), w.bind("slice", idiv(i, int(ofTokens)))];
    const ofGroup = inside(iadd(g, slice), dot.groups, tile, dot);
    const at = (node: Node, t: number) => w.value(node, [...own(node, place.token(tokenOf(four, t)), 1), ofGroup]);
    const [xScale, xSum] = [group.anchor.ins[1]!, group.anchor.ins[2]!];
    const each = range(4).map((t) => {
      const scale = finiteScale(at(xScale, t));
      // What the slices past the last group multiply comes to nothing.
      const there = op("lt", iadd(g, slice), int(dot.groups));
      return w.bind("x_scale", dot.groups % tile.slices === 0 ? scale : select(there, scale, num("f32", 0)));
    });
    // Codes of four bits are 16 times as large here; a power of two, so exact.
    const sized = each.map((scale) => (bits === 4 ? op("mul", scale, num("f32", 1 / 16)) : scale));
    w.emit(store(inputScales, imul(i, int(4)), intrinsic("join4", ...sized)));
    if (inputSums === undefined) return;
    const sums = each.map((scale, t) => op("mul", scale, at(xSum, t)));
    w.emit(store(inputSums, imul(i, int(4)), intrinsic("join4", ...sums)));
  });
}

const tokenOf = (four: Expr, t: number): Expr => iadd(imul(four, int(4)), int(t));

/** Past the last group, the last. */
export const inside = (index: Expr, count: number, { slices }: DotTile, { groups }: Dot): Expr =>
  groups % slices === 0 ? index : op("min", index, int(count - 1));

/** Past the last block, the last: it is computed and not stored. */
const blockOf = (block: Expr, blocks: number, perTile: number): Expr =>
  blocks % perTile === 0 ? block : clampTo(block, blocks);
