/** `loadModel`: a Hugging Face folder becomes a model that chats. */
import type { CompileOptions, QuantizeOptions } from "../compile.ts";
import { didYouMean, InputError, UnsupportedError } from "../ir/errors.ts";
import type { Tensor } from "../ir/tensor.ts";
import { tensorType } from "../ir/types.ts";
import { cacheSpecs } from "../models/deepseek/bucket.ts";
import { checkWeights } from "../models/deepseek/check-weights.ts";
import { type ModelConfig, parseModelConfigText } from "../models/deepseek/config.ts";
import { checkpointDTypes } from "../models/deepseek/layers.ts";
import { deriveWeights, isDerivedWeight } from "../models/deepseek/rope-tables.ts";
import type { BucketLimits } from "./bucket-ladder.ts";
import type { ModelFolder } from "./byte-source.ts";
import { type Checkpoint, openCheckpoint } from "./checkpoint.ts";
import { type GenerationDefaults, readGenerationDefaults } from "./generation-defaults.ts";
import { Model } from "./model.ts";
import { ModelRunner } from "./model-runner.ts";
import { loadTokenizer } from "./tokenizer.ts";
import { WeightStore } from "./weight-store.ts";

export interface LoadProgress {
  readonly phase: "compile" | "weights";
  /** Steps or bytes done, and in all. */
  readonly done: number;
  readonly total: number;
}

export interface LoadOptions {
  /** Default "js". */
  readonly backend?: string;
  /** Longest sequence in tokens, prompt and answer. Default: what the model allows, at most 4096. */
  readonly contextLength?: number;
  /** Most sequences computed at once. Default 8. */
  readonly maxSequences?: number;
  /** Most tokens computed at once; longer prompts are computed in chunks. Default 128. */
  readonly maxBatchTokens?: number;
  /** Memory for the caches in bytes; at least one sequence always fits. Default 512 MiB. */
  readonly cacheBytes?: number;
  readonly onProgress?: (progress: LoadProgress) => void;
  /** Weights, and with `activations` layer inputs, in fewer bits. Default: as stored. */
  readonly quantize?: QuantizeOptions;
  readonly compile?: CompileOptions;
  readonly signal?: AbortSignal;
}

const optionNames = [
  "backend",
  "contextLength",
  "maxSequences",
  "maxBatchTokens",
  "cacheBytes",
  "onProgress",
  "quantize",
  "compile",
  "signal",
];
const blockSize = 16;
const maxConfigBytes = 1_000_000;

/** Loads the model in a folder of the disk (its path) or elsewhere (a ModelFolder). Compiles for one sequence and for prompts. */
export async function loadModel(source: string | ModelFolder, options: LoadOptions = {}): Promise<Model> {
  checkOptionNames(options);
  const folder = typeof source === "string" ? await openFolder(source) : source;
  const config = parseModelConfigText(
    await folder.readText("config.json", maxConfigBytes),
    `${folder.name} config.json`,
  );
  const tokenizer = (await folder.has("tokenizer.json")) ? await loadTokenizer(folder) : null;
  const defaults: GenerationDefaults = await readGenerationDefaults(folder);
  const checkpoint = await openCheckpoint(folder);
  try {
    const headers = new Map(
      [...checkpoint.tensors].map(([name, { dtype, shape }]) => [name, tensorType(dtype, shape)]),
    );
    checkWeights(config, headers, folder.name);
    const limits = limitsOf(config, options);
    const weights = new WeightStore(weightReader(config, checkpoint, limits.ropeRows));
    const runner = new ModelRunner(config, weights, {
      backend: options.backend ?? "js",
      limits,
      build: { weightDType: checkpointDTypes(config, headers) },
      compile: { ...options.compile, ...(options.quantize && { quantize: options.quantize }) },
    });
    await prepare(runner, options);
    return new Model({ name: folder.name, config, tokenizer, runner, weights, checkpoint, defaults });
  } catch (error) {
    await checkpoint.close();
    throw error;
  }
}

/** Compiles and loads what every request needs: a step of one token. Other steps share its weights. */
async function prepare(runner: ModelRunner, { onProgress, signal }: LoadOptions): Promise<void> {
  const decode = { tokens: 1, sequences: 1, blocks: 1, outputs: 1 };
  onProgress?.({ phase: "compile", done: 0, total: 1 });
  runner.compile(decode);
  onProgress?.({ phase: "compile", done: 1, total: 1 });
  await runner.prepare(decode, (done, total) => onProgress?.({ phase: "weights", done, total }), signal);
}

function limitsOf(config: ModelConfig, options: LoadOptions): BucketLimits {
  const most = config.max_position_embeddings;
  const context = sizeOption(options.contextLength, "contextLength", Math.min(most, 4096), most);
  const tokens = sizeOption(options.maxBatchTokens, "maxBatchTokens", 128, 8192);
  const sequences = Math.min(sizeOption(options.maxSequences, "maxSequences", 8, 1024), tokens);
  const blocks = Math.ceil(context / blockSize);
  const perBlock = cacheSpecs(config, { slots: blockSize }).reduce(
    (sum, { shape }) => sum + 4 * shape[0]! * shape[1]!,
    0,
  );
  const budget = sizeOption(options.cacheBytes, "cacheBytes", 512 * 2 ** 20, Number.MAX_SAFE_INTEGER);
  const numBlocks = Math.max(blocks, Math.min(sequences * blocks, Math.floor(budget / perBlock)));
  return { tokens, sequences, blocks, outputs: tokens, blockSize, slots: numBlocks * blockSize, ropeRows: context };
}

function sizeOption(value: number | undefined, name: string, fallback: number, most: number): number {
  if (value === undefined) return fallback;
  if (!Number.isInteger(value) || value < 1 || value > most) {
    throw new InputError(`loadModel ${name}`, `expected a whole number from 1 to ${most}, got ${value}`);
  }
  return value;
}

/** Reads from the checkpoint, and computes what no checkpoint has. */
function weightReader(
  config: ModelConfig,
  checkpoint: Checkpoint,
  ropeRows: number,
): (name: string) => Promise<Tensor> {
  const derived = deriveWeights(config, ropeRows);
  return async (name) => (isDerivedWeight(name) ? derived(name) : checkpoint.read(name));
}

async function openFolder(path: string): Promise<ModelFolder> {
  if (typeof process === "undefined") {
    throw new UnsupportedError("loadModel", "a path can only be opened under Node", { hint: "Pass a ModelFolder." });
  }
  const { openNodeFolder } = await import("./node-folder.ts");
  return openNodeFolder(path);
}

function checkOptionNames(options: LoadOptions): void {
  for (const name of Object.keys(options)) {
    if (optionNames.includes(name)) continue;
    const hint = didYouMean(name, optionNames) ?? `Options: ${optionNames.join(", ")}.`;
    throw new InputError(`loadModel ${name}`, "unknown option", { hint });
  }
}
