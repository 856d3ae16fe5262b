/** Errors as the user sees them: one line for a mistake in the input, everything we know for a bug of ours. */
import { CompilerError, InternalError, IrError } from "../ir/errors.ts";
import { type Command, exitCodes } from "./command.ts";

export interface Reported {
  /** For stderr. */
  readonly text: string;
  readonly code: number;
}

/** `argv` is what the user typed, `command` the command it names, if it names one. */
export function reportError(error: unknown, argv: readonly string[], command?: Command): Reported {
  if (error instanceof CompilerError && isTheUsers(error, command)) {
    const optionNames = Object.keys(command?.options ?? {});
    return { text: `ciuic: ${oneLine(error, optionNames)}\n`, code: exitCodes.usage };
  }
  const text = error instanceof Error ? (error.stack ?? String(error)) : String(error);
  return {
    text: `${text}

ciuic: this is a bug in ciuic, and we would like to know of it. Please report the text above, this command, and the model's config.json:
  ciuic ${argv.map(quote).join(" ")}
Running it again with VERIFY=2 DEBUG=1 finds the pass at fault if there is one; with NOOPT=1 it may work all the same.
`,
    code: exitCodes.bug,
  };
}

/** IR that does not hold together is the user's where the user wrote it, and ours where a model was built or a pass ran. */
function isTheUsers(error: CompilerError, command: Command | undefined): boolean {
  if (error instanceof InternalError) return false;
  return !(error instanceof IrError) || command?.readsIr === true;
}

/**
 * `where: what: text. hint`, where text is what an error shows on lines of its own, a list of weights perhaps; IR is left
 * out, which says nothing without its lines. An option of the library is called by its name here: maxTokens is --max-tokens.
 */
function oneLine(error: CompilerError, optionNames: readonly string[]): string {
  const { hint = "", where, message } = error;
  const [first = "", ...rest] = message
    .slice(0, message.length - hint.length)
    .trimEnd()
    .split("\n");
  const shown =
    error instanceof IrError || rest.length === 0 ? first : `${first}: ${rest.map((x) => x.trim()).join("; ")}`;
  const inLibrary = (option: string) => libraryNames[option] ?? option.replace(/-./g, (x) => x.slice(1).toUpperCase());
  const place = where.replace(/^loadModel /, "").replace(/\[\d+\]$/, "");
  const option = optionNames.find((name) => place === inLibrary(name));
  const line = option === undefined ? shown : `--${option}${shown.slice(where.length)}`;
  if (hint === "") return line;
  const spoken = optionNames
    .filter((name) => inLibrary(name) !== name)
    .reduce((text, name) => text.replaceAll(new RegExp(`\\b${inLibrary(name)}\\b`, "g"), `--${name}`), hint);
  return `${/[.!?]$/.test(line) ? line : `${line}.`} ${spoken.replaceAll("\n", " ")}`;
}

/** Options that the library calls by another name than theirs in camelCase. */
const libraryNames: Readonly<Record<string, string>> = { context: "contextLength" };

/** A word as a shell takes it. */
function quote(word: string): string {
  return /^[\w./:=,@%+-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}
