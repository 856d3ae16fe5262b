/**
 * Where to cut a row of logits, without sorting it: thresholds bracket the cut ever closer, in a fixed number of passes over
 * the vocabulary. The first round tries powers of two, the others divide the numbers between two of these evenly down to
 * single values of f32, so the cut is exact: a logit of the row, but for rows whose cut lies within 2^-23 of the largest.
 *
 * Letters: n tokens, v vocabulary, p parts of it, t thresholds.
 */
import type { Maths } from "../../ir/build.ts";
import type { Node } from "../../ir/graph.ts";

/** Below this all logits are taken for one: exp of it is 0 in f32. */
const lowestPower = 7;
const thresholds = 32;
/** Shares of the power of two found, by which thresholds of the later rounds lie apart: 23 bits of mantissa in all. */
const shares = [2 ** -6, 2 ** -11, 2 ** -16, 2 ** -21, 2 ** -24];
/** More than any weight; less than infinity when multiplied by a few. */
const huge = 1e37;

/** f32 [n] each. */
export interface Cut {
  /** The highest value at which what weighs as much as is wanted lies from there on; the lowest that is tried where nothing does. */
  readonly at: Node;
  /** What all weigh together. */
  readonly total: Node;
  /** What was asked for. */
  readonly wanted: Node;
  /** What weighs all above the cut, and all from it on: what is wanted lies between, or is more than there is. */
  readonly above: Node;
  readonly from: Node;
}

/**
 * The cut of values [n, v] by their weights [n, v]. Values are at most 0; what is below -128 is never looked at, and has no
 * weight.
 */
export function cutAt(m: Maths, values: Node, weights: Node, wantedOf: (total: Node) => Node): Cut {
  const n = values.type.shape[0]!;
  const index = m.iota("f32", [n, thresholds], 1);
  let tried = m.named("tried", powers(m, n));
  let mass = massesFrom(m, values, weights, tried);
  const total = m.named("total", m.reshape(m.slice(mass, 1, 0, 1), [n]));
  const wanted = m.named("wanted", wantedOf(total));
  const enough = () => m.ge(mass, m.expandLast(wanted));
  const power = m.named("power", m.reduceMax(m.select(enough(), tried, -(2 ** lowestPower))));
  let at = power;
  for (const share of shares) {
    tried = m.named("tried", m.sub(m.expandLast(at), m.mul(m.mul(index, share), m.expandLast(power))));
    mass = massesFrom(m, values, weights, tried);
    at = m.named("low", m.reduceMax(m.select(enough(), tried, m.expandLast(at))));
  }
  // The last thresholds are neighbours in f32, so that the next above the cut says what lies above it.
  const above = m.named("above", m.reduceMax(m.select(enough(), 0, mass)));
  const from = m.named("from", m.neg(m.reduceMax(m.select(enough(), m.neg(mass), -huge))));
  return { at, total, wanted, above, from };
}

/** -(2^(7 - i)) for i = 0 .. 30, and 0 for 31: products of powers of two, which are exact. */
function powers(m: Maths, n: number): Node {
  const index = m.iota("i32", [n, thresholds], 1);
  const power = [16, 8, 4, 2, 1].reduce(
    (product: Node, bit) => {
      const set = m.eq(m.rem(m.div(index, bit), 2), 1);
      return m.mul(product, m.select(set, m.full("f32", index.type.shape, 2 ** -bit), 1));
    },
    m.full("f32", index.type.shape, -(2 ** lowestPower)),
  );
  return m.select(m.ge(index, thresholds - 1), 0, power);
}

/** f32 [n, t]: what weigh the values from each of the thresholds [n, t] on. */
function massesFrom(m: Maths, values: Node, weights: Node, tried: Node): Node {
  const [n, length] = values.type.shape as [number, number]; // of rank 2
  const parts = partsOf(length);
  const inParts = (x: Node) => m.reshape(x, [n, parts, 1, length / parts]);
  const over = m.ge(inParts(values), m.reshape(tried, [n, 1, thresholds, 1])); // [n, p, t, v / p]
  const sums = m.named("part_sums", m.reduceSum(m.select(over, inParts(weights), 0))); // [n, p, t]
  return m.named("mass", m.reduceSum(m.transpose(sums, [0, 2, 1])));
}

/** Most parts of a vocabulary that are added up beside each other, and the least length of one. */
const mostParts = 128;
const leastPart = 256;

/** In how many parts of one length a vocabulary is added up: a row alone does not keep a GPU busy. */
export function partsOf(length: number): number {
  for (let parts = Math.min(mostParts, Math.floor(length / leastPart)); parts > 1; parts--)
    if (length % parts === 0) return parts;
  return 1;
}
