/** The two pieces of work that the decode bench times: generating after a short prompt, and reading a longer one. */
import type { Session } from "./candidates/candidate.ts";
import type { Timed } from "./run-interleaved.ts";

export const promptTokens = 32;
export const decodeTokens = 64;
export const prefillTokens = 128;

/** Fixed ids, spread over the vocabulary so that all experts are met; the same for every candidate. */
export function promptIds(count: number): readonly number[] {
  return Array.from({ length: count }, (_, i) => (i === 0 ? 0 : 7 + ((i * 2654435761) % 4001)));
}

/** Greedy decoding: each token is the most likely after the one before. */
export function decodeRun(name: string, session: Session, units = decodeTokens): Timed {
  let id = 0;
  return {
    name,
    units,
    prepare: () => {
      session.reset();
      id = mostLikely(session.prefill(promptIds(promptTokens)));
    },
    run: () => {
      let sum = 0;
      for (let i = 0; i < units; i++) {
        id = mostLikely(session.decode(id));
        sum += id;
      }
      return sum;
    },
  };
}

export function prefillRun(name: string, session: Session, units = prefillTokens): Timed {
  return {
    name,
    units,
    prepare: () => session.reset(),
    run: () => mostLikely(session.prefill(promptIds(units))),
  };
}

function mostLikely(logits: Float32Array): number {
  let best = 0;
  for (let i = 1; i < logits.length; i++) if (logits[i]! > logits[best]!) best = i;
  return best;
}
