/** The stream of parts that a request gives, and the end through which the engine writes it. */

import type { GeneratedPart, GenerationResult } from "./generate.ts";

type Outcome =
  | { readonly kind: "result"; readonly result: GenerationResult }
  | { readonly kind: "error"; readonly error: unknown };

/**
 * One request's answer. Iterate it for the parts; `result` (also the iterator's return value) tells how it ended. Leaving the loop early, or
 * `abort()`, gives the request up and frees its blocks. After an abort the iteration ends without an error, with finishReason "abort".
 * The engine does not wait for the reader: parts not yet read are kept, at most a few per token and so bounded by maxTokens.
 */
export class Generation implements AsyncIterable<GeneratedPart, GenerationResult, undefined> {
  readonly result: Promise<GenerationResult>;
  readonly #channel: Channel;

  constructor(channel: Channel) {
    this.#channel = channel;
    this.result = channel.result;
  }

  /** Ends the request now; its blocks are free when this returns. Does nothing to one that has ended. */
  abort(): void {
    this.#channel.abort();
  }

  /** Reads to the end: the whole text of each kind, and the result. */
  async collect(): Promise<{ text: string; reasoning: string; result: GenerationResult }> {
    const whole = { text: "", reasoning: "" };
    for await (const part of this) whole[part.kind] += part.text;
    return { ...whole, result: await this.result };
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<GeneratedPart, GenerationResult, undefined> {
    let ended = false;
    try {
      for (;;) {
        const part = await this.#channel.read();
        if (part === null) break;
        yield part;
      }
      ended = true;
      return await this.result;
    } finally {
      if (!ended) {
        this.abort();
        this.#channel.drop();
      }
    }
  }
}

/** A queue of parts between engine and reader that ends in a result or an error. */
export class Channel {
  readonly result: Promise<GenerationResult>;
  readonly abort: () => void;
  #parts: GeneratedPart[] = [];
  #next = 0;
  #outcome: Outcome | null = null;
  #wake = Promise.withResolvers<void>();
  readonly #settle = Promise.withResolvers<GenerationResult>();

  /** `abort` is called when the reader gives up. */
  constructor(abort: () => void) {
    this.abort = abort;
    this.result = this.#settle.promise;
    // A reader that only iterates gets the error there; it must not also count as unhandled.
    this.result.catch(() => {});
  }

  readonly push = (part: GeneratedPart): void => {
    this.#parts.push(part);
    this.#wake.resolve();
  };

  finish(result: GenerationResult): void {
    this.#outcome ??= { kind: "result", result };
    this.#settle.resolve(result);
    this.#wake.resolve();
  }

  fail(error: unknown): void {
    this.#outcome ??= { kind: "error", error };
    this.#settle.reject(error);
    this.#wake.resolve();
  }

  /** The next part, or null at the end. Throws the error that ended the request, after the parts before it. */
  async read(): Promise<GeneratedPart | null> {
    for (;;) {
      const part = this.#parts[this.#next];
      if (part !== undefined) {
        this.#next++;
        if (this.#next === this.#parts.length) this.drop();
        return part;
      }
      if (this.#outcome?.kind === "error") throw this.#outcome.error;
      if (this.#outcome !== null) return null;
      this.#wake = Promise.withResolvers<void>();
      await this.#wake.promise;
    }
  }

  /** Forgets the parts not yet read. */
  drop(): void {
    this.#parts = [];
    this.#next = 0;
  }
}
