/**
 * How a chunk of packed weights (16 bytes: four codes of each of four rows, or, two codes to a byte, of eight) is
 * multiplied with the input's codes, by the products that a device has. Every form gives the same integers.
 */
import { biased } from "../../ir/kernel/intrinsics.ts";
import { cast, type Expr, int, intrinsic, op, splat } from "../../ir/kernel/kernel.ts";
import { pairBits } from "../../ir/ops/dot.ts";
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
  /** What 16 codes of the input are made into before four are repeated. Default: they stay as they are. */
  readonly prepared?: (x: Expr) => readonly Expr[];
  /** What four codes of the input, repeated in every lane, are made into. */
  readonly inputs: (x: Expr) => readonly Expr[];
  /** What a chunk of weights is taken apart into; undefined where its bytes are used as they lie. */
  readonly unpack: Unpack | undefined;
  /** What is multiplied, of what `unpack` has made; `half(i)` are a chunk's bytes from 8i. */
  readonly weights: (bytes: readonly Expr[], half: (i: number) => Expr) => readonly Expr[];
  /** Adds a chunk's products to the sums of those before; the first chunk has none, or starts with `start`. */
  readonly step: (sums: readonly Expr[] | undefined, xs: readonly Expr[], ws: readonly Expr[]) => readonly Expr[];
  /**
   * How the zero point's share comes in: in the first sums (so many times each) or at the end, or not at all. `negatives`: at
   * the end comes what magnitudes of negative inputs add up to.
   */
  readonly start: readonly number[] | "last" | "negatives" | "none";
  /** What first sums are greater by, which `finish` takes away. */
  readonly bias: number;
  /**
   * Whether four codes of the input are repeated in every lane as they are loaded, or from a register that holds 16, or
   * are loaded from a table of 16-bit integers, even and odd codes apart; or 16 are taken as they lie.
   */
  readonly spread: "loaded" | "register" | "widened" | "whole";
  /** A group's sums as one f32x4 for each four rows. */
  readonly finish: (sums: readonly Expr[]) => readonly Expr[];
  /** What the sums of each four rows are to be multiplied by: a power of two. */
  readonly factors: readonly number[];
}

/** How many vectors of bytes a chunk is taken apart into, their type, and how. */
export interface Unpack {
  readonly vectors: number;
  readonly dtype: "i8" | "u8";
  readonly of: (whole: Expr) => readonly Expr[];
}

const nibbles: Unpack = {
  vectors: 2,
  dtype: "u8",
  of: (whole) => [intrinsic("low4", whole), intrinsic("high4", whole)],
};
const asItIs = (x: Expr): readonly Expr[] => [x];
const asTheyAre = (bytes: readonly Expr[]): readonly Expr[] => bytes;
const halves = (x: Expr): Expr[] => [intrinsic("evens", x), intrinsic("odds", x)];

/** Four products at once, added to an i32 of a row; `ws` are as many vectors as there are sums. */
const quads = (
  name: "dot4i8" | "dot4u8" | "dot4s8",
  parts: Pick<DotProducts, "unpack" | "start"> & Partial<DotProducts>,
): DotProducts => ({
  one: tile(8, 4),
  several: tile(2, 2),
  inputs: (x) => [x],
  weights: asTheyAre,
  step: (sums, [x], ws) => ws.map((w, i) => intrinsic(name, sums?.[i] ?? splat(int(0), 4), x!, w)),
  bias: 0,
  spread: "register",
  finish: (sums) => sums.map((sum) => cast("f32", sum)),
  factors: [1],
  ...parts,
});

const smallQuads = quads("dot4i8", { unpack: nibbles, start: [1, 1], factors: [1, 1] });

/**
 * Where the instruction takes any unsigned bytes, the upper halves are multiplied where they are, and the lower ones are
 * not taken out either: what the upper ones add to the products of whole bytes is what their own products are.
 */
const wholeBytes = quads("dot4u8", {
  unpack: { vectors: 2, dtype: "u8", of: (whole) => [whole, intrinsic("top4", whole)] },
  start: [17, 16],
  finish: ([both, high]) => [cast("f32", op("sub", both!, high!)), cast("f32", high!)],
  factors: [1, 1 / 16],
});
/**
 * For several tokens sums begin with the bits of a large f32, so that a subtraction makes numbers of them: the ports that
 * convert are those that multiply. The input is spread as it is loaded, which leaves registers and ports free.
 */
const asFloats = {
  bias: biased,
  spread: "loaded",
  finish: (sums: readonly Expr[]) => sums.map((sum) => intrinsic("unbiased", sum)),
} as const;
/** The halves are taken out once for all tokens. */
const manyNibbles = quads("dot4i8", {
  ...asFloats,
  unpack: nibbles,
  start: [1, 1],
  factors: [1, 1],
  several: tile(1, 1),
});

/** Two products at once. A group has 16 per lane of at most 15 * 128, which fit into 16 bits. */
const pairs: DotProducts = {
  one: tile(4, 4),
  several: tile(1, 1),
  inputs: (x) => [x],
  unpack: nibbles,
  weights: asTheyAre,
  start: "last",
  step: (sums, [x], ws) =>
    ws.map((w, i) => {
      const products = intrinsic("dot2i8", x!, w);
      return sums === undefined ? products : intrinsic("add16", sums[i]!, products);
    }),
  bias: 0,
  spread: "register",
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
  unpack: nibbles,
  weights: (bytes) => bytes.flatMap(halves),
  start: [1, 1],
  step: (sums, xs, ws) =>
    [0, 1].map((i) =>
      addDots(
        sums?.[i],
        xs.map((x, half) => intrinsic("dot2i16", x, ws[2 * i + half]!)),
      ),
    ),
  bias: 0,
  spread: "register",
  finish: (sums) => sums.map((sum) => cast("f32", sum)),
  factors: [1, 1],
};

/** Codes of 8 bits widened as they are loaded, two rows at a time: a row's sums lie in two lanes until the end. */
const words: DotProducts = {
  one: tile(4, 4),
  several: tile(2, 2),
  inputs: (x) => [intrinsic("widen8", x)],
  unpack: undefined,
  weights: (_, half) => [0, 1].map((i) => intrinsic("widen8", half(i))),
  start: "last",
  step: (sums, xs, ws) => ws.map((w, i) => addDots(sums?.[i], [intrinsic("dot2i16", xs[0]!, w)])),
  bias: 0,
  spread: "register",
  finish: (sums) => [cast("f32", intrinsic("join2", sums[0]!, sums[1]!))],
  factors: [1],
};

/**
 * Codes of 8 bits for one token: signs of inputs are moved to the weights, of which a negative one is its complement, so that
 * a factor is left that is positive. What that is too little by, 1 times each magnitude, is of the input alone.
 */
const magnitudes: DotProducts = {
  ...words,
  one: tile(4, 4),
  prepared: (x) => [intrinsic("magnitudes", x), intrinsic("flips", x)],
  inputs: asItIs,
  weights: asTheyAre,
  start: "negatives",
  step: (sums, [x, flips], [w]) => [
    addDots(sums?.[0], [intrinsic("sum2", intrinsic("dot2u8", intrinsic("flipped", w!, flips!), x!))]),
  ],
  finish: ([total]) => [cast("f32", total!)],
};

/**
 * For many tokens: what `unpack` makes of a chunk, four rows each, is widened in the panel, the input in a table; even and
 * odd codes apart, so that a row's sum lies in one lane. Two multiplications and two additions for 16 products, which is
 * as many as products of halves would take, and one conversion a group.
 */
const widened = ({ vectors, of }: Unpack, parts: Pick<DotProducts, "several" | "start" | "factors">): DotProducts => ({
  ...smallWords,
  spread: "widened",
  unpack: {
    vectors: 2 * vectors,
    dtype: "u8",
    of: (whole) => of(whole).flatMap((codes) => halves(codes).map((half) => intrinsic("asBytes", half))),
  },
  weights: (bytes) => bytes.map((half) => intrinsic("asWords", half)),
  step: (sums, xs, ws) =>
    parts.factors.map((_, i) =>
      addDots(
        sums?.[i],
        xs.map((x, half) => intrinsic("dot2i16", x, ws[2 * i + half]!)),
      ),
    ),
  ...parts,
});
const signedBytes: Unpack = { vectors: 1, dtype: "i8", of: (whole) => [intrinsic("less128", whole)] };
const manyWords = widened(signedBytes, { several: tile(2, 2), start: "none", factors: [1] });
const manySmallWords = widened(nibbles, { several: tile(1, 1), start: [1, 1], factors: [1, 1] });

const anyBytes = { unpack: undefined, start: [1] } as const;
const manyBytes = quads("dot4u8", { ...anyBytes, ...asFloats });

const anyForms: Record<Exclude<ByteDots["any"], "words" | "pairs">, DotProducts> = {
  unsigned: quads("dot4u8", anyBytes),
  signed: quads("dot4s8", {
    unpack: signedBytes,
    start: "none",
  }),
};

/**
 * Pairs of codes: what they are multiplied with is chosen from the input, so that there are half as many products. Weights
 * are even codes, odd codes, and where their inputs are.
 */
const chosenPairs: DotProducts = {
  ...smallWords,
  inputs: asItIs,
  unpack: undefined,
  weights: ([bytes, places]) => [...halves(intrinsic("less128", bytes!)), places!],
  start: "none",
  step: (sums, [x], [even, odd, places]) => {
    const own = halves(intrinsic("choose16", x!, places!));
    return [
      addDots(
        sums?.[0],
        own.map((each, i) => intrinsic("dot2i16", each, [even!, odd!][i]!)),
      ),
    ];
  },
  spread: "whole",
  factors: [1],
};

/** For how many tokens a kernel is: tiles of several may be so many that it pays to widen their codes before. */
export type TokenCount = "one" | "several" | "many";

/** The products for codes of 4 or 8 bits, or pairs of these. */
export function productsFor(dots: ByteDots, bits: number, count: TokenCount): DotProducts {
  const several = count !== "one";
  if (bits === pairBits) return chosenPairs;
  if (bits === 8) {
    if (dots.any === "pairs" && !several) return magnitudes;
    if (dots.any === "words" || dots.any === "pairs") return count === "many" ? manyWords : words;
    return dots.any === "unsigned" && several ? manyBytes : anyForms[dots.any];
  }
  if (dots.small === "quads") return several ? manyNibbles : dots.any === "unsigned" ? wholeBytes : smallQuads;
  if (dots.small === "pairs") return pairs;
  return count === "many" ? manySmallWords : smallWords;
}
