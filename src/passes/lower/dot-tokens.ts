/**
 * Lowering of `dotGroups` for GPUs and several tokens: a workgroup computes blocks of rows for a tile of tokens. Some groups at
 * a time it brings the tile's codes and scales to shared memory, those of four tokens side by side; weights go from memory
 * to registers, where a vector of a row serves all tokens of the tile. Sums of four tokens are one vector.
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
  select,
  splat,
} from "../../ir/kernel/kernel.ts";
import { assign, barrier, note, store, when } from "../../ir/kernel/stmt.ts";
import type { Workgroup } from "../../ir/target.ts";
import { codesOf, type Dot, type RowScales, readsSums, scalesOf, shareOf, weightBytes } from "./dot-group-parts.ts";
import { chooseTokenTile, type TokenTile } from "./dot-token-choice.ts";
import { placeOf, type StagedTile, stagedTile, stageTokens, type TilePlace } from "./dot-token-stage.ts";
import { perGroup } from "./dot-vectors.ts";
import { clampTo, flatten, range } from "./index-math.ts";
import type { Together } from "./writer.ts";

export function lowerDotTokens(dot: Dot, workgroup: Workgroup): void {
  const { w, lead, blocks, groups } = dot;
  const last = lead.at(-1)!;
  const tile = chooseTokenTile({ blocks, groups, tokens: last, block: dot.block, sums: readsSums(dot) }, workgroup);
  w.emit(note(tileNote(tile, dot)));
  const write = tokenTile(dot, tile);
  const atTokens = (idx: readonly Expr[], block: Expr) => (from: Expr) => {
    const whole = last % tile.tokens === 0;
    const token = (t: Expr) => [...idx, whole ? iadd(from, t) : clampTo(iadd(from, t), last)];
    const inside = (t: Expr) => (whole ? undefined : op("lt", iadd(from, t), int(last)));
    w.workgroup(tile.invocations, (together) => write({ block, token, inside }, together));
  };
  const enter = (axis: number, idx: readonly Expr[]): void => {
    if (axis < lead.length - 1) w.loop("nkl"[axis] ?? "l", lead[axis]!, (i) => enter(axis + 1, [...idx, i]), "grid");
    // Workgroups that follow one another read the same weights.
    else
      w.loop(
        "b",
        blocks,
        (block) => w.loop("n", last, atTokens(idx, block), "grid", tile.tokens),
        "grid",
        blocksOf(tile),
      );
  };
  enter(0, []);
}

/** Blocks of rows of a workgroup. */
export const blocksOf = ({ invocations, perBlock, own }: TokenTile): number => (invocations / perBlock) * own;

export function tileNote(tile: TokenTile, { block }: Dot): string {
  const { tokens, perBlock, own, groups } = tile;
  const rows = `${blocksOf(tile)} blocks of ${block} rows`;
  return `tile: ${tokens} tokens by ${rows}, ${perBlock} invocations for ${own}, ${groups} groups at a time`;
}

/** Sums of four tokens each, of the rows that an invocation has. */
type Sums = readonly (readonly Ref[])[];

/** Writes the tile at a place; its memory serves all places of a kernel. */
export function tokenTile(dot: Dot, tile: TokenTile): (place: TilePlace, together: Together) => void {
  const shared = stagedTile(dot, tile);
  return (place, together) => writeTile(shared, place, together);
}

function writeTile(shared: StagedTile, place: TilePlace, together: Together): void {
  const { dot, tile } = shared;
  const { w, blocks, groups, block: rows } = dot;
  const { perBlock, own, tokens } = tile;
  const start = w.bind("start", irem(together.lane, int(perBlock)));
  const first = w.bind("block", iadd(place.block, imul(idiv(together.lane, int(perBlock)), int(own))));
  const all = blocks % blocksOf(tile) === 0;
  const mine = range(own).map((q) => iadd(first, int(q)));
  const ofBlocks = mine.map((each) => (all ? each : w.bind("inside", clampTo(each, blocks))));
  const row = w.bind("own", irem(start, int(rows)));
  const lane: Lane = { start, row, blocks: ofBlocks, token: place.token(int(0)) };
  const sums = range(tokens / 4).map(() => range(own).map(() => w.variable("sum", splat(num("f32", 0), 4))));
  w.loop("g", groups, (g) => addGroups(shared, place, together, lane, sums, g), "serial", tile.groups);
  const over = perBlock / rows;
  const totals = sums.map((each) => each.map((sum) => (over > 1 ? w.combine("total", "add", sum, over, rows) : sum)));
  for (const [q, block] of ofBlocks.entries()) {
    const there = all ? undefined : op("lt", mine[q]!, int(blocks));
    const at = w.bind("row", iadd(imul(block, int(rows)), row));
    for (const [four, each] of totals.entries()) storeTokens(shared, place, { four, row: at, start, there }, each[q]!);
  }
}

/** What an invocation multiplies. */
interface Lane {
  readonly start: Expr;
  /** Its row of each block. */
  readonly row: Expr;
  readonly blocks: readonly Expr[];
  /** Leading indices of one of the tile's tokens, for what all have alike. */
  readonly token: readonly Expr[];
}

/** Adds the products of the groups from `g` that are staged together. */
function addGroups(shared: StagedTile, place: TilePlace, together: Together, lane: Lane, sums: Sums, g: Expr): void {
  const { dot, tile } = shared;
  const { w } = dot;
  const atOnce = tile.perBlock / perGroup;
  stageTokens(shared, place, together, g);
  w.emit(barrier);
  const sub = idiv(lane.start, int(perGroup));
  const step = (from: Expr, each: number) => {
    const loaded = range(each).map((i) => {
      const local = w.bind("staged", iadd(from, iadd(int(i * atOnce), sub)));
      return loadGroup(shared, lane, g, local);
    });
    for (const one of loaded) addProducts(shared, lane, sums, one);
  };
  // Two at a time are on their way from memory; of an odd number one is left.
  const pairs = tile.groups - (tile.groups % (2 * atOnce));
  if (pairs > 0) w.loop("s", pairs, (s) => step(s, 2), "serial", 2 * atOnce);
  if (pairs < tile.groups) step(int(pairs), 1);
  w.emit(barrier);
}

interface LoadedGroup {
  /** The group's number among those staged. */
  readonly local: Expr;
  /** Of each block that the invocation has. */
  readonly bytes: readonly Expr[];
  readonly ofRow: readonly RowScales[];
}

function loadGroup({ dot, tile }: StagedTile, { start, row, blocks, token }: Lane, g: Expr, local: Expr): LoadedGroup {
  const { w, groups } = dot;
  const at = iadd(g, local);
  const group = w.bind("group", groups % tile.groups === 0 ? at : op("min", at, int(groups - 1)));
  const j = w.bind("j", iadd(imul(group, int(perGroup)), irem(start, int(perGroup))));
  return {
    local,
    bytes: blocks.map((block) => weightBytes(dot, token, block, j)),
    ofRow: blocks.map((block) => scalesOf(dot, token, block, group, row, 1)),
  };
}

/** Adds the products of a loaded vector of each block with all tokens of the tile. */
function addProducts(shared: StagedTile, { start }: Lane, sums: Sums, { local, bytes, ofRow }: LoadedGroup): void {
  const { dot, tile, codes: inputs } = shared;
  const { w, bits } = dot;
  const codes = bytes.map((each) => codesOf(dot, each));
  const chunks = bits === 4 ? perGroup : perGroup / 2;
  // Of 8 bits a vector is the first or the second half of its row's group.
  const half = idiv(irem(start, int(perGroup)), int(dot.block));
  const base = w.bind("base", placeOf(tile, local, bits === 4 ? int(0) : imul(half, int(chunks))));
  const shares = shared.sums && ofRow.map((each) => sharesOf(dot, each, half));
  for (const [four, each] of sums.entries()) {
    const dots = each.map(() => w.variable("dot", splat(int(biased), 4)));
    for (const c of range(chunks)) {
      const at = iadd(base, int(16 * ((c * tile.tokens) / 4 + four)));
      const x = w.bind("x", loadBytes(inputs, at, 16));
      for (const [q, sum] of dots.entries()) {
        const spread = intrinsic("spread4", codes[q]![c >> 2]!, int(c & 3));
        w.emit(assign(sum.name, intrinsic("dot4s8", sum, x, spread)));
      }
    }
    const ofTokens = (buf: Buf, hint: string) =>
      w.bind(hint, load(buf, imul(iadd(imul(local, int(tile.tokens / 4)), int(four)), int(4)), 4));
    const scale = ofTokens(shared.scales, "x_scale");
    const total = shared.sums && ofTokens(shared.sums, "x_sum");
    for (const [q, sum] of each.entries()) {
      const factor = op("mul", splat(ofRow[q]!.scale, 4), scale);
      w.emit(assign(sum.name, intrinsic("fma", intrinsic("unbiased", dots[q]!), factor, sum)));
      if (total !== undefined && shares !== undefined)
        w.emit(assign(sum.name, intrinsic("fma", total, splat(shares[q]!, 4), sum)));
    }
  }
}

/** What a group has once counts with the first of its vectors. */
function sharesOf(dot: Dot, scales: RowScales, half: Expr): Expr {
  const share = shareOf(dot, scales);
  return dot.bits === 4 ? share : select(op("eq", half, int(0)), share, num("f32", 0));
}

/** Those who have a row share out its four tokens. */
function storeTokens(
  { dot, tile }: StagedTile,
  { token, inside }: TilePlace,
  { four, row, start, there }: { four: number; row: Expr; start: Expr; there: Expr | undefined },
  total: Expr,
): void {
  const { w, group, lead, blocks, block: rows } = dot;
  const sharing = Math.min(4, tile.perBlock / rows);
  const part = w.bind("part", idiv(start, int(rows)));
  for (const round of range(4 / sharing)) {
    const lanes = range(sharing).map((i) => extract(total, round * sharing + i));
    const mine = lanes.reduceRight((rest, each, i) => select(op("eq", part, int(i)), each, rest));
    const t = iadd(part, int(4 * four + round * sharing));
    const own = sharing * rows === tile.perBlock ? undefined : op("lt", part, int(sharing));
    // What the epilogue sums may stand before the condition: all have a token.
    const inTile = own === undefined ? t : op("min", t, int(tile.tokens - 1));
    const idx = token(inTile).map((i) => w.bind("at", i));
    const stores = w.nested(() => {
      w.hold(group.anchor, () => mine);
      const at = [...idx, row];
      w.emit(store(w.out, flatten(at, [...lead, blocks * rows]), w.value(group.root, at)));
    });
    const conditions = [own, inside(t), there].filter((each) => each !== undefined);
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
