/**
 * Stop strings in streamed text. Text is held back only while it may be the beginning of a stop string, so that no part of one
 * is ever let out, however the text is cut into chunks.
 */

import { InputError, showValue } from "../../ir/errors.ts";

/** What one chunk led to: text to let out, and the stop string that ended the stream, if one did. */
export interface StopStep {
  readonly text: string;
  readonly matched: string | null;
}

/** One stop string with the Knuth-Morris-Pratt table and how much of it the text seen so far ends with. */
interface Pattern {
  readonly text: string;
  /** failure[k]: length of the longest proper prefix of text that ends text.slice(0, k + 1). */
  readonly failure: Int32Array;
  matched: number;
}

/**
 * Finds the stop string that is complete first; among several that end at the same place the longest. This depends on the
 * text only, not on its chunks. Work per character is constant on average for each stop string.
 */
export class StopMatcher {
  readonly #patterns: Pattern[];
  #held = "";
  #ended = false;

  constructor(stops: readonly string[]) {
    this.#patterns = stops.map((text) => ({ text, failure: failureTable(text), matched: 0 }));
  }

  /** Code units held back: the longest end of the text so far that begins a stop string. */
  get heldLength(): number {
    return this.#held.length;
  }

  /** Takes the next chunk. After a match everything later is dropped. */
  push(chunk: string): StopStep {
    if (this.#ended) return { text: "", matched: null };
    if (this.#patterns.length === 0) return { text: chunk, matched: null };
    for (let i = 0; i < chunk.length; i++) {
      const found = this.#advance(chunk.charCodeAt(i));
      if (found === null) continue;
      this.#ended = true;
      const seen = this.#held + chunk.slice(0, i + 1);
      this.#held = "";
      return { text: seen.slice(0, seen.length - found.length), matched: found };
    }
    const all = this.#held + chunk;
    const keep = Math.max(...this.#patterns.map((pattern) => pattern.matched));
    this.#held = all.slice(all.length - keep);
    return { text: all.slice(0, all.length - keep), matched: null };
  }

  /** The text still held when the stream ends without a match. */
  end(): string {
    const text = this.#held;
    this.#held = "";
    this.#ended = true;
    return text;
  }

  #advance(unit: number): string | null {
    let found: string | null = null;
    for (const pattern of this.#patterns) {
      let k = pattern.matched;
      while (k > 0 && pattern.text.charCodeAt(k) !== unit) k = pattern.failure[k - 1]!;
      if (pattern.text.charCodeAt(k) === unit) k++;
      pattern.matched = k;
      if (k === pattern.text.length && (found === null || k > found.length)) found = pattern.text;
    }
    return found;
  }
}

/** A string or a list of strings as a list; each must have text and be well-formed UTF-16. Throws InputError. */
export function checkStops(stop: unknown): readonly string[] {
  if (stop === undefined) return [];
  const list: readonly unknown[] = Array.isArray(stop) ? stop : [stop];
  return list.map((text, i) => {
    const where = Array.isArray(stop) ? `stop[${i}]` : "stop";
    if (typeof text !== "string" || text === "")
      throw new InputError(where, `bad stop string: expected text of at least one character, got ${showValue(text)}`);
    // Half a surrogate pair can never occur in decoded text, and holding half a character back would split it.
    if (!text.isWellFormed())
      throw new InputError(
        where,
        `bad stop string: expected whole characters, got a lone surrogate in ${showValue(text)}`,
      );
    return text;
  });
}

function failureTable(text: string): Int32Array {
  const failure = new Int32Array(text.length);
  for (let i = 1, k = 0; i < text.length; i++) {
    while (k > 0 && text.charCodeAt(k) !== text.charCodeAt(i)) k = failure[k - 1]!;
    if (text.charCodeAt(k) === text.charCodeAt(i)) k++;
    failure[i] = k;
  }
  return failure;
}
