/** Turns the scheduler's chunks into a ragged batch, in buffers allocated once. */

import type { RaggedBatch, RunnerSizes } from "../steps/step.ts";
import type { ScheduledChunk } from "./scheduler.ts";

export class BatchBuilder {
  readonly #blockSize: number;
  readonly #tokens: Int32Array;
  readonly #positions: Int32Array;
  readonly #sequence: Int32Array;
  readonly #slots: Int32Array;
  readonly #outputs: Int32Array;

  constructor(limits: Pick<RunnerSizes, "blockSize" | "maxBatchTokens" | "maxSequences">) {
    this.#blockSize = limits.blockSize;
    this.#tokens = new Int32Array(limits.maxBatchTokens);
    this.#positions = new Int32Array(limits.maxBatchTokens);
    this.#sequence = new Int32Array(limits.maxBatchTokens);
    this.#slots = new Int32Array(limits.maxBatchTokens);
    this.#outputs = new Int32Array(limits.maxSequences);
  }

  /** The batch of a plan; sequence b is plan[b], and output row o belongs to the o-th chunk that samples. Overwrites the batch before. */
  build(plan: readonly ScheduledChunk[]): RaggedBatch {
    let n = 0;
    let o = 0;
    const blockTables: Int32Array[] = [];
    for (const [b, { sequence, start, count, sample }] of plan.entries()) {
      const table = sequence.table.ids;
      blockTables.push(table);
      for (let position = start; position < start + count; position++, n++) {
        this.#tokens[n] = sequence.tokens[position]!;
        this.#positions[n] = position;
        this.#sequence[n] = b;
        this.#slots[n] =
          table[Math.floor(position / this.#blockSize)]! * this.#blockSize + (position % this.#blockSize);
      }
      if (sample) this.#outputs[o++] = n - 1;
    }
    return {
      tokens: this.#tokens.subarray(0, n),
      positions: this.#positions.subarray(0, n),
      sequence: this.#sequence.subarray(0, n),
      slots: this.#slots.subarray(0, n),
      blockTables,
      outputs: this.#outputs.subarray(0, o),
    };
  }
}
