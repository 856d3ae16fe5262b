/** `ciuic prune`: which routed experts a model can do without. */
import { InputError } from "../ir/errors.ts";
import type { Model } from "../runtime/model.ts";
import { windowsOfText } from "../runtime/quality/evaluate.ts";
import { type Pruning, showPruning } from "../runtime/weights/pruning-file.ts";
import { write } from "./answer.ts";
import { defineCommand, exitCodes } from "./command.ts";
import { deviceFlags, deviceOptions } from "./device-flags.ts";
import { withModel } from "./model-source.ts";
import type { OptionTable, OptionValues } from "./options.ts";
import { readText } from "./read-input.ts";
import { writeOutput } from "./write-output.ts";

const options = {
  experts: { kind: "whole", value: "N", doc: "How many routed experts each layer keeps." },
  threshold: {
    kind: "number",
    value: "SHARE",
    doc: "Instead: leave out experts with less than this share of a layer's weight, such as 0.01.",
  },
  text: {
    kind: "text",
    value: "FILE",
    doc: "The text to watch the gates on; - reads stdin. Default: the model writes its own.",
  },
  out: { kind: "text", value: "FILE", doc: "Where to write pruning.json. Default: stdout." },
  ...deviceOptions,
} as const satisfies OptionTable;

export const prune = defineCommand({
  name: "prune",
  usage: ["[MODEL] --experts N [--text FILE] [--out pruning.json]", "[MODEL] --threshold SHARE [--out pruning.json]"],
  summary: "Choose the routed experts that a model keeps.",
  details: [
    "Runs text through the model, adds up the weight that the gates give each expert, and writes which to keep: as many in each layer, since layers share one compiled function, and as many of each group of a gate that chooses among groups.",
    "Nothing else changes: run, chat, bench, eval, inspect and trace take the file with --prune FILE, and say so. Measure what it costs with ciuic eval --prune FILE.",
  ],
  options,
  examples: ["ciuic prune --experts 12", "ciuic prune --threshold 0.02 --out pruning.json"],
  positionals: 1,
  run: async ({ values, positionals }) => {
    const wish = wishOf(values);
    const pruning = await withModel(positionals[0], deviceFlags(values), async (model) =>
      model.chooseExperts(wish, values.text === undefined ? undefined : await samplesOf(model, values.text)),
    );
    process.stderr.write(showShares(pruning));
    const text = showPruning(pruning);
    await (values.out === undefined ? write(process.stdout, text) : writeOutput(values.out, text));
    return exitCodes.done;
  },
});

function wishOf({ experts, threshold }: OptionValues<typeof options>) {
  if (experts !== undefined && threshold !== undefined) {
    throw new InputError("prune --threshold", "does not go with --experts");
  }
  if (experts !== undefined) return { count: experts };
  if (threshold !== undefined) return { threshold };
  throw new InputError("prune --experts", "missing: how many are to stay", { hint: "Or give --threshold SHARE." });
}

async function samplesOf(model: Model, file: string): Promise<readonly (readonly number[])[]> {
  if (model.tokenizer === null) throw new InputError("prune --text", "the model has no tokenizer");
  const window = Math.min(256, model.runner.sizes.maxContext);
  return windowsOfText(model.tokenizer, await readText(file), window);
}

function showShares({ experts, share, tokens }: Pruning): string {
  const rows = Object.entries(share).map(
    ([layer, kept]) =>
      `layer ${layer}: ${experts[layer]?.length} experts kept, with ${(100 * kept).toFixed(1)} % of the weight\n`,
  );
  return `${rows.join("")}on ${tokens} tokens\n`;
}
