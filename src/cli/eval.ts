/** `ciuic eval`: how well a model predicts text, and what quantising it changes. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { QuantizeOptions } from "../compile.ts";
import { InputError } from "../ir/errors.ts";
import { showBytes } from "../plan/show.ts";
import type { Model } from "../runtime/model.ts";
import { arithmeticShare } from "../runtime/quality/arithmetic.ts";
import {
  type ComparedScores,
  compareWindows,
  type Scores,
  scoreWindows,
  type Window,
  windowsOfText,
} from "../runtime/quality/evaluate.ts";
import type { WeightError } from "../runtime/quality/weight-errors.ts";
import { defineCommand, exitCodes } from "./command.ts";
import { deviceFlags, deviceOptions } from "./device-flags.ts";
import { modelPath, withModel } from "./model-source.ts";
import type { OptionTable, OptionValues } from "./options.ts";
import { pruneFlags, pruneOptions } from "./prune-flags.ts";
import { quantizeFlags, quantizeOptions } from "./quantize-flags.ts";
import { readText } from "./read-input.ts";

const options = {
  text: { kind: "text", value: "FILE", doc: "The text to predict; - reads stdin. Default: MODEL/reference.json." },
  window: { kind: "whole", value: "N", doc: "Tokens that are predicted together, of a text. Default: 256." },
  windows: { kind: "whole", value: "N", doc: "Use the first N windows alone." },
  ...quantizeOptions,
  ...pruneOptions,
  calibrate: {
    kind: "flag",
    doc: "Measure the input scales that int8-static needs on texts that the model makes up; else input_scales.json.",
  },
  arithmetic: { kind: "flag", doc: "Also ask 200 sums and differences below 50." },
  tensors: { kind: "flag", doc: "Also measure the error of every quantised weight." },
  json: { kind: "flag", doc: "Print the results as JSON." },
  ...deviceOptions,
} as const satisfies OptionTable;
type Values = OptionValues<typeof options>;

/** What `--json` writes. */
export interface Evaluation {
  readonly model: string;
  readonly quantize: QuantizeOptions | null;
  /** What was changed on purpose, in sentences. */
  readonly lossy: readonly string[];
  /** Bytes of compiled weights as the program holds them. */
  readonly weightBytes: { readonly unquantized: number; readonly quantized: number | null };
  /** By the name of the text. */
  readonly texts: Readonly<Record<string, Scores | ComparedScores>>;
  /** Shares of right answers. */
  readonly arithmetic: { readonly unquantized: number; readonly quantized: number | null } | null;
  readonly tensors: readonly WeightError[] | null;
}

export const evaluate = defineCommand({
  name: "eval",
  usage: ["[MODEL] [--text FILE] [--quantize FORMAT] [OPTIONS]"],
  summary: "Measure a model's predictions, and what quantising or pruning it changes.",
  details: [
    "Prints the loss (mean negative log-likelihood of a token, in nats) and the perplexity. With --quantize or --prune the model is loaded twice, and every position's prediction is compared: kl is the mean KL divergence from the unchanged model's in nats, top1 the share of positions with the same most likely token.",
  ],
  options,
  examples: [
    "ciuic eval --quantize int4+int8 --windows 1",
    "ciuic eval --quantize int4 --override lm_head=none --windows 1 --tensors --json",
    'echo "Once upon a time, there was a little fox." | ciuic eval --text -',
  ],
  positionals: 1,
  run: async ({ values, positionals }) => {
    const quantize = quantizeFlags("eval", values);
    const prune = await pruneFlags(values);
    const on = deviceFlags(values);
    const evaluation = await withModel(positionals[0], { ...on, maxSequences: 8 }, async (model) => {
      const texts = await textsOf(model, positionals[0], values);
      if (quantize === undefined && prune === undefined) return measure(model, null, texts, values);
      const inputScales =
        quantize?.activations === "int8-static" && values.calibrate ? await model.calibrate(quantize) : undefined;
      return withModel(positionals[0], { ...on, maxSequences: 8, quantize, prune, inputScales }, (changed) =>
        measure(model, { model: changed, quantize: quantize ?? null }, texts, values),
      );
    });
    process.stdout.write(values.json ? `${JSON.stringify(evaluation, null, 2)}\n` : showEvaluation(evaluation));
    return exitCodes.done;
  },
});

async function measure(
  model: Model,
  other: { readonly model: Model; readonly quantize: QuantizeOptions | null } | null,
  texts: ReadonlyMap<string, readonly Window[]>,
  values: Values,
): Promise<Evaluation> {
  const scores: Record<string, Scores | ComparedScores> = {};
  for (const [name, windows] of texts) {
    scores[name] =
      other === null ? await scoreWindows(model, windows) : await compareWindows(model, other.model, windows);
  }
  const arithmetic = values.arithmetic
    ? {
        unquantized: await arithmeticShare(model),
        quantized: other === null ? null : await arithmeticShare(other.model),
      }
    : null;
  return {
    model: model.name,
    quantize: other?.quantize ?? null,
    lossy: other?.model.lossy ?? [],
    weightBytes: { unquantized: model.memory.weights, quantized: other?.model.memory.weights ?? null },
    texts: scores,
    arithmetic,
    tensors: values.tensors && other !== null ? await other.model.weightErrors() : null,
  };
}

/** The windows to predict, by the name of the text. */
async function textsOf(
  model: Model,
  path: string | undefined,
  { text, window = 256, windows: most = Number.MAX_SAFE_INTEGER }: Values,
): Promise<Map<string, readonly Window[]>> {
  if (most < 1) throw new InputError("eval --windows", `expected at least 1, got ${most}`);
  if (text === undefined) {
    const all = await referenceWindows(modelPath(path), model.config.vocab_size);
    return new Map([...all].map(([name, windows]) => [name, windows.slice(0, most)]));
  }
  if (model.tokenizer === null) throw new InputError("eval --text", "the model has no tokenizer");
  const windows = windowsOfText(model.tokenizer, await readText(text), window).slice(0, most);
  if (windows.length === 0) throw new InputError("eval --text", `no text to predict in ${text}`);
  return new Map([[text, windows]]);
}

/** `windows` of reference.json: token ids by the name of the text. */
async function referenceWindows(folder: string, vocab: number): Promise<Map<string, number[][]>> {
  const file = join(folder, "reference.json");
  const hint = "Give a text: --text FILE.";
  const content = await readFile(file, "utf8").catch((cause: unknown) => {
    throw new InputError("eval --text", "missing, and the model's folder has no reference.json", { hint, cause });
  });
  let parsed: unknown;
  try {
    parsed = JSON.parse(content);
  } catch (cause) {
    throw new InputError(file, "is not JSON", { hint, cause });
  }
  const windows = isRecord(parsed) ? parsed.windows : undefined;
  if (!isRecord(windows)) throw new InputError(`${file} windows`, "expected token ids by name of a text", { hint });
  const isWindow = (ids: unknown): ids is number[] =>
    Array.isArray(ids) && ids.every((id) => Number.isInteger(id) && id >= 0 && id < vocab);
  return new Map(
    Object.entries(windows).map(([name, list]) => {
      if (Array.isArray(list) && list.length > 0 && list.every(isWindow)) return [name, list];
      throw new InputError(`${file} windows ${name}`, `expected arrays of token ids below ${vocab}`, { hint });
    }),
  );
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The evaluation for a reader. */
export function showEvaluation({ weightBytes, lossy, texts, arithmetic, tensors }: Evaluation): string {
  const { unquantized, quantized } = weightBytes;
  const lines = [
    ...(lossy.length === 0 ? [] : [`changed: ${lossy.join("; ")}`]),
    `weights ${showBytes(unquantized)}${quantized === null ? "" : `, changed ${showBytes(quantized)}`}`,
  ];
  for (const [name, scores] of Object.entries(texts)) {
    const own = `loss ${scores.loss.toFixed(5)}  perplexity ${scores.perplexity.toFixed(3)}`;
    const compared =
      "kl" in scores
        ? `  unchanged ${scores.referenceLoss.toFixed(5)}  kl ${scores.kl.toFixed(6)}  top1 ${(100 * scores.top1).toFixed(2)} %`
        : "";
    lines.push(
      `${name}: ${scores.windows} ${scores.windows === 1 ? "window" : "windows"}, ${scores.tokens} tokens  ${own}${compared}`,
    );
  }
  if (arithmetic !== null) {
    const share = (x: number) => `${(100 * x).toFixed(1)} %`;
    const other = arithmetic.quantized === null ? "" : `, changed ${share(arithmetic.quantized)}`;
    lines.push(`arithmetic ${share(arithmetic.unquantized)} right${other}`);
  }
  for (const { names, codes, bytes, error } of tensors ?? []) {
    lines.push(`${error.toFixed(5)}  ${codes}  ${showBytes(bytes).padStart(8)}  ${names.join(" + ")}`);
  }
  return `${lines.join("\n")}\n`;
}
