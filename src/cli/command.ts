/** What a command is, and how one is run or explained from the words that follow its name. */
import { InputError } from "../ir/errors.ts";
import { type Arguments, type OptionTable, parseOptions } from "./options.ts";

/** Exit codes, the same for all commands: `no` is an answer that was printed. 130 is what shells expect of a program that Ctrl-C ended. */
export const exitCodes = { done: 0, no: 1, bug: 1, usage: 2, interrupted: 130 } as const;

export interface CommandParts<T extends OptionTable> {
  readonly name: string;
  /** Positional arguments and the most important options, after `ciuic NAME`; several for several ways to call it. */
  readonly usage: readonly string[];
  /** One line. */
  readonly summary: string;
  /** What there is to know, in a few sentences, one line each. */
  readonly details: readonly string[];
  readonly options: T;
  /** Each works as it stands on the bundled model. */
  readonly examples: readonly string[];
  /** Most positional arguments. */
  readonly positionals: number;
  /** Whether the command reads IR that the user wrote, so that mistakes in it are the user's. */
  readonly readsIr?: boolean;
  /** Gives the exit code. */
  readonly run: (args: Arguments<T>) => Promise<number>;
}

/** A command whose option types are forgotten: what the table of commands holds. */
export interface Command extends Omit<CommandParts<OptionTable>, "run"> {
  readonly run: (argv: readonly string[]) => Promise<number>;
}

/** Checks the words before the command sees them. */
export function defineCommand<T extends OptionTable>(parts: CommandParts<T>): Command {
  const { name, options, positionals } = parts;
  return {
    ...parts,
    run: async (argv) => {
      const args = parseOptions(name, options, argv);
      const extra = args.positionals[positionals];
      if (extra !== undefined) {
        const hint = `Quote texts with spaces. See: ciuic ${name} --help.`;
        throw new InputError(name, `one word too many: ${JSON.stringify(extra)}`, { hint });
      }
      return parts.run(args);
    },
  };
}
