/**
 * Logits processors: small functions that change one row of logits [vocab] in place before a token is drawn from it.
 * A removed token has the logit -Infinity. The order is vLLM's: bias, penalties, temperature, min-p, top-k, top-p.
 */

import type { CheckedSampling } from "./sampling-options.ts";

/** The tokens a sequence has seen, as the penalties need them; at most one entry per distinct token. */
export interface TokenHistory {
  readonly prompt: ReadonlySet<number>;
  /** Generated token to its number of occurrences. */
  readonly output: ReadonlyMap<number, number>;
}

/** Buffers that all requests of an engine share, so that sampling allocates nothing of the size of the vocabulary. */
export interface LogitsScratch {
  /** [vocab] token ids under selection. */
  readonly ids: Int32Array;
}

export type LogitsProcessor = (logits: Float32Array, history: TokenHistory, scratch: LogitsScratch) => void;

export function createScratch(vocabSize: number): LogitsScratch {
  return { ids: new Int32Array(vocabSize) };
}

/** The processors that the options call for, in order; neutral values call for none, temperature 0 for bias and penalties only. */
export function logitsProcessors(options: CheckedSampling): LogitsProcessor[] {
  const list: LogitsProcessor[] = [];
  if (options.logitBias.size > 0) list.push(logitBias(options.logitBias));
  if (options.repetitionPenalty !== 1) list.push(repetitionPenalty(options.repetitionPenalty));
  if (options.frequencyPenalty !== 0 || options.presencePenalty !== 0)
    list.push(outputPenalty(options.presencePenalty, options.frequencyPenalty));
  if (options.temperature === 0) return list;
  if (options.temperature !== 1) list.push(temperature(options.temperature));
  if (options.minP !== null && options.minP > 0) list.push(minP(options.minP));
  if (options.topK !== null) list.push(topK(options.topK));
  if (options.topP !== null && options.topP < 1) list.push(topP(options.topP));
  return list;
}

/** l[t] += bias[t] (OpenAI `logit_bias`). */
export function logitBias(bias: ReadonlyMap<number, number>): LogitsProcessor {
  return (logits) => {
    for (const [id, value] of bias) logits[id]! += value;
  };
}

/**
 * For tokens in prompt or output: l > 0 ? l / penalty : l * penalty (Keskar et al., CTRL, 2019, section 4.1, with the sign
 * case that transformers and vLLM `repetition_penalty` added).
 */
export function repetitionPenalty(penalty: number): LogitsProcessor {
  return (logits, { prompt, output }) => {
    const apply = (id: number) => {
      const logit = logits[id]!;
      logits[id] = logit > 0 ? logit / penalty : logit * penalty;
    };
    for (const id of prompt) apply(id);
    for (const id of output.keys()) if (!prompt.has(id)) apply(id);
  };
}

/** l[t] -= count[t] * frequency + (count[t] > 0) * presence, counts over the output only (OpenAI API reference, same in vLLM). */
export function outputPenalty(presence: number, frequency: number): LogitsProcessor {
  return (logits, { output }) => {
    for (const [id, count] of output) logits[id]! -= count * frequency + presence;
  };
}

/** l = (l - max l) / T. Subtracting the maximum changes no probability and keeps a tiny T from overflowing to +Infinity. */
export function temperature(value: number): LogitsProcessor {
  return (logits) => {
    const largest = maximum(logits);
    for (let i = 0; i < logits.length; i++) {
      // 0 / T and not (l - max) / T at the maximum, so that a T below float32's smallest number gives no 0 * Infinity.
      const below = logits[i]! - largest;
      logits[i] = below === 0 ? 0 : below / value;
    }
  };
}

/** Removes tokens with p < minP * max p, that is l < max l + ln(minP) (Nguyen et al., min-p sampling, 2024). */
export function minP(value: number): LogitsProcessor {
  return (logits) => {
    const floor = maximum(logits) + Math.log(value);
    for (let i = 0; i < logits.length; i++) if (logits[i]! < floor) logits[i] = -Infinity;
  };
}

/** Keeps exactly the k largest logits, lower ids first among equals. A heap of k ids: O(vocab log k), no sort of the vocabulary. */
export function topK(k: number): LogitsProcessor {
  return (logits, _history, { ids }) => {
    if (k >= logits.length) return;
    for (let i = 0; i < k; i++) ids[i] = i;
    for (let i = (k >> 1) - 1; i >= 0; i--) siftDown(ids, k, i, logits);
    for (let id = k; id < logits.length; id++) {
      // The root is the least likely token kept so far; the loser of the two is removed.
      const loser = likelier(id, ids[0]!, logits) ? ids[0]! : id;
      if (loser !== id) {
        ids[0] = id;
        siftDown(ids, k, 0, logits);
      }
      logits[loser] = -Infinity;
    }
  };
}

/**
 * Keeps the smallest set of most likely tokens with total probability >= p, at least one (Holtzman et al., nucleus sampling, 2019).
 * Found by partitioning, as in quickselect: time linear in the vocabulary on average, where sorting would take tens of milliseconds.
 */
export function topP(p: number): LogitsProcessor {
  return (logits, _history, { ids }) => {
    const largest = maximum(logits);
    let total = 0;
    for (let i = 0; i < logits.length; i++) {
      total += Math.exp(logits[i]! - largest);
      ids[i] = i;
    }
    // Ids before `start` are kept, ids from `end` are not, and those between must still give `missing`; each group is likelier than the next.
    let missing = p * total;
    let start = 0;
    let end = logits.length;
    while (end - start > 1) {
      const middle = partition(ids, start, end, logits);
      let sum = 0;
      for (let i = start; i < middle; i++) sum += Math.exp(logits[ids[i]!]! - largest);
      if (sum >= missing) end = middle;
      else {
        missing -= sum;
        start = middle;
      }
    }
    for (let i = end; i < logits.length; i++) logits[ids[i]!] = -Infinity;
  };
}

/** The largest logit, -Infinity if there is none. */
export function maximum(logits: Float32Array): number {
  let largest = -Infinity;
  for (let i = 0; i < logits.length; i++) if (logits[i]! > largest) largest = logits[i]!;
  return largest;
}

/** The order of tokens everywhere: larger logit first, lower id among equals. */
function likelier(a: number, b: number, logits: Float32Array): boolean {
  return logits[a]! > logits[b]! || (logits[a] === logits[b] && a < b);
}

/** Restores the heap of the first k ids, in which a parent is less likely than its children, after entry i changed. */
function siftDown(ids: Int32Array, k: number, i: number, logits: Float32Array): void {
  const id = ids[i]!;
  for (;;) {
    let child = 2 * i + 1;
    if (child >= k) break;
    if (child + 1 < k && likelier(ids[child]!, ids[child + 1]!, logits)) child++;
    if (!likelier(id, ids[child]!, logits)) break;
    ids[i] = ids[child]!;
    i = child;
  }
  ids[i] = id;
}

/**
 * Hoare's partition: reorders ids[start, end), at least two, so that all before the returned index are likelier than all from it.
 * Neither part is empty, because the pivot is not the last.
 */
function partition(ids: Int32Array, start: number, end: number, logits: Float32Array): number {
  const pivot = ids[(start + end - 1) >> 1]!;
  let i = start;
  let j = end - 1;
  for (;;) {
    while (likelier(ids[i]!, pivot, logits)) i++;
    while (likelier(pivot, ids[j]!, logits)) j--;
    if (i >= j) return j + 1;
    const id = ids[i]!;
    ids[i++] = ids[j]!;
    ids[j--] = id;
  }
}
