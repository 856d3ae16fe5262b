/** `ciuic inspect`: a model's step as the compiler sees it, from its config alone. */
import { stat } from "node:fs/promises";
import { basename, dirname } from "node:path";
import { compileToPlan, defaultBackend, findBackend, pruneSentences, quantizeSentences } from "../compile.ts";
import { compileOptionsFromEnv } from "../compile-options.ts";
import { didYouMean, InputError } from "../ir/errors.ts";
import type { Module } from "../ir/graph.ts";
import { printKernel } from "../ir/kernel/print.ts";
import { printPlan } from "../ir/plan.ts";
import { printModule } from "../ir/print.ts";
import type { TensorType } from "../ir/types.ts";
import type { Bucket } from "../models/deepseek/bucket.ts";
import { type ModelConfig, parseModelConfigText } from "../models/deepseek/config.ts";
import { checkpointDTypes } from "../models/deepseek/layers.ts";
import { buildModel } from "../models/deepseek/model.ts";
import { prunedConfig } from "../models/deepseek/pruned.ts";
import { type PassRecord, recordPasses } from "../passes/record-passes.ts";
import { debugFileWriter } from "../runtime/debug-files.ts";
import { maxConfigBytes } from "../runtime/load-limits.ts";
import type { LoadOptions } from "../runtime/load-model.ts";
import { optimizationSummary } from "../runtime/report/optimization-summary.ts";
import { showSummary } from "../runtime/report/summary-text.ts";
import { hasWeights, headersOf, openCheckpoint } from "../runtime/weights/checkpoint.ts";
import { openNodeFolder } from "../runtime/weights/node-folder.ts";
import { write } from "./answer.ts";
import { defineCommand, exitCodes } from "./command.ts";
import { deviceFlags, deviceOptions } from "./device-flags.ts";
import { inspectSummary } from "./inspect-summary.ts";
import { modelPath, withModel } from "./model-source.ts";
import type { OptionTable } from "./options.ts";
import { pruneFlags, pruneOptions } from "./prune-flags.ts";
import { quantizeFlags, quantizeOptions } from "./quantize-flags.ts";

const options = {
  after: {
    kind: "text",
    value: "PASS",
    doc: "The IR after that pass; none is the model as it was built. Default: after all.",
  },
  bucket: {
    kind: "text",
    value: "N,B[,LENGTH]",
    doc: "Sizes of the step: N tokens of B sequences of at most LENGTH tokens each. Default: 1,1, one token of one sequence.",
  },
  kernels: { kind: "flag", doc: "Also print the kernels, and what is emitted for each." },
  plan: { kind: "flag", doc: "Also print the plan: what runs in which order, and where every value lives." },
  summary: {
    kind: "flag",
    doc: "Print what the optimizer did instead: forms of weights and why, passes, fusions and near misses, bytes, the speed to expect.",
  },
  measure: { kind: "flag", doc: "With --summary: also load the model and run it, to compare with what is expected." },
  backend: { kind: "text", value: "NAME", doc: "What to compile for. Default: wasm." },
  "package-folder": deviceOptions["package-folder"],
  ...quantizeOptions,
  ...pruneOptions,
} as const satisfies OptionTable;

export const inspect = defineCommand({
  name: "inspect",
  usage: ["[MODEL] [--after PASS] [--bucket N,B[,LENGTH]] [--kernels] [--plan]", "[MODEL] --summary [--measure]"],
  summary: "Show what a model is compiled to.",
  details: [
    "Prints the step of the model as IR, and a summary. MODEL may be a folder without weights, or the path of a config.json: nothing is computed.",
    "Layers of a kind are one function, called once per layer, so that a model of any depth fits on a few screens.",
  ],
  options,
  examples: [
    "ciuic inspect",
    "ciuic inspect --after none",
    "ciuic inspect --bucket 64,4 --after absorb",
    "ciuic inspect --kernels | less",
    "ciuic inspect --summary --quantize int4",
  ],
  positionals: 1,
  run: async ({ values, positionals }) => {
    if (values.measure && !values.summary) throw new InputError("inspect --measure", "needs --summary");
    const quantize = quantizeFlags("inspect", values);
    const prune = await pruneFlags(values);
    if (values.measure) return measured(positionals[0], { ...deviceFlags(values), quantize, prune });
    const { config: stored, headers } = await readModel(modelPath(positionals[0]));
    const config = prune?.experts === undefined ? stored : prunedConfig(stored, prune.experts);
    const bucket = parseBucket(values.bucket ?? "1,1", config);
    const build = headers === null ? {} : { weightDType: checkpointDTypes(stored, headers) };
    const passes: PassRecord[] = [];
    const fromEnv = compileOptionsFromEnv(await debugFileWriter());
    const instruments = [...(fromEnv.instruments ?? []), recordPasses(passes)];
    const started = performance.now();
    const built = buildModel(config, bucket, build);
    const buildMs = performance.now() - started;
    const backend = findBackend(values.backend ?? defaultBackend);
    const compiled = compileToPlan(built, backend.target, { ...fromEnv, instruments, ...(quantize && { quantize }) });
    const { plan } = compiled;
    if (values.summary) {
      const lossy = [...(prune ? pruneSentences(prune) : []), ...quantizeSentences(quantize)];
      const summary = await optimizationSummary(compiled, { why: whyBackend(values.backend), lossy });
      await write(process.stdout, showSummary(summary));
      return exitCodes.done;
    }
    await write(process.stdout, printModule(chooseModule(values.after, built, passes, compiled.module)));
    if (values.kernels) {
      const sources = backend.emit(plan);
      for (const [i, kernel] of plan.kernels.entries()) {
        await write(process.stdout, `\n// kernel ${i}\n${printKernel(kernel)}\n${sources[i]}\n`);
      }
    }
    if (values.plan) await write(process.stdout, `\n${printPlan(plan)}`);
    await write(process.stdout, `\n${inspectSummary({ config, headers, bucket, built, passes, compiled, buildMs })}`);
    return exitCodes.done;
  },
});

/** The summary of the model as it runs here. */
async function measured(path: string | undefined, options: LoadOptions): Promise<number> {
  const summary = await withModel(path, options, (model) => optimizationSummary(model));
  await write(process.stdout, showSummary(summary));
  return exitCodes.done;
}

function whyBackend(asked: string | undefined): string {
  return asked === undefined ? "the default, which runs wherever WebAssembly does" : "asked for with --backend";
}

export interface InspectedModel {
  readonly config: ModelConfig;
  /** Null without weights. */
  readonly headers: ReadonlyMap<string, TensorType> | null;
}

async function readModel(path: string): Promise<InspectedModel> {
  const info = await stat(path).catch(() => undefined);
  const isFile = info?.isFile() ?? false;
  const folder = await openNodeFolder(isFile ? dirname(path) : path);
  const file = isFile ? basename(path) : "config.json";
  const config = parseModelConfigText(await folder.readText(file, maxConfigBytes), `${folder.name} ${file}`);
  if (isFile || !(await hasWeights(folder))) return { config, headers: null };
  const checkpoint = await openCheckpoint(folder);
  await checkpoint.close();
  const headers = headersOf(checkpoint);
  return { config, headers };
}

const blockSize = 16;

/** `N,B` or `N,B,LENGTH`. Logits are wanted for one token of each sequence. */
export function parseBucket(text: string, config: Pick<ModelConfig, "max_position_embeddings">): Bucket {
  const most = config.max_position_embeddings;
  const numbers = text.split(",").map((part) => (/^\d+$/.test(part.trim()) ? Number(part) : Number.NaN));
  const [tokens = Number.NaN, sequences = 1, length = Math.min(most, 4096)] = numbers;
  const fits = (x: number, limit: number) => Number.isInteger(x) && x >= 1 && x <= limit;
  if (numbers.length > 3 || !fits(tokens, 2 ** 20) || !fits(sequences, tokens) || !fits(length, most)) {
    const hint = `N from 1, B from 1 to N, LENGTH from 1 to ${most}. For example: --bucket 64,4`;
    throw new InputError("inspect --bucket", `expected N,B or N,B,LENGTH, got ${JSON.stringify(text)}`, { hint });
  }
  const blocks = Math.ceil(length / blockSize);
  const slots = sequences * blocks * blockSize;
  return { tokens, sequences, blocks, outputs: sequences, blockSize, slots, ropeRows: length };
}

function chooseModule(after: string | undefined, built: Module, passes: readonly PassRecord[], last: Module): Module {
  if (after === undefined) return last;
  if (after === "none") return built;
  const found = passes.find(({ name }) => name === after);
  if (found !== undefined) return found.after;
  const names = ["none", ...passes.map(({ name }) => name)];
  const hint = didYouMean(after, names) ?? `Passes: ${names.join(", ")}.`;
  throw new InputError("inspect --after", `there is no pass ${JSON.stringify(after)}`, { hint });
}
