/**
 * From logits to tokens as tensor ops, so that a device can feed the next step itself: penalties, then the largest logit or
 * a draw with temperature, min-p, top-k and top-p, the way `runtime/sampling/sampler.ts` does it in doubles. Where that takes tokens in
 * order of their logits, this searches for the logit at which to cut (`cut.ts`).
 *
 * Letters: n tokens, v vocabulary, b blocks of s logits each, p parts.
 */
import type { Maths } from "../../ir/build.ts";
import type { Node } from "../../ir/graph.ts";
import { type Cut, cutAt, partsOf } from "./cut.ts";
import { findInGroups, rowAt, type Weights } from "./find.ts";
import { penalise } from "./penalties.ts";

/** What the rows of a step ask for together; a row that does not ask for one of these has a neutral number. */
export interface SamplerKind {
  /** False takes the largest logit and has no use for the rest. */
  readonly draws: boolean;
  readonly topK: boolean;
  readonly topP: boolean;
  /** Of repetition, presence or frequency; a sampler without has no use for `counts`. */
  readonly penalties: boolean;
}

/** Columns of the options f32 [n, c] of a sampler; `floor` is ln(minP), or very low. */
export const samplerColumns = ["temperature", "floor", "topK", "topP", "repetition", "presence", "frequency"] as const;
export type SamplerColumn = (typeof samplerColumns)[number];

export interface SamplerInputs {
  /** f32 [n, v] */
  readonly logits: Node;
  /** f32 [n], in [0, 1). */
  readonly uniform: Node;
  /** f32 [n, c], see `samplerColumns`. */
  readonly options: Node;
  /** f32 [n, v] where there are penalties, see `penalties.ts`. */
  readonly counts?: Node;
}

/** Lower than any logit divided by a temperature that matters; not an infinity, which GPUs may take as absent. */
const lowest = -3.4028234663852886e38;

/** i32 [n]: the token of each row; -1 where its logits hold NaN or the largest of them is no number. */
export function sampleTokens(m: Maths, kind: SamplerKind, { logits, uniform, options, counts }: SamplerInputs): Node {
  const column = (name: SamplerColumn) => columnOf(m, options, name);
  const penalties = {
    repetition: column("repetition"),
    presence: column("presence"),
    frequency: column("frequency"),
  };
  const given = counts === undefined ? logits : penalise(m, logits, counts, penalties);
  const blocks = blocksOf(m, given); // [n, b, s]
  // A NaN counts as the largest here, so that it shows.
  const most = m.named("block_most", m.reduceMax(m.select(m.eq(blocks, blocks), blocks, -lowest))); // [n, b]
  const top = m.named("top", m.reduceMax(most)); // [n]
  const fine = m.lt(m.abs(top), -lowest);
  const token = kind.draws ? draw(m, kind, { blocks, top, uniform, column }) : largest(m, blocks, most);
  return m.named("next", m.select(fine, token, -1));
}

/** f32 [n] */
function columnOf(m: Maths, options: Node, name: SamplerColumn): Node {
  const at = samplerColumns.indexOf(name);
  return m.reshape(m.slice(options, 1, at, at + 1), [options.type.shape[0]!]);
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
  readonly column: (name: SamplerColumn) => Node;
}

/** Inverse of the cumulative softmax at `uniform`, tokens in order of id. */
function draw(m: Maths, kind: SamplerKind, { blocks, top, uniform, column }: Draw): Node {
  const [n, count, size] = blocks.type.shape as [number, number, number]; // of rank 3
  const below = m.sub(m.reshape(blocks, [n, count * size]), m.expandLast(top));
  const scaled = m.named("scaled", m.div(below, m.expandLast(column("temperature")))); // [n, v], at most 0
  const floor = column("floor"); // [n]
  const limit = limitOf(m, kind, scaled, column);
  const parts = partsOf(count * size);
  const length = (count * size) / parts;
  const inParts = m.reshape(scaled, [n, parts, length]);
  const { above, equals } = weightsOf(m, inParts, floor, limit); // [n, p, v / p]
  const sums = {
    above: m.named("sums_above", m.reduceSum(above)),
    equals: equals && m.named("sums_equals", m.reduceSum(equals)),
  }; // [n, p]
  const part = findInGroups(m, sums, { share: uniform, equals: limit?.needed, each: limit?.each });
  const row = m.named("row", rowAt(m, inParts, part.at)); // [n, v / p]
  return m.add(m.mul(part.at, length), findInGroups(m, weightsOf(m, row, floor, limit), part.inside).at);
}

/** f32 [n] each: all above `at` is taken, and of what equals it, in order of id, so many as are needed. */
interface Limit {
  readonly at: Node;
  readonly needed: Node;
  /** What each of these weighs. */
  readonly each: Node;
}

/** f32 of the shape of `scaled`, [n, ..]: what tokens above the cut weigh that min-p leaves, and which tokens equal the cut. */
function weightsOf(m: Maths, scaled: Node, floor: Node, limit: Limit | undefined): Weights {
  const row = (x: Node) => m.expandLast(x, scaled.type.shape.length - 1);
  const weights = m.select(m.ge(scaled, row(floor)), m.exp(scaled), 0);
  if (limit === undefined) return { above: weights };
  const one = m.full("f32", scaled.type.shape, 1);
  return {
    above: m.select(m.gt(scaled, row(limit.at)), weights, 0),
    equals: m.select(m.eq(scaled, row(limit.at)), one, 0),
  };
}

/** Where top-k and top-p cut what min-p leaves; undefined without them. */
function limitOf(m: Maths, { topK, topP }: SamplerKind, flat: Node, column: Draw["column"]): Limit | undefined {
  const from = (least: Node, weight: Node) => m.select(m.ge(flat, m.expandLast(least)), weight, 0);
  const floor = column("floor"); // [n]
  const one = m.full("f32", flat.type.shape, 1);
  const byCount = topK ? cutAt(m, flat, from(floor, one), () => column("topK")) : undefined;
  const first = byCount && limitBy(m, byCount, floor, m.sub(byCount.wanted, byCount.above));
  if (!topP) return first;
  const least = byCount === undefined ? floor : m.max(floor, byCount.at);
  // Of what equals the cut by count, what is not needed has no part in the whole.
  const surplus = byCount && m.mul(m.max(m.sub(byCount.from, byCount.wanted), 0), m.exp(byCount.at));
  const byMass = cutAt(m, flat, m.named("weights", from(least, m.exp(flat))), (total) =>
    m.mul(column("topP"), surplus === undefined ? total : m.sub(total, surplus)),
  );
  const missing = m.min(m.sub(byMass.wanted, byMass.above), mostNeeded);
  const second = limitBy(m, byMass, floor, m.div(missing, m.max(m.exp(byMass.at), leastWeight)));
  if (first === undefined) return second;
  // The higher cut holds; where both are the same, top-p's, which counted what top-k left.
  const higher = m.ge(second.at, first.at);
  return {
    at: m.named("cut", m.select(higher, second.at, first.at)),
    needed: m.named("needed", m.select(higher, second.needed, first.needed)),
    each: m.select(higher, second.each, first.each),
  };
}

/** Bounds that keep a quotient finite: more than a row weighs, and less than a token that matters does. */
const [mostNeeded, leastWeight] = [1e7, 1e-30];

/** A whole number of equals, at least the first; they weigh nothing where min-p takes them. */
function limitBy(m: Maths, { at }: Cut, floor: Node, missing: Node): Limit {
  const needed = m.max(m.neg(m.floor(m.neg(missing))), 1);
  return { at, needed: m.named("needed", needed), each: m.select(m.ge(at, floor), m.exp(at), 0) };
}
