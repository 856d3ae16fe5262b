/** Errors on their way from one thread to another: what they say, and of which kind they are. */
import { CompilerError, type ErrorKind, InputError, InternalError, IrError, UnsupportedError } from "../ir/errors.ts";

/** An error as plain data. */
export interface ErrorMessage {
  /** Null for errors that are not the library's, such as an abort. */
  readonly kind: ErrorKind | null;
  readonly name: string;
  readonly message: string;
  readonly where: string;
  readonly hint: string | null;
}

export function errorMessage(error: unknown): ErrorMessage {
  if (error instanceof CompilerError) {
    const { kind, name, message, where, hint = null } = error;
    return { kind, name, message, where, hint };
  }
  const named = error instanceof Error || error instanceof DOMException;
  return {
    kind: null,
    name: named ? error.name : "Error",
    message: named ? error.message : String(error),
    where: "",
    hint: null,
  };
}

const kinds = { ir: IrError, unsupported: UnsupportedError, input: InputError, internal: InternalError } as const;

/** The error again, of the same class and with the same message and hint. */
export function errorFrom({ kind, name, message, where, hint }: ErrorMessage): Error {
  if (kind === null) {
    if (name === "AbortError" || name === "QuotaExceededError") return new DOMException(message, name);
    const error = new Error(message);
    error.name = name;
    return error;
  }
  // The constructor puts together what is taken apart here.
  const what = message.slice(`${where}: `.length);
  const tail = hint === null ? "" : `\n${hint}`;
  if (hint !== null && what.endsWith(tail)) return new kinds[kind](where, what.slice(0, -tail.length), { hint });
  // An internal error without a hint would get the usual one.
  return kind === "internal" ? new CompilerError(kind, where, what) : new kinds[kind](where, what);
}
