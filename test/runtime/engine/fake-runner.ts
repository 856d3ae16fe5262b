/**
 * A deterministic "model" with a real paged cache: each slot stores the token and position written to it, and the logits of a token are a hash of
 * the whole prefix read back through the block table. A wrong slot, position, block or a stale row changes every later token.
 */

import { nextTask } from "../../../src/runtime/engine/next-task.ts";
import { copyOf, type RaggedBatch, type RunnerSizes, type StepRunner } from "../../../src/runtime/steps/step.ts";
import type { TokenText } from "../../../src/runtime/text/text-stream.ts";

export interface FakeOptions extends Partial<RunnerSizes> {
  /** Steps that may be under way at once. Default 1. */
  readonly overlap?: number;
  /** Called before each step is computed; may wait or throw. */
  readonly before?: (batch: RaggedBatch, step: number) => void | Promise<void>;
}

const defaults: RunnerSizes = {
  vocabSize: 50,
  blockSize: 4,
  numBlocks: 64,
  maxContext: 128,
  maxBatchTokens: 32,
  maxSequences: 8,
};

export class FakeRunner implements StepRunner {
  readonly sizes: RunnerSizes;
  steps = 0;
  /** Tokens computed, to see what prefix sharing saved. */
  computed = 0;
  /** Largest number of sequences in a step. */
  widest = 0;
  readonly overlap: number;
  /** Most steps that were under way at once. */
  most = 0;
  readonly #before: NonNullable<FakeOptions["before"]>;
  readonly #cache: ({ token: number; position: number } | null)[];
  #underWay = 0;
  /** When the steps asked for so far have been computed. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(options: FakeOptions = {}) {
    const { overlap, before, ...sizes } = options;
    this.sizes = { ...defaults, ...sizes };
    this.overlap = overlap ?? 1;
    this.#before = before ?? (() => {});
    this.#cache = new Array(this.sizes.numBlocks * this.sizes.blockSize).fill(null);
  }

  async step(given: RaggedBatch, _signal?: AbortSignal): Promise<Float32Array> {
    if (this.#underWay >= this.overlap) throw new Error("steps overlap");
    const batch = copyOf(given);
    this.most = Math.max(this.most, ++this.#underWay);
    const turn = this.#turn.then(() => this.#compute(batch)).finally(() => this.#underWay--);
    // A step that failed has left nothing; the next may be tried.
    this.#turn = turn.catch(() => {});
    return turn;
  }

  async #compute(batch: RaggedBatch): Promise<Float32Array> {
    this.#check(batch);
    // Long enough for the next step to be asked for.
    for (let i = 2; i < 2 * this.overlap; i++) await nextTask();
    await this.#before(batch, this.steps++);
    const n = batch.tokens.length;
    this.computed += n;
    this.widest = Math.max(this.widest, batch.blockTables.length);
    for (let i = 0; i < n; i++)
      this.#cache[batch.slots[i]!] = { token: batch.tokens[i]!, position: batch.positions[i]! };
    const logits = new Float32Array(batch.outputs.length * this.sizes.vocabSize);
    batch.outputs.forEach((i, o) => {
      const prefix = this.#readPrefix(batch.blockTables[batch.sequence[i]!]!, batch.positions[i]!);
      logits.set(logitsOf(prefix, this.sizes.vocabSize), o * this.sizes.vocabSize);
    });
    return logits;
  }

  #readPrefix(table: Int32Array, last: number): number[] {
    return Array.from({ length: last + 1 }, (_, position) => {
      const slot =
        table[Math.floor(position / this.sizes.blockSize)]! * this.sizes.blockSize + (position % this.sizes.blockSize);
      const row = this.#cache[slot];
      if (!row || row.position !== position) throw new Error(`slot ${slot} does not hold position ${position}`);
      return row.token;
    });
  }

  /** The promises that RaggedBatch makes. */
  #check({ tokens, positions, sequence, slots, blockTables, outputs }: RaggedBatch): void {
    const n = tokens.length;
    if (n === 0 || n > this.sizes.maxBatchTokens) throw new Error(`${n} tokens in a step`);
    if (blockTables.length > this.sizes.maxSequences) throw new Error(`${blockTables.length} sequences in a step`);
    if (positions.length !== n || sequence.length !== n || slots.length !== n) throw new Error("lengths differ");
    if (new Set(slots).size !== n) throw new Error("two tokens in one slot");
    for (let i = 0; i < n; i++) {
      const block = blockTables[sequence[i]!]![Math.floor(positions[i]! / this.sizes.blockSize)];
      if (slots[i] !== block! * this.sizes.blockSize + (positions[i]! % this.sizes.blockSize))
        throw new Error("slot outside its table");
      if (i > 0 && sequence[i] === sequence[i - 1] && positions[i] !== positions[i - 1]! + 1) throw new Error("gap");
      if (i > 0 && sequence[i]! < sequence[i - 1]!) throw new Error("sequences interleaved");
    }
    for (const i of outputs) if (i < 0 || i >= n) throw new Error("output outside the step");
  }
}

/** Logits in [0, 8) from a hash of the prefix. */
export function logitsOf(prefix: readonly number[], vocabSize: number): Float32Array {
  let hash = 2166136261;
  for (const token of prefix) hash = Math.imul(hash ^ (token + 1), 16777619) ^ (hash >>> 13);
  return Float32Array.from({ length: vocabSize }, (_, id) => {
    let h = Math.imul(hash ^ Math.imul(id + 1, 0x9e3779b1), 0x85ebca6b);
    h = Math.imul(h ^ (h >>> 15), 0xc2b2ae35);
    return ((h >>> 8) / 2 ** 24) * 8;
  });
}

/** Token id i shows as the letter or sign i places after "A" ("A", "B", ...); no special tokens. */
export const letters: TokenText = {
  tokenBytes: (id) => new TextEncoder().encode(String.fromCodePoint(65 + id)),
  isSpecial: () => false,
};
