/**
 * From logits to tokens as tensor ops, so that a device can feed the next step itself: the largest logit, or a draw with
 * temperature, min-p, top-k and top-p, the way `runtime/sampler.ts` does it in doubles. Where that takes tokens in order of
 * their logits, this searches for the logit at which to cut, by thresholds that bracket it ever closer: no sort, and a fixed
 * number of passes over the vocabulary. Tokens nearer to the cut than `resolution` may be taken for one another.
 *
 * Letters: n tokens, v vocabulary, b blocks of s logits each.
 */
import type { Maths } from "../../ir/build.ts";
import type { Node } from "../../ir/graph.ts";

/** What the rows of a step ask for together; a row that does not ask for one of these has a neutral number. */
export interface SamplerKind {
  /** False takes the largest logit and has no use for the rest. */
  readonly draws: boolean;
  readonly topK: boolean;
  readonly topP: boolean;
}

/** Columns of the options f32 [n, 4] of a drawing sampler; `floor` is ln(minP), or very low. */
export const samplerColumns = ["temperature", "floor", "topK", "topP"] as const;

export interface SamplerInputs {
  /** f32 [n, v] */
  readonly logits: Node;
  /** f32 [n], in [0, 1). */
  readonly uniform: Node;
  /** f32 [n, 4], see `samplerColumns`. */
  readonly options: Node;
}

/** Lower than any logit divided by a temperature that matters; not an infinity, which GPUs may take as absent. */
const lowest = -3.4028234663852886e38;
/** exp of this is 0 in f32. */
const vanishing = -104;
const thresholds = 32;
const rounds = 4;
/** How near to each other two cuts can be told apart. */
export const resolution = -vanishing / thresholds ** rounds;

/** i32 [n]: the token of each row; -1 where its logits hold NaN or the largest of them is no number. */
export function sampleTokens(m: Maths, kind: SamplerKind, { logits, uniform, options }: SamplerInputs): Node {
  const blocks = blocksOf(m, logits); // [n, b, s]
  // A NaN counts as the largest here, so that it shows.
  const most = m.named("block_most", m.reduceMax(m.select(m.eq(blocks, blocks), blocks, -lowest))); // [n, b]
  const top = m.named("top", m.reduceMax(most)); // [n]
  const fine = m.lt(m.abs(top), -lowest);
  const token = kind.draws ? draw(m, kind, { blocks, top, uniform, options }) : largest(m, blocks, most);
  return m.named("next", m.select(fine, token, -1));
}

/** The logits in blocks of about equal count and length, filled up at the end where the vocabulary has no such divisors. */
function blocksOf(m: Maths, logits: Node): Node {
  const [n, v] = logits.type.shape as [number, number]; // of rank 2
  const root = Math.sqrt(v);
  const sizes = Array.from({ length: Math.ceil(8 * root) }, (_, i) => i + 1);
  const distance = (size: number) => Math.abs(Math.log(size / root));
  const [best] = sizes.filter((size) => v % size === 0 && size > root / 8).sort((a, b) => distance(a) - distance(b));
  const size = best ?? Math.ceil(root);
  const count = Math.ceil(v / size);
  const missing = count * size - v;
  const filled = missing === 0 ? logits : m.concat(1, logits, m.full("f32", [n, missing], lowest));
  return m.reshape(filled, [n, count, size]);
}

/** Row `block` of each row's blocks: [n, b, s] and i32 [n] -> [n, s]. */
function rowAt(m: Maths, blocks: Node, block: Node): Node {
  const [n, count, size] = blocks.type.shape as [number, number, number]; // of rank 3
  const first = m.mul(m.iota("i32", [n], 0), count);
  return m.gather(m.reshape(blocks, [n * count, size]), m.add(first, block));
}

/** The lowest id of the largest logit: it is in the first block that holds it. */
function largest(m: Maths, blocks: Node, most: Node): Node {
  const size = blocks.type.shape[2]!;
  const block = m.named("block", m.argMax(most)); // [n]
  return m.add(m.mul(block, size), m.argMax(rowAt(m, blocks, block)));
}

interface Draw {
  readonly blocks: Node;
  readonly top: Node;
  readonly uniform: Node;
  readonly options: Node;
}

/** Inverse of the cumulative softmax at `uniform`, tokens in order of id. */
function draw(m: Maths, kind: SamplerKind, { blocks, top, uniform, options }: Draw): Node {
  const [n, count, size] = blocks.type.shape as [number, number, number]; // of rank 3
  const column = (name: (typeof samplerColumns)[number]) => {
    const at = samplerColumns.indexOf(name);
    return m.reshape(m.slice(options, 1, at, at + 1), [n]);
  };
  const below = m.sub(blocks, m.expandLast(top, 2));
  const scaled = m.named("scaled", m.div(below, m.expandLast(column("temperature"), 2))); // [n, b, s], at most 0
  const flat = m.reshape(scaled, [n, count * size]);
  let floor = column("floor"); // [n]
  if (kind.topK)
    floor = m.max(
      floor,
      cutAt(m, flat, column("topK"), () => m.full("f32", flat.type.shape, 1)),
    );
  if (kind.topP) {
    const kept = (x: Node) => m.select(m.ge(x, m.expandLast(floor)), m.exp(x), 0);
    const wanted = m.mul(column("topP"), sumInParts(m, kept(flat)));
    floor = m.max(floor, cutAt(m, flat, wanted, kept));
  }
  const cut = m.named("cut", floor);
  const weights = m.named("weights", m.select(m.ge(scaled, m.expandLast(cut, 2)), m.exp(scaled), 0)); // [n, b, s]
  const sums = m.named("block_sums", m.reduceSum(weights)); // [n, b]
  const reached = m.named("reached", sumsUpTo(m, sums)); // [n, b]
  const target = m.mul(uniform, m.reshape(m.slice(reached, 1, count - 1, count), [n])); // [n]
  const block = m.named("block", firstAbove(m, reached, sums, target)); // [n]
  const before = m.reshape(m.slice(m.concat(1, m.full("f32", [n, 1], 0), reached), 1, 0, count), [n * count, 1]);
  const start = m.reshape(m.gather(before, m.add(m.mul(m.iota("i32", [n], 0), count), block)), [n]);
  const row = m.named("row", rowAt(m, weights, block)); // [n, s]
  return m.add(m.mul(block, size), firstAbove(m, sumsUpTo(m, row), row, m.sub(target, start)));
}

/**
 * The highest threshold at which what `weigh` gives of the values from there on is at least `wanted` together: f32 [n]. Each
 * round tries `thresholds` of them, and goes on between the highest that is low enough and the next.
 */
function cutAt(m: Maths, values: Node, wanted: Node, weigh: (values: Node) => Node): Node {
  const n = values.type.shape[0]!;
  let low: Node = m.full("f32", [n], vanishing);
  let step = -vanishing / thresholds;
  for (let round = 0; round < rounds; round++) {
    const offsets = m.mul(m.iota("f32", [n, thresholds], 1), step);
    const tried = m.named("tried", m.add(m.expandLast(low), offsets)); // [n, t]
    const [count, length] = [tried.type.shape[1]!, values.type.shape[1]!];
    const over = m.ge(m.reshape(values, [n, 1, length]), m.expandLast(tried)); // [n, t, v]
    const weight = m.broadcast(m.reshape(weigh(values), [n, 1, length]), [n, count, length]);
    const mass = m.named("mass", sumInParts(m, m.select(over, weight, 0))); // [n, t]
    const enough = m.select(m.ge(mass, m.expandLast(wanted)), m.full("f32", mass.type.shape, 1), 0);
    low = m.named("low", m.add(low, m.mul(m.max(m.sub(m.reduceSum(enough), 1), 0), step)));
    step /= thresholds;
  }
  return low;
}

/** Parts of a vocabulary that GPUs add up beside each other, best first. */
const parts = [16, 32, 8, 64];

/** f32 [.., v] -> [..]: the sum of each row, first of parts of it: a row alone does not keep a GPU busy. */
function sumInParts(m: Maths, x: Node): Node {
  const { shape } = x.type;
  const length = shape.at(-1)!;
  const count = parts.find((each) => length % each === 0 && length / each >= 256);
  if (count === undefined) return m.reduceSum(x);
  return m.reduceSum(m.named("part_sums", m.reduceSum(m.reshape(x, [...shape.slice(0, -1), count, length / count]))));
}

/** [n, c] -> [n, c]: the sum of each row's elements up to each of them, added in one order whichever is asked for. */
function sumsUpTo(m: Maths, x: Node): Node {
  const [n, count] = x.type.shape as [number, number]; // of rank 2
  const shape = [n, count, count];
  const upTo = m.le(m.iota("i32", shape, 2), m.iota("i32", shape, 1));
  return m.reduceSum(m.select(upTo, m.broadcast(m.reshape(x, [n, 1, count]), shape), 0));
}

/** i32 [n]: the first element whose sum is above the target; never one of weight 0, however sums were rounded. */
function firstAbove(m: Maths, sums: Node, weights: Node, target: Node): Node {
  const { shape } = sums.type;
  const ones = m.full("f32", shape, 1);
  const passed = m.reduceSum(m.select(m.le(sums, m.expandLast(target)), ones, 0)); // [n]
  const last = m.reduceMax(m.select(m.gt(weights, 0), m.iota("f32", shape, 1), 0)); // [n]
  return m.cast(m.min(passed, last), "i32");
}
