/** How well a model predicts text, and how far its predictions are from those of a reference: loss, KL, top-1. */
import { InputError } from "../../ir/errors.ts";
import type { Tokenizer } from "../text/tokenizer.ts";

/** Gives the logits [ids.length, vocabulary] of a sequence of its own. A `Model` is one. */
export interface Predictor {
  readonly logits: (ids: ArrayLike<number>) => Promise<Float32Array>;
}

export interface Scores {
  readonly windows: number;
  readonly tokens: number;
  /** Mean negative log-likelihood of each window's tokens after its first, in nats. */
  readonly loss: number;
  /** exp(loss) */
  readonly perplexity: number;
}

export interface ComparedScores extends Scores {
  readonly referenceLoss: number;
  /** Mean over all positions of KL(reference || model) = sum p_ref (log p_ref - log p), in nats. */
  readonly kl: number;
  /** Share of positions at which both find the same token most likely. */
  readonly top1: number;
}

export type Window = ArrayLike<number>;

/** Scores of one model. `onWindow` is called after each window. */
export async function scoreWindows(
  model: Predictor,
  windows: readonly Window[],
  onWindow: () => void = () => {},
): Promise<Scores> {
  checkWindows(windows);
  let [total, count] = [0, 0];
  for (const ids of windows) {
    const rows = await model.logits(ids);
    const vocab = rows.length / ids.length;
    for (let i = 1; i < ids.length; i++) total += surprise(rowOf(rows, vocab, i - 1), ids[i]!);
    count += ids.length - 1;
    onWindow();
  }
  return finish(windows, total, count);
}

/** Scores of `model`, compared with `reference` position by position. */
export async function compareWindows(
  reference: Predictor,
  model: Predictor,
  windows: readonly Window[],
  onWindow: () => void = () => {},
): Promise<ComparedScores> {
  checkWindows(windows);
  let [total, referenceTotal, count, kl, same, positions] = [0, 0, 0, 0, 0, 0];
  for (const ids of windows) {
    const [expected, found] = [await reference.logits(ids), await model.logits(ids)];
    const vocab = expected.length / ids.length;
    for (let i = 0; i < ids.length; i++) {
      const [p, q] = [rowOf(expected, vocab, i), rowOf(found, vocab, i)];
      kl += divergence(p, q);
      same += largest(p) === largest(q) ? 1 : 0;
      if (i + 1 === ids.length) continue;
      referenceTotal += surprise(p, ids[i + 1]!);
      total += surprise(q, ids[i + 1]!);
    }
    positions += ids.length;
    count += ids.length - 1;
    onWindow();
  }
  const scores = finish(windows, total, count);
  return { ...scores, referenceLoss: referenceTotal / count, kl: kl / positions, top1: same / positions };
}

/** KL(p || q) of two rows of logits, in nats. */
export function divergence(p: Float32Array, q: Float32Array): number {
  const [logP, logQ] = [logTotal(p), logTotal(q)];
  let sum = 0;
  for (let i = 0; i < p.length; i++) {
    const log = p[i]! - logP;
    sum += Math.exp(log) * (log - (q[i]! - logQ));
  }
  return sum;
}

/** -log of the probability that a row of logits gives a token. */
export function surprise(row: Float32Array, id: number): number {
  return logTotal(row) - row[id]!;
}

/** A text as windows of `length` tokens, each with the model's begin token first; a rest of one token is left out. */
export function windowsOfText(tokenizer: Tokenizer, text: string, length: number): number[][] {
  const ids = tokenizer.encode(text, { plainText: true });
  const lead = tokenizer.bosId === undefined ? [] : [tokenizer.bosId];
  const step = length - lead.length;
  if (step < 1) throw new InputError("window", `expected at least ${lead.length + 1} tokens, got ${length}`);
  const windows: number[][] = [];
  for (let at = 0; at < ids.length; at += step) windows.push([...lead, ...ids.slice(at, at + step)]);
  return windows.filter((window) => window.length > 1);
}

function checkWindows(windows: readonly Window[]): void {
  const short = windows.find((ids) => ids.length < 2);
  if (windows.length > 0 && short === undefined) return;
  const found = short === undefined ? "no windows" : `a window of ${short.length}`;
  throw new InputError("windows", `expected windows of two tokens or more, got ${found}`);
}

function finish(windows: readonly Window[], total: number, count: number): Scores {
  const tokens = windows.reduce((sum, ids) => sum + ids.length, 0);
  return { windows: windows.length, tokens, loss: total / count, perplexity: Math.exp(total / count) };
}

function rowOf(rows: Float32Array, vocab: number, i: number): Float32Array {
  return rows.subarray(i * vocab, (i + 1) * vocab);
}

/** log(sum(exp(row))), without overflow. */
function logTotal(row: Float32Array): number {
  const most = row[largest(row)]!;
  let sum = 0;
  for (let i = 0; i < row.length; i++) sum += Math.exp(row[i]! - most);
  return Math.log(sum) + most;
}

function largest(row: Float32Array): number {
  let best = 0;
  for (let i = 1; i < row.length; i++) if (row[i]! > row[best]!) best = i;
  return best;
}
