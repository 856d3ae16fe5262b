/** Tokens to streamed parts: detokenise, cut at stop strings, separate reasoning; each part with the tokens it came from. */

import type { GeneratedPart } from "../engine/generate.ts";
import { ReasoningSplitter, type ReasoningTags, type TextPiece } from "./reasoning.ts";
import { StopMatcher } from "./stop.ts";
import { TextStream, type TokenText } from "./text-stream.ts";

/** Whether and how reasoning is separated; null leaves all text as it is. */
export type ReasoningOptions = { readonly startsInside: boolean; readonly tags?: ReasoningTags };

export class TextPipeline {
  readonly #text: TextStream;
  readonly #stops: StopMatcher;
  readonly #reasoning: ReasoningSplitter | null;
  #tokens: number[] = [];
  #reasoningTokens = 0;

  constructor(text: TokenText, stops: readonly string[], reasoning: ReasoningOptions | null) {
    this.#text = new TextStream(text);
    this.#stops = new StopMatcher(stops);
    this.#reasoning = reasoning === null ? null : new ReasoningSplitter(reasoning);
  }

  /** Tokens that came while inside reasoning, or that began or ended it. */
  get reasoningTokens(): number {
    return this.#reasoningTokens;
  }

  /** Takes a token, emits what it completes, and gives the stop string that ended the text, if one did. */
  push(token: number, emit: (part: GeneratedPart) => void): string | null {
    this.#tokens.push(token);
    const before = this.#reasoning?.inside ?? false;
    const matched = this.#feed(this.#text.push(token), emit);
    if (before || (this.#reasoning?.inside ?? false)) this.#reasoningTokens++;
    return matched;
  }

  /** Emits what is still held. An incomplete character becomes U+FFFD, which can still complete a stop string: that is given. */
  end(emit: (part: GeneratedPart) => void): string | null {
    const matched = this.#feed(this.#text.end(), emit);
    this.#split(this.#stops.end(), emit);
    if (this.#reasoning !== null) this.#emitAll(this.#reasoning.end(), emit);
    return matched;
  }

  #feed(text: string, emit: (part: GeneratedPart) => void): string | null {
    const step = this.#stops.push(text);
    this.#split(step.text, emit);
    return step.matched;
  }

  #split(text: string, emit: (part: GeneratedPart) => void): void {
    if (text === "") return;
    this.#emitAll(this.#reasoning === null ? [{ kind: "text", text }] : this.#reasoning.push(text), emit);
  }

  #emitAll(pieces: readonly TextPiece[], emit: (part: GeneratedPart) => void): void {
    for (const { kind, text } of pieces) {
      emit({ text, kind, tokens: this.#tokens });
      this.#tokens = [];
    }
  }
}
