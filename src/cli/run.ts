/** `ciuic run`: continues a text, or token ids. */
import { InputError } from "../ir/errors.ts";
import type { Generation } from "../runtime/generation.ts";
import type { Model } from "../runtime/model.ts";
import { printAnswer, summary } from "./answer.ts";
import { defineCommand, exitCodes } from "./command.ts";
import { generateOptions, generationOptions } from "./generation-flags.ts";
import { catchInterrupt } from "./interrupt.ts";
import { openModel } from "./model-source.ts";
import type { OptionTable, OptionValues } from "./options.ts";
import { readText } from "./read-input.ts";

const options = {
  prompt: { kind: "text", value: "TEXT", short: "p", doc: "The text to continue; - reads it from stdin." },
  think: {
    kind: "flag",
    doc: "Ask the prompt as a question, in the model's chat form, with reasoning before the answer.",
  },
  ...generationOptions,
} as const satisfies OptionTable;

export const run = defineCommand({
  name: "run",
  usage: ["[MODEL] --prompt TEXT [OPTIONS]"],
  summary: "Continue a text.",
  details: [
    "Writes the continuation of the prompt to stdout as it is generated, then tokens per second to stderr. Ctrl-C stops.",
    "The prompt is plain text after the model's begin token. To ask a question, use ciuic chat.",
  ],
  options,
  examples: [
    'ciuic run --prompt "Once upon a time, there was"',
    'ciuic run --prompt "One day, a little girl" --greedy --max-tokens 40',
    'echo "Once upon a time" | ciuic run --prompt - --seed 7 > story.txt',
  ],
  positionals: 1,
  run: async ({ values, positionals }) => runText(values, positionals[0]),
});

async function runText(values: OptionValues<typeof options>, path: string | undefined): Promise<number> {
  if (values.prompt === undefined) {
    const hint = 'For example: ciuic run --prompt "Once upon a time, there was"';
    throw new InputError("run --prompt", "missing: there is nothing to continue", { hint });
  }
  const prompt = values.prompt === "-" ? (await readText("-")).replace(/\r?\n$/, "") : values.prompt;
  if (prompt === "") throw new InputError("run --prompt", "empty: expected a text to continue");
  const interrupt = catchInterrupt();
  try {
    const model = await openModel(path, {
      maxSequences: 1,
      contextLength: values.context,
      backend: values.backend,
      signal: interrupt.signal,
    });
    try {
      const { result } = await printAnswer(begin(model, prompt, values, interrupt.signal), process.stdout);
      if (!values.quiet) process.stderr.write(summary(result));
    } finally {
      await model.close();
    }
  } catch (error) {
    if (!interrupt.signal.aborted) throw error;
  } finally {
    interrupt.release();
  }
  return interrupt.signal.aborted ? exitCodes.interrupted : exitCodes.done;
}

function begin(model: Model, prompt: string, values: OptionValues<typeof options>, signal: AbortSignal): Generation {
  const generate = { ...generateOptions(values), signal };
  if (values.think) return model.chat([{ role: "user", content: prompt }], { ...generate, thinking: true });
  return model.generate(prompt, generate);
}
