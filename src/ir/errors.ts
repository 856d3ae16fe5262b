/**
 * The four kinds of error the compiler raises, `invariant` for what cannot happen, and nearest-name hints.
 * Every message reads `where: what is wrong`, then what to do next.
 */

export type ErrorKind = "ir" | "unsupported" | "input" | "internal";

export interface ErrorDetails {
  /** What to do next, one sentence. */
  readonly hint?: string;
  /** The text concerned (IR, config excerpt), shown after the message. */
  readonly text?: string;
  readonly cause?: unknown;
}

const errorNames = {
  ir: "IrError",
  unsupported: "UnsupportedError",
  input: "InputError",
  internal: "InternalError",
} as const satisfies Record<ErrorKind, string>;

/** Base of all errors raised on purpose. `where` names the place in the user's terms: a file, a field, a node, a layer. */
export class CompilerError extends Error {
  readonly kind: ErrorKind;
  readonly where: string;
  readonly hint: string | undefined;

  constructor(kind: ErrorKind, where: string, what: string, details: ErrorDetails = {}) {
    const tail = [details.text, details.hint].filter((part) => part !== undefined).join("\n");
    super(`${where}: ${what}${tail === "" ? "" : `\n${tail}`}`, { cause: details.cause });
    // Not the class's own name, which a bundler may shorten.
    this.name = errorNames[kind];
    this.kind = kind;
    this.where = where;
    this.hint = details.hint;
  }
}

/** Malformed IR: a text that does not parse, a type that does not fit, a broken invariant. */
export class IrError extends CompilerError {
  constructor(where: string, what: string, details?: ErrorDetails) {
    super("ir", where, what, details);
  }
}

/** A correct request that this op, dtype, target or model family cannot serve; the hint says what can. */
export class UnsupportedError extends CompilerError {
  constructor(where: string, what: string, details?: ErrorDetails) {
    super("unsupported", where, what, details);
  }
}

/** Bad input from outside: config, weights, tokenizer, request. Names the field, what was expected and what was found. */
export class InputError extends CompilerError {
  constructor(where: string, what: string, details?: ErrorDetails) {
    super("input", where, what, details);
  }
}

/** Our bug. */
export class InternalError extends CompilerError {
  constructor(where: string, what: string, details?: ErrorDetails) {
    super("internal", where, what, { hint: "This is a bug in ciuic.", ...details });
  }
}

/** Checks what cannot be false; a failure is our bug. */
export function invariant(condition: unknown, message: () => string, where = "internal"): asserts condition {
  if (!condition) throw new InternalError(where, message());
}

/** Shows an untrusted value in a message: JSON where possible, at most 80 characters. */
export function showValue(value: unknown): string {
  let text: string;
  try {
    text = typeof value === "bigint" ? `${value}n` : (JSON.stringify(value) ?? String(value));
  } catch {
    text = Object.prototype.toString.call(value);
  }
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}

/** `did you mean "x"?` for the nearest of `names`, or undefined when nothing is near. */
export function didYouMean(name: string, names: Iterable<string>): string | undefined {
  const nearest = nearestName(name, names);
  return nearest === undefined ? undefined : `Did you mean ${JSON.stringify(nearest)}?`;
}

/** The name at the smallest edit distance, if that distance is at most a third of the length (plus one). */
export function nearestName(name: string, names: Iterable<string>): string | undefined {
  const wanted = name.slice(0, 200);
  let best: string | undefined;
  let bestDistance = Math.floor(wanted.length / 3) + 2;
  for (const candidate of names) {
    if (Math.abs(candidate.length - wanted.length) >= bestDistance) continue;
    const distance = editDistance(wanted, candidate);
    if (distance < bestDistance) [best, bestDistance] = [candidate, distance];
  }
  return best;
}

/** Levenshtein distance with one row of memory. */
export function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const substitute = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(substitute, row[j]! + 1, next[j - 1]! + 1));
    }
    row = next;
  }
  return row[b.length]!;
}
