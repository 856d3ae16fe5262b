/**
 * Which tokens go into the next step. Pure: no model, no clock, no randomness.
 *
 * Each step first gives one token to every running sequence that is decoding, then fills the rest of `maxBatchTokens` with prompt
 * tokens: chunks of running sequences that are still prefilling, then newly admitted ones. A sequence is admitted only when
 * the blocks for all its tokens are free, so only decoding can run out of blocks; then the youngest running sequence is preempted:
 * it loses its blocks, keeps its tokens, and waits to compute them again.
 *
 * Invariants:
 *   S1 every running sequence arrived before every waiting one, and both lists are in order of arrival;
 *   S2 exactly the running sequences own blocks.
 * No starvation: by S1 the oldest sequence is never preempted, and each fits in the cache alone (`checkLength`). So every step with work computes
 * tokens of the oldest sequence or generates a token of another, and neither can go on for ever.
 */

import { invariant } from "../../ir/errors.ts";
import type { RunnerSizes } from "../steps/step.ts";
import { BlockManager } from "./block-manager.ts";
import type { Sequence } from "./sequence.ts";

/** `count` tokens of a sequence from position `start`; `sample` if they reach its last token, whose logits give the next. */
export interface ScheduledChunk {
  readonly sequence: Sequence;
  readonly start: number;
  readonly count: number;
  readonly sample: boolean;
}

export type SchedulerLimits = Pick<RunnerSizes, "blockSize" | "numBlocks" | "maxBatchTokens" | "maxSequences">;

export class Scheduler {
  readonly blocks: BlockManager;
  readonly #maxBatchTokens: number;
  readonly #maxSequences: number;
  #waiting: Sequence[] = [];
  #running: Sequence[] = [];
  #preemptions = 0;

  constructor(limits: SchedulerLimits, options: { readonly prefixSharing?: boolean } = {}) {
    this.blocks = new BlockManager({
      numBlocks: limits.numBlocks,
      blockSize: limits.blockSize,
      prefixSharing: options.prefixSharing ?? true,
    });
    this.#maxBatchTokens = limits.maxBatchTokens;
    this.#maxSequences = limits.maxSequences;
  }

  get waiting(): readonly Sequence[] {
    return this.#waiting;
  }

  get running(): readonly Sequence[] {
    return this.#running;
  }

  /** How often a sequence was preempted since the start. */
  get preemptions(): number {
    return this.#preemptions;
  }

  get hasWork(): boolean {
    return this.#waiting.length > 0 || this.#running.length > 0;
  }

  /** Queues a sequence that `checkLength` accepted, with an id above all before it. */
  add(sequence: Sequence): void {
    const last = this.#waiting.at(-1) ?? this.#running.at(-1);
    invariant(
      last === undefined || last.id < sequence.id,
      () => `sequence ${sequence.id} added out of order`,
      "scheduler",
    );
    this.#waiting.push(sequence);
  }

  /** The chunks of the next step, each sequence at most once; empty only when there is no work. */
  schedule(): ScheduledChunk[] {
    const plan: ScheduledChunk[] = [];
    this.#planDecode(plan);
    let budget = this.#maxBatchTokens - plan.length;
    for (const sequence of this.#running) {
      if (budget === 0) break;
      if (pending(sequence) > 1) budget -= planChunk(plan, sequence, budget);
    }
    // One preempted in this step hardly ever fits again: it needs the blocks it gave, and one of them is taken. If sharing lets it, it may.
    while (budget > 0) {
      const admitted = this.#admitNext();
      if (admitted === null) break;
      budget -= planChunk(plan, admitted, budget);
    }
    invariant(plan.length > 0 || !this.hasWork, () => "work left but nothing to schedule", "scheduler");
    return plan;
  }

  /**
   * As many steps of one token for every running sequence as nothing speaks against, up to `most`, with the blocks for
   * them; 0 where something waits, a prompt is not computed yet, or fewer than two are left.
   */
  planAhead(most: number): number {
    const running = this.#running;
    if (this.#waiting.length > 0 || running.length === 0 || running.some((each) => pending(each) !== 1)) return 0;
    const left = ({ tokens, promptLength, maxTokens }: Sequence) => maxTokens - (tokens.length - promptLength);
    let steps = Math.min(most, ...running.map(left));
    const rows = ({ tokens }: Sequence) => tokens.length + steps - 1;
    const wanted = () =>
      running.reduce((sum, each) => sum + Math.max(0, this.blocks.blocksFor(rows(each)) - each.table.length), 0);
    while (steps >= 2 && wanted() > this.blocks.freeBlocks) steps >>= 1;
    if (steps < 2) return 0;
    for (const each of running) {
      const grown = this.blocks.grow(each.table, rows(each));
      invariant(grown, () => `no blocks for sequence ${each.id}, though they were counted`, "scheduler");
    }
    return steps;
  }

  /** Notes that the row of a sequence's last token is computed. */
  commitAhead(sequence: Sequence): void {
    sequence.computed++;
    this.blocks.commit(sequence.table, sequence.tokens, sequence.computed);
  }

  /** Notes that the step with these chunks is done. Sequences that were removed meanwhile are passed over. */
  commit(plan: readonly ScheduledChunk[]): void {
    for (const { sequence, start, count } of plan) {
      if (sequence.status !== "running") continue;
      invariant(sequence.computed === start, () => `sequence ${sequence.id} moved during a step`, "scheduler");
      sequence.computed = start + count;
      this.blocks.commit(sequence.table, sequence.tokens, sequence.computed);
    }
  }

  /** Ends a sequence, waiting or running, and frees its blocks at once. Does nothing to a finished one. */
  remove(sequence: Sequence): void {
    if (sequence.status === "finished") return;
    const list = sequence.status === "running" ? this.#running : this.#waiting;
    const at = list.indexOf(sequence);
    invariant(at !== -1, () => `sequence ${sequence.id} is in no list`, "scheduler");
    list.splice(at, 1);
    this.blocks.release(sequence.table);
    sequence.status = "finished";
  }

  /** One token for each decoding sequence, oldest first. */
  #planDecode(plan: ScheduledChunk[]): void {
    // Preemption shortens the list from its end while it is walked.
    for (const sequence of this.#running) {
      if (plan.length === this.#maxBatchTokens) break;
      if (pending(sequence) !== 1) continue;
      while (sequence.status === "running" && !this.blocks.grow(sequence.table, sequence.tokens.length))
        this.#preemptYoungest();
      if (sequence.status === "running") planChunk(plan, sequence, 1);
    }
  }

  /** The victim is never in the plan yet: those planned are older than the one that needs the block. */
  #preemptYoungest(): void {
    const victim = this.#running.pop();
    invariant(victim !== undefined, () => "no sequence to preempt", "scheduler");
    this.blocks.release(victim.table);
    victim.computed = 0;
    victim.status = "waiting";
    this.#waiting.unshift(victim);
    this.#preemptions++;
  }

  /** Moves the oldest waiting sequence to running if there is a place and its blocks are free; else gives null. */
  #admitNext(): Sequence | null {
    const next = this.#waiting[0];
    if (next === undefined || this.#running.length >= this.#maxSequences) return null;
    const cached = this.blocks.admit(next.table, next.tokens);
    if (cached === null) return null;
    this.#waiting.shift();
    this.#running.push(next);
    next.computed = cached;
    next.cachedTokens ??= cached;
    next.status = "running";
    return next;
  }
}

/** Tokens whose cache rows are not yet written; 1 while decoding. */
function pending(sequence: Sequence): number {
  return sequence.tokens.length - sequence.computed;
}

/** Plans as many pending tokens as the budget allows; gives how many. */
function planChunk(plan: ScheduledChunk[], sequence: Sequence, budget: number): number {
  const count = Math.min(pending(sequence), budget);
  plan.push({ sequence, start: sequence.computed, count, sample: count === pending(sequence) });
  return count;
}
