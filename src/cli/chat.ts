/** `ciuic chat`: a conversation, on a terminal or with one message per line of a pipe. */
import { createInterface } from "node:readline";
import { InputError } from "../ir/errors.ts";
import type { Model } from "../runtime/model.ts";
import type { ChatMessage } from "../runtime/text/chat-template.ts";
import { printAnswer, summary } from "./answer.ts";
import { defineCommand, exitCodes } from "./command.ts";
import { generateOptions, generationOptions } from "./generation-flags.ts";
import { catchInterrupt } from "./interrupt.ts";
import { modelFlags, showChanges } from "./model-flags.ts";
import { withModel } from "./model-source.ts";
import type { OptionTable, OptionValues } from "./options.ts";
import { reportError } from "./report.ts";

const options = {
  prompt: { kind: "text", value: "TEXT", short: "p", doc: "Ask this and end." },
  system: { kind: "text", value: "TEXT", doc: "Instructions before the conversation." },
  think: { kind: "flag", doc: "Ask for reasoning before each answer." },
  ...generationOptions,
} as const satisfies OptionTable;

type Values = OptionValues<typeof options>;

export const chat = defineCommand({
  name: "chat",
  usage: ["[MODEL] [OPTIONS]", "[MODEL] --prompt TEXT [OPTIONS]"],
  summary: "Talk with a model.",
  details: [
    "Type a message and press Enter. The model sees the whole conversation. Ctrl-C stops an answer; Ctrl-C twice, or Ctrl-D, leaves.",
    "From a pipe every line is a message, and stdout gets the answers. Reasoning is shown dimmed on a terminal and left out of pipes.",
  ],
  options,
  examples: [
    "ciuic chat",
    'ciuic chat --prompt "What is 27 + 15?"',
    'ciuic chat --think --prompt "What is 27 + 15?"',
    'printf "What is 2 + 2?\\nCount from 3 to 7.\\n" | ciuic chat --greedy',
  ],
  positionals: 1,
  run: async ({ values, positionals }) => {
    if (values.prompt?.trim() === "") throw new InputError("chat --prompt", "empty: expected a message");
    generateOptions(values);
    const { prompt, quiet } = values;
    const load = await modelFlags("chat", values);
    const interrupt = catchInterrupt();
    const { signal } = interrupt;
    try {
      return await withModel(positionals[0], { ...load, maxSequences: 1, signal }, async (model) => {
        if (!quiet) process.stderr.write(showChanges(model.lossy));
        const conversation = new Conversation(model, values);
        if (prompt === undefined) {
          interrupt.release();
          return converse(conversation);
        }
        await conversation.ask(prompt, signal);
        return signal.aborted ? exitCodes.interrupted : exitCodes.done;
      });
    } catch (error) {
      if (signal.aborted) return exitCodes.interrupted;
      throw error;
    } finally {
      interrupt.release();
    }
  },
});

/** The messages so far. */
class Conversation {
  readonly #model: Model;
  readonly #values: Values;
  readonly #messages: ChatMessage[] = [];

  constructor(model: Model, values: Values) {
    this.#model = model;
    this.#values = values;
    if (values.system !== undefined) this.#messages.push({ role: "system", content: values.system });
  }

  /** Prints the answer, and remembers both; of an answer that was stopped, what there was. */
  async ask(content: string, signal: AbortSignal): Promise<void> {
    const messages = [...this.#messages, { role: "user", content }];
    const settings = { ...generateOptions(this.#values), thinking: this.#values.think ?? false, signal };
    const { text, result } = await printAnswer(this.#model.chat(messages, settings), process.stdout);
    this.#messages.push({ role: "user", content }, { role: "assistant", content: text.trim() });
    if (!this.#values.quiet) process.stderr.write(summary(result));
  }
}

/** Reads messages until the end of input or two Ctrl-C in a row. */
async function converse(conversation: Conversation): Promise<number> {
  const interactive = process.stdin.isTTY === true;
  const lines = createInterface({
    input: process.stdin,
    // The prompt is no part of the answers, so it does not go to stdout.
    ...(interactive ? { output: process.stderr, terminal: true } : {}),
    prompt: "> ",
  });
  let answer: AbortController | null = null;
  let interrupts = 0;
  const stop = () => {
    interrupts++;
    answer?.abort();
    if (interrupts > 1 || !interactive) lines.close();
    else if (answer === null) {
      process.stderr.write("\n(Ctrl-C again, or Ctrl-D, to leave)\n");
      lines.prompt();
    }
  };
  // readline takes Ctrl-C from the keyboard itself; a signal from elsewhere, or with piped input, comes to the process.
  lines.on("SIGINT", stop);
  process.on("SIGINT", stop);
  try {
    if (interactive) lines.prompt();
    for await (const line of lines) {
      if (line.trim() !== "") {
        interrupts = 0;
        answer = new AbortController();
        await conversation.ask(line, answer.signal).catch((error: unknown) => {
          // A message that is too long is no reason to lose the conversation.
          if (!interactive || !(error instanceof InputError)) throw error;
          process.stderr.write(reportError(error, [], chat).text);
        });
        answer = null;
      }
      if (interactive) lines.prompt();
    }
    if (interactive && interrupts < 2) process.stderr.write("\n");
  } finally {
    process.off("SIGINT", stop);
    lines.close();
  }
  return interrupts > 0 && !interactive ? exitCodes.interrupted : exitCodes.done;
}
