/** The options about generation that `run` and `chat` share. */
import { checkGenerateOptions, type GenerateOptions } from "../runtime/engine/generate.ts";
import { modelOptions } from "./model-flags.ts";
import type { OptionTable, OptionValues } from "./options.ts";

export const generationOptions = {
  "max-tokens": { kind: "whole", value: "N", doc: "Most tokens to generate. Default: as many as there is room for." },
  temperature: {
    kind: "number",
    value: "T",
    doc: "0 takes the likeliest token. Default: what the model's makers advise.",
  },
  "top-k": { kind: "whole", value: "K", doc: "Choose among the K likeliest tokens." },
  "top-p": { kind: "number", value: "P", doc: "Choose among the likeliest tokens that have probability P together." },
  "min-p": { kind: "number", value: "P", doc: "Leave out tokens less than P times as likely as the likeliest." },
  "repetition-penalty": { kind: "number", value: "X", doc: "Above 1, tokens seen before become less likely." },
  "presence-penalty": { kind: "number", value: "X", doc: "Subtracted from the logits of generated tokens." },
  "frequency-penalty": { kind: "number", value: "X", doc: "The same for each time they were generated." },
  seed: { kind: "whole", value: "N", doc: "The same seed, prompt and options give the same tokens." },
  stop: { kind: "texts", value: "TEXT", doc: "End before this text. May be given several times." },
  greedy: { kind: "flag", doc: "Always the likeliest token: --temperature 0." },
  "ignore-eos": { kind: "flag", doc: "Go on after the model's end token." },
  ...modelOptions,
  quiet: { kind: "flag", short: "q", doc: "No summary at the end." },
} as const satisfies OptionTable;

/**
 * The library's options; what was not given is left to the model's defaults. Checked here too, so that a mistake is
 * reported before a model is loaded.
 */
export function generateOptions(values: OptionValues<typeof generationOptions>): GenerateOptions {
  const options: GenerateOptions = {
    maxTokens: values["max-tokens"],
    temperature: values.greedy ? 0 : values.temperature,
    topK: values["top-k"],
    topP: values["top-p"],
    minP: values["min-p"],
    repetitionPenalty: values["repetition-penalty"],
    presencePenalty: values["presence-penalty"],
    frequencyPenalty: values["frequency-penalty"],
    seed: values.seed,
    stop: values.stop,
    ignoreEos: values["ignore-eos"],
  };
  // None of these options depends on the vocabulary.
  checkGenerateOptions(options, Number.MAX_SAFE_INTEGER);
  return options;
}
