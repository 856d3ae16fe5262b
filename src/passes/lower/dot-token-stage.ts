/**
 * What a workgroup that multiplies for several tokens has in shared memory: their codes, scales and sums of some groups, those
 * of four tokens side by side.
 */
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
} from "../../ir/kernel/kernel.ts";
import { store } from "../../ir/kernel/stmt.ts";
import { dotGroup } from "../../ir/ops/dot.ts";
import { bytesAt, type Dot, inputScaleAt, inputSumAt, readsSums } from "./dot-group-parts.ts";
import type { TokenTile } from "./dot-token-choice.ts";
import { perGroup } from "./dot-vectors.ts";
import { range } from "./index-math.ts";
import { shareOut } from "./share-out.ts";
import type { Together } from "./writer.ts";

/** The place of a workgroup. */
export interface TilePlace {
  /** Its first block of rows. */
  readonly block: Expr;
  /** The leading indices of a token of the tile, clamped to those there are. */
  readonly token: (t: Expr) => readonly Expr[];
  /** Whether it is one; undefined where all are. */
  readonly inside: (t: Expr) => Expr | undefined;
}

export interface StagedTile {
  readonly dot: Dot;
  readonly tile: TokenTile;
  /** [group, chunk of four codes, four tokens], 16 bytes each, and [group, token]. */
  readonly codes: Buf;
  readonly scales: Buf;
  readonly sums: Buf | undefined;
}

/** Its memory serves all places of a kernel. */
export function stagedTile(dot: Dot, tile: TokenTile): StagedTile {
  const { w } = dot;
  const floats = (hint: string) => w.shared(hint, "f32", tile.tokens * tile.groups);
  return {
    dot,
    tile,
    codes: w.shared("tile_x", "i8", 16 * groupVectors(tile) * tile.groups),
    scales: floats("tile_x_scales"),
    sums: readsSums(dot) ? floats("tile_x_sums") : undefined,
  };
}

/** Vectors from one group to the next: one more than there are, so that banks differ. */
const groupVectors = ({ tokens }: TokenTile): number => (perGroup * tokens) / 4 + 1;

/** Brings the tile's codes, scales and sums of groups from `g` to shared memory. */
export function stageTokens(
  { dot, tile, codes, scales, sums }: StagedTile,
  { token }: TilePlace,
  together: Together,
  g: Expr,
): void {
  const { w, groups } = dot;
  const sixteens = (dotGroup / 16) * tile.groups;
  const whole = groups % tile.groups === 0;
  const tokenOf = (four: Expr, t: number) => token(iadd(imul(four, int(4)), int(t)));
  shareOut(w, together, (tile.tokens / 4) * sixteens, (i) => {
    const [j, four] = [w.bind("j", irem(i, int(sixteens))), w.bind("four", idiv(i, int(sixteens)))];
    const sixteen = iadd(imul(g, int(2)), j);
    const k = imul(whole ? sixteen : op("min", sixteen, int(2 * groups - 1)), int(16));
    const ofTokens = range(4).map((t) => w.bind("x", bytesAt(dot, 0, tokenOf(four, t), k, 16)));
    const first = w.bind(
      "at",
      iadd(placeOf(tile, idiv(j, int(2)), imul(irem(j, int(2)), int(4))), imul(four, int(16))),
    );
    for (const c of range(4)) {
      const words = ofTokens.map((x) => intrinsic("part4", x, int(c)));
      w.emit(store(codes, iadd(first, int(4 * c * tile.tokens)), intrinsic("join4", ...words)));
    }
  });
  stageInputScales(dot, tile, token, { scales, sums }, together, g);
}

interface InputScales {
  /** [group, token] */
  readonly scales: Buf;
  readonly sums: Buf | undefined;
}

/** Brings the scales, and the sums, of some groups from `g` to shared memory, those of four tokens at a time. */
export function stageInputScales(
  dot: Dot,
  size: { readonly tokens: number; readonly groups: number },
  token: TilePlace["token"],
  { scales, sums }: InputScales,
  together: Together,
  g: Expr,
): void {
  const { w, groups } = dot;
  const fours = size.tokens / 4;
  const whole = groups % size.groups === 0;
  shareOut(w, together, fours * size.groups, (i) => {
    const [four, local] = [w.bind("four", irem(i, int(fours))), idiv(i, int(fours))];
    const group = w.bind("group", iadd(g, local));
    const there = op("lt", group, int(groups));
    const inside = whole ? group : op("min", group, int(groups - 1));
    // What is past the last group comes to nothing.
    const put = (buf: Buf, at: (idx: readonly Expr[]) => Expr) => {
      const each = range(4).map((t) => {
        const value = at(token(iadd(imul(four, int(4)), int(t))));
        return w.bind("x_scale", whole ? value : select(there, value, num("f32", 0)));
      });
      w.emit(store(buf, imul(i, int(4)), intrinsic("join4", ...each)));
    };
    put(scales, (idx) => inputScaleAt(dot, idx, inside));
    if (sums !== undefined) put(sums, (idx) => inputSumAt(dot, idx, inside));
  });
}

/** The first byte of a chunk of a staged group. */
export const placeOf = (tile: TokenTile, group: Expr, chunk: Expr): Expr =>
  imul(iadd(imul(group, int(groupVectors(tile))), imul(chunk, int(tile.tokens / 4))), int(16));
