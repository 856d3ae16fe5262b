/** Tokens to text while they come: raw token bytes through one streaming UTF-8 decoder, so that no character is ever halved. */

/** What the runtime needs of a tokenizer to show tokens. */
export interface TokenText {
  /** The raw bytes of a token, which may begin or end inside a character. */
  tokenBytes(id: number): Uint8Array;
  /** Special tokens (end of sentence, roles) show as nothing. Tags that the reader must see, such as `<think>`, are not special here. */
  isSpecial(id: number): boolean;
}

/**
 * Incremental detokeniser. The concatenation of what `push` and `end` give equals `TextDecoder` (keeping a byte order mark) on the
 * concatenated bytes of all tokens that are not special: invalid bytes become U+FFFD at the same places.
 */
export class TextStream {
  readonly #text: TokenText;
  readonly #decoder = new TextDecoder("utf-8", { ignoreBOM: true });

  constructor(text: TokenText) {
    this.#text = text;
  }

  /** The characters that this token completes; empty while a character is incomplete. */
  push(id: number): string {
    if (this.#text.isSpecial(id)) return "";
    return this.#decoder.decode(this.#text.tokenBytes(id), { stream: true });
  }

  /** U+FFFD if the bytes ended inside a character, else nothing. */
  end(): string {
    return this.#decoder.decode();
  }
}
