/**
 * The engine's side of decoding ahead: while nothing but running sequences wants anything, chunks of steps are queued so that
 * the device always has the next one, and their tokens are dealt with behind it. A sequence that ends takes no more of
 * them: what was computed beyond its end lies in rows of the cache that it gives back, which nobody finds by content.
 */
import { InternalError } from "../../ir/errors.ts";
import type { AheadRun } from "../steps/step.ts";
import type { ScheduledChunk } from "./scheduler.ts";
import type { Sequence } from "./sequence.ts";

export interface AheadSession {
  readonly run: AheadRun;
  readonly sequences: readonly Sequence[];
  /** Steps in all. */
  readonly steps: number;
  /** A token for a sequence that has not ended; the row it was given is computed. */
  readonly take: (sequence: Sequence, token: number) => void;
  /** What went wrong for one sequence. */
  readonly fail: (sequence: Sequence, error: unknown) => void;
  /** Whether no more is to be queued. */
  readonly ends: () => boolean;
}

/** Steps after which the scheduler is asked again at the latest. */
export const longestAhead = 128;

/** A sequence's last token, whose logits give the next. */
export function oneToken(sequence: Sequence): ScheduledChunk {
  return { sequence, start: sequence.tokens.length - 1, count: 1, sample: true };
}

/** Steps of a chunk: doubled from chunk to chunk while one takes less than `patience`, so that tokens still flow. */
export class ChunkSize {
  readonly #most: number;
  #steps = 2;

  constructor(most: number) {
    this.#most = most;
  }

  get steps(): number {
    return this.#steps;
  }

  note(milliseconds: number): void {
    if (milliseconds < patience / 2) this.#steps = Math.min(2 * this.#steps, this.#most);
    else if (milliseconds > patience) this.#steps = Math.max(1, this.#steps >> 1);
  }
}

/** Milliseconds between two looks at who wants what. */
const patience = 50;

/** Runs a session; gives the number of steps run. */
export async function decodeAhead(session: AheadSession, size: ChunkSize, now: () => number): Promise<number> {
  const { run, steps, ends } = session;
  let queued = 0;
  const next = () => {
    const count = Math.min(size.steps, steps - queued);
    if (count === 0 || ends()) return null;
    queued += count;
    const ids = run.queue(count);
    ids.catch(() => {}); // whoever awaits it hears of it
    return { count, ids };
  };
  let current = next();
  let before = now();
  while (current !== null) {
    const following = next();
    const { count, ids } = current;
    deal(session, await ids, count);
    const after = now();
    size.note(after - before);
    before = after;
    current = following;
  }
  return queued;
}

function deal({ sequences, take, fail }: AheadSession, ids: Int32Array, steps: number): void {
  for (let step = 0; step < steps; step++) {
    for (const [row, sequence] of sequences.entries()) {
      if (sequence.status !== "running") continue;
      const token = ids[step * sequences.length + row]!;
      if (token >= 0) take(sequence, token);
      else fail(sequence, new InternalError("sampler", "the model gave logits that are not all finite numbers"));
    }
  }
}
