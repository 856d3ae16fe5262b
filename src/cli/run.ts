/** `ciuic run`: continues a text, or token ids. */
import { InputError } from "../ir/errors.ts";
import type { Generation } from "../runtime/engine/generation.ts";
import type { Model } from "../runtime/model.ts";
import { measureSpeed, showSpeed } from "../runtime/report/speed.ts";
import { printAnswer, summary, write } from "./answer.ts";
import { defineCommand, exitCodes } from "./command.ts";
import { generateOptions, generationOptions } from "./generation-flags.ts";
import { catchInterrupt } from "./interrupt.ts";
import { modelFlags, showChanges } from "./model-flags.ts";
import { withModel } from "./model-source.ts";
import type { OptionTable, OptionValues } from "./options.ts";
import { readText } from "./read-input.ts";
import { checkTokenIds, readTokenIds } from "./token-ids.ts";

const options = {
  prompt: { kind: "text", value: "TEXT", short: "p", doc: "The text to continue; - reads it from stdin." },
  think: {
    kind: "flag",
    doc: "Ask the prompt as a question, in the model's chat form, with reasoning before the answer.",
  },
  ids: { kind: "text", value: "IDS.json", doc: "Continue arrays of token ids instead; needs --print-ids." },
  "print-ids": { kind: "flag", doc: "Print the generated ids of each array as a JSON array, one a line." },
  ...generationOptions,
} as const satisfies OptionTable;

export const run = defineCommand({
  name: "run",
  usage: [
    "[MODEL] --prompt TEXT [OPTIONS]",
    "[MODEL] --ids IDS.json --print-ids [--greedy] [--max-tokens N] [OPTIONS]",
  ],
  summary: "Continue a text.",
  details: [
    "Writes the continuation of the prompt to stdout as it is generated, then tokens per second, what computed them and what limits them to stderr. Ctrl-C stops.",
    "The prompt is plain text after the model's begin token. To ask a question, use ciuic chat.",
    "With --ids, IDS.json is an array of arrays of token ids, which are continued together, each as if it were alone, and taken as they are: nothing is put before them. The ids printed are those generated, a final end token included; --ignore-eos goes on after it. - reads stdin.",
  ],
  options,
  examples: [
    'ciuic run --prompt "Once upon a time, there was"',
    'ciuic run --prompt "One day, a little girl" --greedy --max-tokens 40',
    'echo "Once upon a time" | ciuic run --prompt - --seed 7 > story.txt',
    'echo "[[0, 397, 431], [0, 5, 6, 7]]" | ciuic run --ids - --greedy --max-tokens 8 --print-ids',
  ],
  positionals: 1,
  run: async ({ values, positionals }) => {
    generateOptions(values);
    const interrupt = catchInterrupt();
    try {
      await (values.ids === undefined ? runText : runIds)(values, positionals[0], interrupt.signal);
    } catch (error) {
      if (!interrupt.signal.aborted) throw error;
    } finally {
      interrupt.release();
    }
    return interrupt.signal.aborted ? exitCodes.interrupted : exitCodes.done;
  },
});

type Values = OptionValues<typeof options>;

async function runText(values: Values, path: string | undefined, signal: AbortSignal): Promise<void> {
  if (values["print-ids"]) throw new InputError("run --print-ids", "needs --ids IDS.json");
  if (values.prompt === undefined) {
    const hint = 'For example: ciuic run --prompt "Once upon a time, there was"';
    throw new InputError("run --prompt", "missing: there is nothing to continue", { hint });
  }
  const prompt = values.prompt === "-" ? (await readText("-")).replace(/\r?\n$/, "") : values.prompt;
  if (prompt === "") throw new InputError("run --prompt", "empty: expected a text to continue");
  const options = { ...(await modelFlags("run", values)), maxSequences: 1, signal };
  await withModel(path, options, async (model) => {
    if (!values.quiet) process.stderr.write(showChanges(model.lossy));
    const { result } = await printAnswer(begin(model, prompt, values, signal), process.stdout);
    if (values.quiet) return;
    process.stderr.write(summary(result));
    const speed = signal.aborted ? null : await measureSpeed(model, result.timings.tokensPerSecond);
    if (speed !== null) process.stderr.write(showSpeed(speed));
    if (model.choice !== null && !signal.aborted) process.stderr.write(`[${model.choice.why}]\n`);
  });
}

/** All arrays at once: the engine computes them together. */
async function runIds(values: Values, path: string | undefined, signal: AbortSignal): Promise<void> {
  if (!values["print-ids"]) throw new InputError("run --ids", "needs --print-ids: there is no other way to show ids");
  if (values.prompt !== undefined || values.think)
    throw new InputError("run --ids", "does not go with --prompt or --think");
  const file = values.ids ?? "-";
  const lists = await readTokenIds(file);
  await withModel(path, { ...(await modelFlags("run", values)), signal }, async (model) => {
    checkTokenIds(lists, model.config.vocab_size, file);
    const generations = lists.map((ids) => model.generate(ids, { ...generateOptions(values), signal }));
    for (const generation of generations) {
      const { tokens } = await generation.result;
      await write(process.stdout, `${JSON.stringify(tokens)}\n`);
    }
  });
}

function begin(model: Model, prompt: string, values: Values, signal: AbortSignal): Generation {
  const generate = { ...generateOptions(values), signal };
  if (values.think) return model.chat([{ role: "user", content: prompt }], { ...generate, thinking: true });
  return model.generate(prompt, generate);
}
