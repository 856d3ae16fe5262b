/**
 * From logits to tokens as tensor ops, so that a device can feed the next step itself: penalties, then the largest logit or
 * a draw with temperature, min-p, top-k and top-p, the way `runtime/sampling/sampler.ts` does it in doubles. Where that takes tokens in
 * order of their logits, this searches for the logit at which to cut (`cut.ts`).
 *
 * Letters: n tokens, v vocabulary, b blocks of s logits each.
 */
import type { Maths } from "../../ir/build.ts";
import type { Node } from "../../ir/graph.ts";
import { cutAt, firstAbove, lowestEquals, rowAt, sumInParts, sumsUpTo } from "./cut.ts";
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
  const below = m.sub(blocks, m.expandLast(top, 2));
  const scaled = m.named("scaled", m.div(below, m.expandLast(column("temperature"), 2))); // [n, b, s], at most 0
  const kept = keptOf(m, kind, scaled, column); // [n, b, s]
  const weights = m.named("weights", m.select(kept, m.exp(scaled), 0)); // [n, b, s]
  const sums = m.named("block_sums", m.reduceSum(weights)); // [n, b]
  const reached = m.named("reached", sumsUpTo(m, sums)); // [n, b]
  const target = m.mul(uniform, m.reshape(m.slice(reached, 1, count - 1, count), [n])); // [n]
  const block = m.named("block", firstAbove(m, reached, sums, target)); // [n]
  const before = m.reshape(m.slice(m.concat(1, m.full("f32", [n, 1], 0), reached), 1, 0, count), [n * count, 1]);
  const start = m.reshape(m.gather(before, m.add(m.mul(m.iota("i32", [n], 0), count), block)), [n]);
  const row = m.named("row", rowAt(m, weights, block)); // [n, s]
  return m.add(m.mul(block, size), firstAbove(m, sumsUpTo(m, row), row, m.sub(target, start)));
}

/** f32 [n] each: all above `at` is taken, and of what equals it so many as are needed. */
interface Cut {
  readonly at: Node;
  readonly needed: Node;
}

/** bool [n, b, s]: the tokens that min-p, top-k and top-p leave; of equals at the cut those of the lowest ids. */
function keptOf(m: Maths, { topK, topP }: SamplerKind, scaled: Node, column: Draw["column"]): Node {
  const [n, count, size] = scaled.type.shape as [number, number, number]; // of rank 3
  const floor = column("floor"); // [n]
  const aboveFloor = m.ge(scaled, m.expandLast(floor, 2));
  if (!topK && !topP) return aboveFloor;
  const flat = m.reshape(scaled, [n, count * size]);
  const one = (x: Node, least: Node) => m.select(m.ge(x, m.expandLast(least)), m.full("f32", x.type.shape, 1), 0);
  const mass = (x: Node, least: Node) => m.select(m.ge(x, m.expandLast(least)), m.exp(x), 0);
  const cuts: Cut[] = [];
  if (topK) {
    const at = cutAt(m, flat, column("topK"), (x) => one(x, floor));
    cuts.push({
      at,
      needed: m.sub(
        column("topK"),
        above(m, flat, at, (x) => one(x, floor)),
      ),
    });
  }
  const [byCount] = cuts;
  if (topP) {
    const least = byCount === undefined ? floor : m.max(floor, byCount.at);
    const weigh = (x: Node) => mass(x, least);
    const sum = sumInParts(m, weigh(flat));
    const total = byCount === undefined ? sum : m.sub(sum, surplusOf(m, flat, floor, byCount));
    const wanted = m.mul(column("topP"), total);
    const at = cutAt(m, flat, wanted, weigh);
    cuts.push({ at, needed: m.div(m.sub(wanted, above(m, flat, at, weigh)), m.exp(at)) });
  }
  // The higher cut holds; where both are the same, top-p's, which counted what top-k left.
  const cut = cuts.reduce((low, high) => {
    const higher = m.ge(high.at, low.at);
    return { at: m.select(higher, high.at, low.at), needed: m.select(higher, high.needed, low.needed) };
  });
  return m.and(aboveFloor, fromCut(m, scaled, cut));
}

/** bool [n, b, s]: what lies above a cut, and of what equals it the lowest ids. */
function fromCut(m: Maths, scaled: Node, { at, needed }: Cut): Node {
  const { shape } = scaled.type;
  const cut = m.named("cut", at);
  const last = lowestEquals(m, scaled, cut, m.named("needed", needed)); // i32 [n]
  const ids = m.add(m.mul(m.iota("i32", shape, 1), shape[2]!), m.iota("i32", shape, 2));
  const equal = m.and(m.eq(scaled, m.expandLast(cut, 2)), m.le(ids, m.expandLast(last, 2)));
  return m.or(m.gt(scaled, m.expandLast(cut, 2)), equal);
}

/** [n]: what `weigh` gives of the values above `at`. */
function above(m: Maths, flat: Node, at: Node, weigh: (values: Node) => Node): Node {
  return sumInParts(m, m.select(m.gt(flat, m.expandLast(at)), weigh(flat), 0));
}

/** [n]: the weight of what equals a cut by count and is not needed. */
function surplusOf(m: Maths, flat: Node, floor: Node, { at, needed }: Cut): Node {
  const equal = m.select(m.eq(flat, m.expandLast(at)), m.full("f32", flat.type.shape, 1), 0);
  const surplus = m.mul(m.max(m.sub(sumInParts(m, equal), needed), 0), m.exp(at));
  return m.select(m.ge(at, floor), surplus, 0);
}
