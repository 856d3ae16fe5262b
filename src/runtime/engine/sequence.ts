/** One request as the scheduler sees it: its tokens, how far they are computed, and its blocks. */

import { InputError, showValue } from "../../ir/errors.ts";
import type { RunnerSizes } from "../steps/step.ts";
import { BlockTable } from "./block-manager.ts";

/** waiting -> running -> finished, and back from running to waiting when preempted. */
export type SequenceStatus = "waiting" | "running" | "finished";

/** Plain data; status, computed, cachedTokens and table are the scheduler's to change. */
export interface Sequence {
  /** Order of arrival; smaller goes first. */
  readonly id: number;
  readonly promptLength: number;
  /** Most tokens to generate. */
  readonly maxTokens: number;
  /** Prompt, then generated tokens: the truth, from which a lost cache is rebuilt. */
  readonly tokens: number[];
  /** How many of `tokens` have their cache rows written. */
  computed: number;
  /** Prompt tokens found in the cache when the sequence was first admitted; null before that. */
  cachedTokens: number | null;
  status: SequenceStatus;
  readonly table: BlockTable;
}

export function createSequence(id: number, prompt: ArrayLike<number>, maxTokens: number): Sequence {
  return {
    id,
    promptLength: prompt.length,
    maxTokens,
    tokens: Array.from(prompt),
    computed: 0,
    cachedTokens: null,
    status: "waiting",
    table: new BlockTable(),
  };
}

/** The same tokens with nothing computed, as another scheduler's sequence. */
export function restarted(sequence: Sequence, id: number): Sequence {
  return { ...sequence, id, computed: 0, status: "waiting", table: new BlockTable() };
}

/** The sizes that bound a sequence. */
export type SequenceLimits = Pick<RunnerSizes, "vocabSize" | "blockSize" | "numBlocks" | "maxContext">;

/** Token ids must be integers of the vocabulary, and there must be one. Throws InputError. */
export function checkPrompt(prompt: ArrayLike<number>, vocabSize: number): void {
  const list: unknown = prompt; // as programs that no compiler has checked may have it
  if (typeof list !== "object" || list === null || !Number.isInteger(prompt.length))
    throw new InputError("prompt", `expected a text or a list of token ids, got ${showValue(list)}`);
  if (prompt.length === 0) throw new InputError("prompt", "empty: expected at least one token, got none");
  for (let i = 0; i < prompt.length; i++) {
    const id: unknown = prompt[i];
    if (typeof id !== "number" || !Number.isInteger(id) || id < 0 || id >= vocabSize)
      throw new InputError(
        `prompt[${i}]`,
        `no such token: expected an id from 0 to ${vocabSize - 1}, got ${showValue(id)}`,
      );
  }
}

/** Most tokens a prompt may be continued by: what the context and all blocks together allow. */
export function roomFor(promptLength: number, limits: SequenceLimits): number {
  // The last generated token is never an input, so it needs no cache row.
  const byBlocks = limits.numBlocks * limits.blockSize + 1;
  return Math.min(limits.maxContext, byBlocks) - promptLength;
}

/**
 * The number of tokens to generate: as asked, or all there is room for. Throws InputError when prompt and answer do not fit in the
 * context, or could not fit in the cache even if the sequence were alone.
 */
export function checkLength(promptLength: number, maxTokens: number | null, limits: SequenceLimits): number {
  const room = roomFor(promptLength, limits);
  const asked = maxTokens ?? Math.max(1, room);
  if (asked <= room) return asked;
  const rows = limits.numBlocks * limits.blockSize;
  const what =
    promptLength + asked > limits.maxContext
      ? `longer than the context: expected at most ${limits.maxContext} tokens`
      : `longer than the whole cache: expected at most ${rows + 1} tokens (${limits.numBlocks} blocks of ${limits.blockSize})`;
  const hint = room >= 1 ? `With this prompt, maxTokens can be at most ${room}.` : "Shorten the prompt.";
  const where = room >= 1 ? "maxTokens" : "prompt";
  throw new InputError(where, `${what}, got ${promptLength} of prompt and ${asked} to generate`, { hint });
}
