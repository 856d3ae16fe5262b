/**
 * How a chunk of packed weights (16 bytes: four codes, or twice four, of each of four rows) is multiplied with the input's
 * codes, by the products that a device has. Every form gives the same integers.
 */
import { invariant } from "../../ir/errors.ts";
import { type Expr, intrinsic, op } from "../../ir/kernel/kernel.ts";
import type { ByteDots } from "../../ir/target.ts";

/** The products of one chunk for one quad of rows. */
export interface DotProducts {
  /** Quads of rows in a tile of one token, where they are streams of memory, and of several, where they are sums. */
  readonly quads: readonly [one: number, several: number];
  /** What four codes of the input, repeated in every lane, are made into. */
  readonly inputs: (x: Expr) => readonly Expr[];
  /** What a chunk of weights is made into: `half(i)` are its bytes from 8i, `whole` all. */
  readonly weights: (whole: Expr, half: (i: number) => Expr) => readonly Expr[];
  /** Adds a chunk's products to the sums of those before; the first chunk has none, or starts with `start`. */
  readonly step: (sums: readonly Expr[] | undefined, xs: readonly Expr[], ws: readonly Expr[]) => readonly Expr[];
  /** How the zero point's share comes in: as the first sum or at the end, at the end, or not at all. */
  readonly start: "first" | "last" | "none";
  /** A group's sums as one i32x4, a row in each lane. */
  readonly finish: (sums: readonly Expr[]) => Expr;
}

const only = (sums: readonly Expr[]): Expr => sums[0]!;
const nibbles = (whole: Expr): Expr[] => [intrinsic("low4", whole), intrinsic("high4", whole)];
const halves = (x: Expr): Expr[] => [intrinsic("evens", x), intrinsic("odds", x)];

/** Four products at once, added to an i32 of a row. */
const quads = (
  name: "dot4i8" | "dot4u8" | "dot4s8",
  weights: DotProducts["weights"],
  start: DotProducts["start"],
  several: number,
): DotProducts => ({
  quads: [8, several],
  inputs: (x) => [x],
  weights,
  start,
  step: (sums, xs, ws) => {
    invariant(sums !== undefined, () => "a product of four is added to something");
    return [xs.reduce((sum, x, i) => intrinsic(name, sum, x, ws[i]!), only(sums))];
  },
  finish: only,
});

/** Two products at once. A group has 16 per lane of at most 15 * 128, which fit into 16 bits. */
const pairs: DotProducts = {
  quads: [4, 4],
  inputs: (x) => [x],
  weights: nibbles,
  start: "last",
  step: (sums, xs, ws) => {
    const products = xs.map((x, i) => intrinsic("dot2i8", x, ws[i]!));
    return [[...(sums ?? []), ...products].reduce((a, b) => intrinsic("add16", a, b))];
  },
  finish: (sums) => intrinsic("sum2", only(sums)),
};

const addDots = (sum: Expr | undefined, products: readonly Expr[]): Expr =>
  [...(sum === undefined ? [] : [sum]), ...products].reduce((a, b) => op("add", a, b));

/** Codes of 4 bits widened: even and odd codes apart, of the input likewise. */
const smallWords: DotProducts = {
  quads: [4, 4],
  inputs: halves,
  weights: (whole) => nibbles(whole).flatMap(halves),
  start: "first",
  step: (sums, xs, ws) => [
    addDots(
      sums?.[0],
      xs.map((x, i) => intrinsic("dot2i16", x, ws[i]!)),
    ),
  ],
  finish: only,
};

/** Codes of 8 bits widened as they are loaded, two rows at a time: a row's sums lie in two lanes until the end. */
const words: DotProducts = {
  quads: [4, 2],
  inputs: (x) => [intrinsic("widen8", x)],
  weights: (_, half) => [0, 1].map((i) => intrinsic("widen8", half(i))),
  start: "last",
  step: (sums, xs, ws) => ws.map((w, i) => addDots(sums?.[i], [intrinsic("dot2i16", xs[0]!, w)])),
  finish: (sums) => intrinsic("join2", sums[0]!, sums[1]!),
};

const smallForms: Record<ByteDots["small"], DotProducts> = {
  quads: quads("dot4i8", nibbles, "first", 4),
  pairs,
  words: smallWords,
};

const anyForms: Record<ByteDots["any"], DotProducts> = {
  unsigned: quads("dot4u8", (whole) => [whole], "first", 2),
  signed: quads("dot4s8", (whole) => [intrinsic("less128", whole)], "none", 2),
  words,
};

/** The products for codes of 4 or 8 bits. */
export function productsFor(dots: ByteDots, bits: number): DotProducts {
  return bits === 4 ? smallForms[dots.small] : anyForms[dots.any];
}
