/**
 * Where to cut a row of logits, without sorting it: thresholds bracket the cut ever closer, in a fixed number of passes over
 * the vocabulary. The first round tries powers of two, the others divide the numbers between two of these evenly down to
 * single values of f32, so the cut is exact: a logit of the row, but for rows whose cut lies within 2^-23 of the largest.
 *
 * Letters: n tokens, v vocabulary, b blocks of s logits each, t thresholds.
 */
import type { Maths } from "../../ir/build.ts";
import type { Node } from "../../ir/graph.ts";

/** Below this all logits are taken for one: exp of it is 0 in f32. */
const lowestPower = 7;
const thresholds = 32;
/** Shares of the power of two found, by which thresholds of the later rounds lie apart: 23 bits of mantissa in all. */
const shares = [2 ** -6, 2 ** -11, 2 ** -16, 2 ** -21, 2 ** -24];

/**
 * The highest value at which what `weigh` gives of the values from there on is at least `wanted` together: f32 [n]. Values
 * [n, v] are at most 0; what is below -128 is never looked at.
 */
export function cutAt(m: Maths, values: Node, wanted: Node, weigh: (values: Node) => Node): Node {
  const n = values.type.shape[0]!;
  const index = m.iota("f32", [n, thresholds], 1);
  const best = (tried: Node, least: Node | number) =>
    m.reduceMax(m.select(leavesEnough(m, values, wanted, tried, weigh), tried, least)); // [n]
  const power = m.named("power", best(m.named("tried", powers(m, index)), -(2 ** lowestPower)));
  let low: Node = power;
  for (const share of shares) {
    const tried = m.sub(m.expandLast(low), m.mul(m.mul(index, share), m.expandLast(power)));
    low = m.named("low", best(m.named("tried", tried), m.broadcast(m.expandLast(low), tried.type.shape)));
  }
  return low;
}

/** -(2^(7 - i)) for i = 0 .. 30, and 0 for 31: products of powers of two, which are exact. */
function powers(m: Maths, index: Node): Node {
  const { shape } = index.type;
  let rest = index;
  let power: Node = m.full("f32", shape, -(2 ** lowestPower));
  for (const bit of [16, 8, 4, 2, 1]) {
    const set = m.ge(rest, bit);
    power = m.mul(power, m.select(set, m.full("f32", shape, 2 ** -bit), 1));
    rest = m.sub(rest, m.select(set, m.full("f32", shape, bit), 0));
  }
  return m.select(m.ge(index, thresholds - 1), m.full("f32", shape, 0), power);
}

/** Whether what lies from each of the thresholds [n, t] on is enough: bool [n, t]. */
function leavesEnough(m: Maths, values: Node, wanted: Node, tried: Node, weigh: (values: Node) => Node): Node {
  const [n, length] = values.type.shape as [number, number]; // of rank 2
  const over = m.ge(m.reshape(values, [n, 1, length]), m.expandLast(tried)); // [n, t, v]
  const weight = m.broadcast(m.reshape(weigh(values), [n, 1, length]), [n, thresholds, length]);
  const mass = m.named("mass", sumInParts(m, m.select(over, weight, 0))); // [n, t]
  return m.ge(mass, m.expandLast(wanted));
}

/** Parts of a vocabulary that GPUs add up beside each other, best first. */
const parts = [16, 32, 8, 64];

/** f32 [.., v] -> [..]: the sum of each row, first of parts of it: a row alone does not keep a GPU busy. */
export function sumInParts(m: Maths, x: Node): Node {
  const { shape } = x.type;
  const length = shape.at(-1)!;
  const count = parts.find((each) => length % each === 0 && length / each >= 256);
  if (count === undefined) return m.reduceSum(x);
  return m.reduceSum(m.named("part_sums", m.reduceSum(m.reshape(x, [...shape.slice(0, -1), count, length / count]))));
}

/** The id of the `needed`-th of the logits [n, b, s] that equal `value`, in order of id, at least of the first: i32 [n]. */
export function lowestEquals(m: Maths, logits: Node, value: Node, needed: Node): Node {
  const [n, count, size] = logits.type.shape as [number, number, number]; // of rank 3
  const target = m.sub(m.max(m.neg(m.floor(m.neg(needed))), 1), 0.5); // half a token below the next whole number
  const equal = m.select(m.eq(logits, m.expandLast(value, 2)), m.full("f32", logits.type.shape, 1), 0);
  const counts = m.named("equals", m.reduceSum(equal)); // [n, b]
  const reached = m.named("equals_to", sumsUpTo(m, counts)); // [n, b]
  const block = m.named("equals_block", firstAbove(m, reached, counts, target)); // [n]
  const before = m.reshape(m.slice(m.concat(1, m.full("f32", [n, 1], 0), reached), 1, 0, count), [n * count, 1]);
  const start = m.reshape(m.gather(before, m.add(m.mul(m.iota("i32", [n], 0), count), block)), [n]);
  const row = rowAt(m, equal, block); // [n, s]
  return m.named("equals_last", m.add(m.mul(block, size), firstAbove(m, sumsUpTo(m, row), row, m.sub(target, start))));
}

/** Row `block` of each row's blocks: [n, b, s] and i32 [n] -> [n, s]. */
export function rowAt(m: Maths, blocks: Node, block: Node): Node {
  const [n, count, size] = blocks.type.shape as [number, number, number]; // of rank 3
  const first = m.mul(m.iota("i32", [n], 0), count);
  return m.gather(m.reshape(blocks, [n * count, size]), m.add(first, block));
}

/** [n, c] -> [n, c]: the sum of each row's elements up to each of them, added in one order whichever is asked for. */
export function sumsUpTo(m: Maths, x: Node): Node {
  const [n, count] = x.type.shape as [number, number]; // of rank 2
  const shape = [n, count, count];
  const upTo = m.le(m.iota("i32", shape, 2), m.iota("i32", shape, 1));
  return m.reduceSum(m.select(upTo, m.broadcast(m.reshape(x, [n, 1, count]), shape), 0));
}

/** i32 [n]: the first element whose sum is above the target; never one of weight 0, however sums were rounded. */
export function firstAbove(m: Maths, sums: Node, weights: Node, target: Node): Node {
  const { shape } = sums.type;
  const ones = m.full("f32", shape, 1);
  const passed = m.reduceSum(m.select(m.le(sums, m.expandLast(target)), ones, 0)); // [n]
  const last = m.reduceMax(m.select(m.gt(weights, 0), m.iota("f32", shape, 1), 0)); // [n]
  return m.cast(m.min(passed, last), "i32");
}
