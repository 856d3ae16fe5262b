/** Splits IR text into lines and tokens and walks them; every error shows the line and a caret under the place. */
import { IrError } from "./errors.ts";

/** `value` is `%name`, `symbol` is `@name` or `@"any name"`; their text is the name alone. */
export type TokenKind = "value" | "symbol" | "string" | "number" | "word" | "punctuation" | "end";

export interface Token {
  readonly kind: TokenKind;
  readonly text: string;
  /** Counted from 0. */
  readonly column: number;
}

export interface Line {
  /** Counted from 1. */
  readonly number: number;
  readonly text: string;
  readonly tokens: readonly Token[];
}

export const maxTextLength = 1 << 26;
export const maxLineLength = 1 << 20;

/** The lines that say something, without comments. Throws IrError on characters no token starts with. */
export function lexText(text: string): Line[] {
  if (text.length > maxTextLength) {
    throw new IrError("text", `expected at most ${maxTextLength} characters, got ${text.length}`);
  }
  const lines: Line[] = [];
  for (const [i, raw] of text.split("\n").entries()) {
    const line = raw.endsWith("\r") ? raw.slice(0, -1) : raw;
    const tokens = lexLine(line, i + 1);
    if (tokens.length > 1) lines.push({ number: i + 1, text: line, tokens });
  }
  return lines;
}

/** An error at a place of a line, with the line and a caret under the place. */
export function errorAt(
  line: { readonly number: number; readonly text: string },
  column: number,
  what: string,
  hint?: string,
): IrError {
  const start = Math.max(0, Math.min(column - 60, line.text.length - 120));
  const excerpt = line.text.slice(start, start + 120).replaceAll("\t", " ");
  const text = `  ${excerpt}\n  ${" ".repeat(Math.max(0, column - start))}^`;
  const where = `line ${line.number}, column ${column + 1}`;
  return new IrError(where, what, hint === undefined ? { text } : { text, hint });
}

const patterns: readonly (readonly [TokenKind | "skip", RegExp])[] = [
  ["skip", /[ \t]+|\/\/.*/y],
  ["value", /%[\w.]+/y],
  ["symbol", /@[\w.-]+/y],
  ["number", /-?(?:\d[\d.]*(?:[eE][+-]?\d+)?|inf\b)/y],
  ["word", /[A-Za-z_]\w*/y],
  ["punctuation", /[{}()[\],:=]/y],
];

function lexLine(text: string, number: number): Token[] {
  const at = { number, text };
  if (text.length > maxLineLength) throw errorAt(at, maxLineLength, `the line is longer than ${maxLineLength}`);
  const tokens: Token[] = [];
  let column = 0;
  while (column < text.length) {
    const quoted = text.startsWith('@"', column) ? "symbol" : text[column] === '"' ? "string" : undefined;
    if (quoted !== undefined) {
      const open = quoted === "symbol" ? column + 1 : column;
      const end = closingQuote(at, open);
      tokens.push({ kind: quoted, text: unquote(at, open, end), column });
      column = end;
      continue;
    }
    const { kind, match } = matchAt(at, column);
    if (kind !== "skip") {
      tokens.push({ kind, text: kind === "value" || kind === "symbol" ? match.slice(1) : match, column });
    }
    column += match.length;
  }
  tokens.push({ kind: "end", text: "", column: text.length });
  return tokens;
}

function matchAt(line: { number: number; text: string }, column: number) {
  for (const [kind, pattern] of patterns) {
    pattern.lastIndex = column;
    const match = pattern.exec(line.text)?.[0];
    if (match !== undefined) return { kind, match };
  }
  throw errorAt(line, column, `unexpected character ${JSON.stringify(line.text[column])}`);
}

/** The column after the quote that closes the one at `open`. */
function closingQuote(line: { number: number; text: string }, open: number): number {
  for (let i = open + 1; i < line.text.length; i++) {
    if (line.text[i] === "\\") i++;
    else if (line.text[i] === '"') return i + 1;
  }
  throw errorAt(line, open, "the string is not closed");
}

function unquote(line: { number: number; text: string }, open: number, end: number): string {
  try {
    return String(JSON.parse(line.text.slice(open, end)));
  } catch (cause) {
    throw errorAt(line, open, `not a JSON string: ${cause instanceof Error ? cause.message : cause}`);
  }
}

/** The lines of a text and a place among their tokens. */
export class Source {
  readonly #lines: readonly Line[];
  readonly #text: string;
  #line = 0;
  #token = 0;

  constructor(text: string) {
    this.#lines = lexText(text);
    this.#text = text;
  }

  line(): Line {
    const line = this.#lines[this.#line];
    if (line !== undefined) return line;
    const rows = this.#text.split("\n");
    throw errorAt({ number: rows.length, text: rows.at(-1)! }, rows.at(-1)!.length, "the text ends too early");
  }

  token(): Token {
    return this.line().tokens[this.#token]!;
  }

  error(token: Token, what: string, hint?: string): IrError {
    return errorAt(this.line(), token.column, what, hint);
  }

  /** Takes the next token if it is of this kind and text. */
  accept(kind: TokenKind, text?: string): Token | undefined {
    const token = this.token();
    if (token.kind !== kind || (text !== undefined && token.text !== text)) return undefined;
    this.#token++;
    return token;
  }

  expect(kind: TokenKind, text?: string): Token {
    const token = this.accept(kind, text);
    if (token !== undefined) return token;
    const found = this.token();
    const got = found.kind === "end" ? "the end of the line" : JSON.stringify(found.text);
    throw this.error(found, `expected ${text ?? spelling[kind]}, got ${got}`);
  }

  endOfLine(): void {
    this.expect("end");
    this.#line++;
    this.#token = 0;
  }

  endOfText(): void {
    const extra = this.#lines[this.#line];
    if (extra !== undefined) throw errorAt(extra, extra.tokens[0]!.column, "expected the end of the text");
  }
}

const spelling: Record<TokenKind, string> = {
  value: "a value (%name)",
  symbol: "a name (@name)",
  string: "a string",
  number: "a number",
  word: "a word",
  punctuation: "punctuation",
  end: "the end of the line",
};
