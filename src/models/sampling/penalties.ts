/**
 * Penalties of tokens that a sequence has seen, as tensor ops: what `repetitionPenalty` and `outputPenalty` of
 * `runtime/sampling/logits.ts` do. What was seen is a number for each token of the vocabulary: how often it came in the output, and
 * half more where it is in the prompt.
 */
import type { Maths } from "../../ir/build.ts";
import type { Node } from "../../ir/graph.ts";

/** Added to a token's count where the prompt has it. */
export const inPrompt = 0.5;

/** f32 [n] each. */
export interface Penalties {
  readonly repetition: Node;
  readonly presence: Node;
  readonly frequency: Node;
}

/** Logits f32 [n, v] and counts [n, v] -> f32 [n, v] */
export function penalise(m: Maths, logits: Node, counts: Node, penalties: Penalties): Node {
  const repetition = m.expandLast(penalties.repetition);
  const [presence, frequency] = [m.expandLast(penalties.presence), m.expandLast(penalties.frequency)];
  const repeated = m.and(m.gt(counts, 0), m.ne(repetition, 1));
  const divided = m.select(m.gt(logits, 0), m.div(logits, repetition), m.mul(logits, repetition));
  const first = m.select(repeated, divided, logits);
  const times = m.floor(counts);
  const taken = m.add(m.mul(times, frequency), presence);
  return m.named("penalised", m.select(m.ge(times, 1), m.sub(first, taken), first));
}

/** The counts [n * v, 1] after each row's token; -1 for a row that has none. */
export function countTokens(m: Maths, counts: Node, tokens: Node): Node {
  const n = tokens.type.shape[0]!;
  const v = counts.type.shape[0]! / n;
  const slot = m.select(m.lt(tokens, 0), -1, m.add(m.mul(m.iota("i32", [n], 0), v), tokens)); // [n]
  return m.updateRows(counts, m.add(m.gather(counts, m.max(slot, 0)), 1), slot);
}
