/** Finds the command, runs it, and turns what went wrong into a message and an exit code. */
import { didYouMean, InputError } from "../ir/errors.ts";
import { bench } from "./bench.ts";
import { chat } from "./chat.ts";
import { type Command, exitCodes } from "./command.ts";
import { evaluate } from "./eval.ts";
import { commandHelp, overallHelp } from "./help.ts";
import { inspect } from "./inspect.ts";
import { logits } from "./logits.ts";
import { opt } from "./opt.ts";
import { plan } from "./plan.ts";
import { planMemory } from "./plan-memory.ts";
import { probeCommand } from "./probe.ts";
import { prune } from "./prune.ts";
import { reportError } from "./report.ts";
import { run } from "./run.ts";
import { tokenize } from "./tokenize.ts";
import { trace } from "./trace.ts";
import { verify } from "./verify.ts";

/** In the order of `--help`. */
export const commands: readonly Command[] = [
  run,
  chat,
  bench,
  evaluate,
  prune,
  inspect,
  trace,
  plan,
  planMemory,
  probeCommand,
  opt,
  logits,
  tokenize,
  verify,
];

/** Gives the exit code; `complain` gets what belongs on stderr. */
export async function dispatch(argv: readonly string[], complain: (text: string) => void): Promise<number> {
  try {
    return await obey(argv);
  } catch (error) {
    const command = commands.find(({ name }) => name === argv[0]);
    const { text, code } = reportError(error, argv, command);
    complain(text);
    return code;
  }
}

async function obey(argv: readonly string[]): Promise<number> {
  const [name, ...rest] = argv;
  if (name === undefined || name === "--help" || name === "-h" || name === "help") {
    const about = commands.find((each) => each.name === rest[0]);
    process.stdout.write(about === undefined ? overallHelp(commands) : commandHelp(about));
    return name === undefined ? exitCodes.usage : exitCodes.done;
  }
  const command = commands.find((each) => each.name === name);
  if (command === undefined) {
    const names = commands.map((each) => each.name);
    const hint = didYouMean(name, names) ?? `Commands: ${names.join(", ")}. See: ciuic --help.`;
    throw new InputError(name, "unknown command", { hint });
  }
  if (asksForHelp(rest)) {
    process.stdout.write(commandHelp(command));
    return exitCodes.done;
  }
  return command.run(rest);
}

/** `--help` anywhere before `--`, whatever else is wrong with the words around it. */
function asksForHelp(words: readonly string[]): boolean {
  const end = words.indexOf("--");
  return words.slice(0, end === -1 ? undefined : end).some((word) => word === "--help" || word === "-h");
}
