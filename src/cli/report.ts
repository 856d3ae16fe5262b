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

/** `where: what. hint`. An option of the library is called by its name on the command line: maxTokens is --max-tokens. */
function oneLine(error: CompilerError, optionNames: readonly string[]): string {
  const [first = ""] = error.message.split("\n");
  const option = error.where.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
  const shown = optionNames.includes(option) ? `--${option}${first.slice(error.where.length)}` : first;
  if (error.hint === undefined) return shown;
  return `${/[.!?]$/.test(shown) ? shown : `${shown}.`} ${error.hint.replaceAll("\n", " ")}`;
}

/** A word as a shell takes it. */
function quote(word: string): string {
  return /^[\w./:=,@%+-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}
