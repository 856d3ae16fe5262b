/** Tokens of kernel text and a cursor over them. Line ends are tokens, since a statement ends with its line. */
import { IrError } from "../errors.ts";

interface Token {
  readonly text: string;
  readonly line: number;
}

export interface Cursor {
  /** The token `ahead` places on; "" at the end, "\n" at a line's end. */
  peek(ahead?: number): string;
  /** Takes the next token if it is this one. */
  accept(text: string): boolean;
  /** Takes the next token, which must be this one. */
  word(text: string): void;
  name(): string;
  string(): string;
  /** A natural number. */
  integer(): number;
  /** A number literal with its sign; undefined, taking nothing, where there is none. */
  number(): { value: number; whole: boolean } | undefined;
  /** The comment that ends this line. */
  comment(): string | undefined;
  /** One or more line ends. */
  newLine(): void;
  endOfLine(): void;
  end(): void;
  fail(what: string, hint?: string): never;
}

const tokenPattern =
  /[ \t\r]+|(\n)|\/\/([^\n]*)|("(?:[^"\\\n]|\\.)*")|(\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)|([A-Za-z_]\w*)|(\.\.|\|\||&&|[=!<>]=|[-+*/%<>=(){}[\],:])/y;

export function cursor(text: string, where: string): Cursor {
  const tokens: Token[] = [];
  const comments = new Map<number, string>();
  let line = 1;
  tokenPattern.lastIndex = 0;
  while (tokenPattern.lastIndex < text.length) {
    const start = tokenPattern.lastIndex;
    const match = tokenPattern.exec(text);
    if (match === null) throw errorAt(text, where, line, `unexpected character ${JSON.stringify(text[start])}`);
    const [all, end, comment] = match;
    if (comment !== undefined) comments.set(line, comment.trim());
    else if (all.trim() !== "" || end !== undefined) tokens.push({ text: end ?? all, line });
    if (end !== undefined) line++;
  }
  let next = 0;
  const peek = (ahead = 0) => tokens[next + ahead]?.text ?? "";
  const lineNow = () => tokens[next]?.line ?? line;
  const fail = (what: string, hint?: string): never => {
    throw errorAt(text, where, lineNow(), what, hint);
  };
  const shown = () => (peek() === "\n" ? "the line's end" : peek() === "" ? "the text's end" : peek());
  const accept = (wanted: string) => peek() === wanted && ++next > 0;
  const take = (pattern: RegExp, what: string) => {
    const found = peek();
    if (!pattern.test(found)) fail(`expected ${what}, got ${shown()}`);
    next++;
    return found;
  };
  const endOfLine = () => {
    if (peek() !== "\n" && peek() !== "") fail(`expected the line's end, got ${shown()}`);
  };
  return {
    peek,
    accept,
    fail,
    endOfLine,
    word: (wanted) => void (accept(wanted) || fail(`expected ${wanted}, got ${shown()}`)),
    name: () => take(/^[A-Za-z_]\w*$/, "a name"),
    string: () => {
      const quoted = take(/^"/, "a quoted text");
      try {
        return String(JSON.parse(quoted));
      } catch {
        return fail(`${quoted} is no quoted text`);
      }
    },
    integer: () => {
      const value = Number(take(/^\d+$/, "a natural number"));
      return Number.isSafeInteger(value) ? value : fail(`${value} is too large`);
    },
    number: () => {
      const sign = peek() === "-" ? 1 : 0;
      const digits = peek(sign);
      if (!/^(\d|inf$|NaN$)/.test(digits)) return undefined;
      next += sign + 1;
      const value = digits === "inf" ? Number.POSITIVE_INFINITY : Number(digits);
      return { value: sign === 1 ? -value : value, whole: /^\d+$/.test(digits) };
    },
    comment: () => comments.get(tokens[next - 1]?.line ?? line),
    newLine: () => {
      endOfLine();
      while (accept("\n"));
    },
    end: () => {
      if (next < tokens.length) fail(`expected the text's end, got ${shown()}`);
    },
  };
}

function errorAt(text: string, where: string, line: number, what: string, hint?: string): IrError {
  const shown = (text.split("\n")[line - 1] ?? "").slice(0, 200);
  return new IrError(`${where}, line ${line}`, what, { text: `  ${shown}`, ...(hint === undefined ? {} : { hint }) });
}
