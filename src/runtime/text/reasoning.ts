/**
 * Separates streamed text into reasoning and answer at `<think>` and `</think>`, tags left out, nothing else changed.
 * Reasoning comes first or not at all: the opening tag counts only at the very beginning (white space before it is allowed and
 * dropped with it), the closing tag only inside reasoning. So an answer that talks about the tags is left whole.
 */

import { StopMatcher } from "./stop.ts";

export type TextKind = "text" | "reasoning";

export interface TextPiece {
  readonly kind: TextKind;
  readonly text: string;
}

export interface ReasoningTags {
  readonly open: string;
  readonly close: string;
}

export const thinkTags: ReasoningTags = { open: "<think>", close: "</think>" };

/** `starting`: nothing but white space or part of the opening tag has come. */
type Stage = "starting" | "reasoning" | "answer";

export class ReasoningSplitter {
  readonly #tags: ReasoningTags;
  #stage: Stage;
  #start = "";
  /** Finds the closing tag and holds back what may be its beginning. */
  readonly #close: StopMatcher;

  /** `startsInside`: the prompt ended with the opening tag, so that the first text is reasoning. */
  constructor(options: { readonly startsInside: boolean; readonly tags?: ReasoningTags }) {
    this.#tags = options.tags ?? thinkTags;
    this.#stage = options.startsInside ? "reasoning" : "starting";
    this.#close = new StopMatcher([this.#tags.close]);
  }

  /** Whether text that came now would be reasoning. */
  get inside(): boolean {
    return this.#stage === "reasoning";
  }

  /** Takes the next chunk; gives the pieces whose kind is now certain, none of them empty. */
  push(chunk: string): TextPiece[] {
    const pieces: TextPiece[] = [];
    let rest = chunk;
    if (this.#stage === "starting") rest = this.#pushStart(rest);
    if (this.#stage === "reasoning") rest = this.#pushReasoning(rest, pieces);
    if (this.#stage === "answer") add(pieces, "text", rest);
    return pieces;
  }

  /** What is still held when the text ends: the beginning of a tag that never came. */
  end(): TextPiece[] {
    const pieces: TextPiece[] = [];
    if (this.#stage === "starting") add(pieces, "text", this.#start);
    if (this.#stage === "reasoning") add(pieces, "reasoning", this.#close.end());
    this.#start = "";
    return pieces;
  }

  /** Holds the beginning until it is the opening tag or cannot be; gives the text after it. */
  #pushStart(chunk: string): string {
    this.#start += chunk;
    const text = this.#start.trimStart();
    const { open } = this.#tags;
    if (open.startsWith(text) && text !== open) return "";
    const opened = text.startsWith(open);
    const rest = opened ? text.slice(open.length) : this.#start;
    this.#stage = opened ? "reasoning" : "answer";
    this.#start = "";
    return rest;
  }

  /** Gives the text after the closing tag, if it came. */
  #pushReasoning(chunk: string, pieces: TextPiece[]): string {
    const held = this.#close.heldLength;
    const { text, matched } = this.#close.push(chunk);
    add(pieces, "reasoning", text);
    if (matched === null) return "";
    this.#stage = "answer";
    return chunk.slice(text.length + matched.length - held);
  }
}

function add(pieces: TextPiece[], kind: TextKind, text: string): void {
  if (text !== "") pieces.push({ kind, text });
}
