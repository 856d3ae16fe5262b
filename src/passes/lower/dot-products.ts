/**
 * How a chunk of packed weights (16 bytes: four codes of each of four rows, or, two codes to a byte, of eight) is
 * multiplied with the input's codes, by the products that a device has. Every form gives the same integers.
 */
import { cast, type Expr, int, intrinsic, op, splat } from "../../ir/kernel/kernel.ts";
import type { ByteDots } from "../../ir/target.ts";

interface Tile {
  /** Blocks of rows: streams of memory for one token; for several, what shares the reading of inputs. */
  readonly blocks: number;
  /** Blocks whose products are made at once: as many as their sums find registers. */
  readonly together: number;
}

const tile = (blocks: number, together: number): Tile => ({ blocks, together });

/** The products of one chunk for one block of rows. Rows come in fours, whose sums lie in the lanes of a vector. */
export interface DotProducts {
  /** For one token, and for tiles of several. */
  readonly one: Tile;
  readonly several: Tile;
  /** What four codes of the input, repeated in every lane, are made into. */
  readonly inputs: (x: Expr) => readonly Expr[];
  /** What a chunk of weights is made into: `half(i)` are its bytes from 8i, `whole` all. */
  readonly weights: (whole: Expr, half: (i: number) => Expr) => readonly Expr[];
  /** Adds a chunk's products to the sums of those before; the first chunk has none, or starts with `start`. */
  readonly step: (sums: readonly Expr[] | undefined, xs: readonly Expr[], ws: readonly Expr[]) => readonly Expr[];
  /** How the zero point's share comes in: in the first sums (so many times each) or at the end, or not at all. */
  readonly start: readonly number[] | "last" | "none";
  /** A group's sums as one f32x4 for each four rows. */
  readonly finish: (sums: readonly Expr[]) => readonly Expr[];
  /** What the sums of each four rows are to be multiplied by: a power of two. */
  readonly factors: readonly number[];
}

const nibbles = (whole: Expr): Expr[] => [intrinsic("low4", whole), intrinsic("high4", whole)];
const halves = (x: Expr): Expr[] => [intrinsic("evens", x), intrinsic("odds", x)];

/** Four products at once, added to an i32 of a row; `ws` are as many vectors as there are sums. */
const quads = (
  name: "dot4i8" | "dot4u8" | "dot4s8",
  parts: Pick<DotProducts, "weights" | "start"> & Partial<DotProducts>,
): DotProducts => ({
  one: tile(8, 4),
  several: tile(2, 2),
  inputs: (x) => [x],
  step: (sums, [x], ws) => ws.map((w, i) => intrinsic(name, sums?.[i] ?? splat(int(0), 4), x!, w)),
  finish: (sums) => sums.map((sum) => cast("f32", sum)),
  factors: [1],
  ...parts,
});

const smallQuads = quads("dot4i8", { weights: nibbles, start: [1, 1], factors: [1, 1] });

/**
 * Where the instruction takes any unsigned bytes, the upper halves are multiplied where they are, and the lower ones are
 * not taken out either: what the upper ones add to the products of whole bytes is what their own products are.
 */
const wholeBytes = quads("dot4u8", {
  weights: (whole) => [whole, intrinsic("top4", whole)],
  start: [17, 16],
  finish: ([both, high]) => [cast("f32", op("sub", both!, high!)), cast("f32", high!)],
  factors: [1, 1 / 16],
});
/** For several tokens the halves are taken out once for all; the zero point's share comes in f32, where additions are cheap. */
const manyNibbles = quads("dot4i8", { weights: nibbles, start: "last", factors: [1, 1] });

/** Two products at once. A group has 16 per lane of at most 15 * 128, which fit into 16 bits. */
const pairs: DotProducts = {
  one: tile(4, 4),
  several: tile(2, 2),
  inputs: (x) => [x],
  weights: nibbles,
  start: "last",
  step: (sums, [x], ws) =>
    ws.map((w, i) => {
      const products = intrinsic("dot2i8", x!, w);
      return sums === undefined ? products : intrinsic("add16", sums[i]!, products);
    }),
  finish: (sums) => sums.map((sum) => cast("f32", intrinsic("sum2", sum))),
  factors: [1, 1],
};

const addDots = (sum: Expr | undefined, products: readonly Expr[]): Expr =>
  [...(sum === undefined ? [] : [sum]), ...products].reduce((a, b) => op("add", a, b));

/** Codes of 4 bits widened: even and odd codes apart, of the input likewise. */
const smallWords: DotProducts = {
  one: tile(4, 4),
  several: tile(2, 2),
  inputs: halves,
  weights: (whole) => nibbles(whole).flatMap(halves),
  start: [1, 1],
  step: (sums, xs, ws) =>
    [0, 1].map((i) =>
      addDots(
        sums?.[i],
        xs.map((x, half) => intrinsic("dot2i16", x, ws[2 * i + half]!)),
      ),
    ),
  finish: (sums) => sums.map((sum) => cast("f32", sum)),
  factors: [1, 1],
};

/** Codes of 8 bits widened as they are loaded, two rows at a time: a row's sums lie in two lanes until the end. */
const words: DotProducts = {
  one: tile(4, 4),
  several: tile(2, 2),
  inputs: (x) => [intrinsic("widen8", x)],
  weights: (_, half) => [0, 1].map((i) => intrinsic("widen8", half(i))),
  start: "last",
  step: (sums, xs, ws) => ws.map((w, i) => addDots(sums?.[i], [intrinsic("dot2i16", xs[0]!, w)])),
  finish: (sums) => [cast("f32", intrinsic("join2", sums[0]!, sums[1]!))],
  factors: [1],
};

const anyBytes = { weights: (whole: Expr) => [whole], start: [1] } as const;
const manyBytes = quads("dot4u8", { ...anyBytes, start: "last" });

const anyForms: Record<ByteDots["any"], DotProducts> = {
  unsigned: quads("dot4u8", anyBytes),
  signed: quads("dot4s8", { weights: (whole) => [intrinsic("less128", whole)], start: "none" }),
  words,
};

/** The products for codes of 4 or 8 bits, and one token or several. */
export function productsFor(dots: ByteDots, bits: number, several: boolean): DotProducts {
  if (bits === 8) return dots.any === "unsigned" && several ? manyBytes : anyForms[dots.any];
  if (dots.small === "quads") return several ? manyNibbles : dots.any === "unsigned" ? wholeBytes : smallQuads;
  return dots.small === "pairs" ? pairs : smallWords;
}
