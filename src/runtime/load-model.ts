/** `loadModel`: a Hugging Face folder becomes a model that chats. */
import {
  backendNames,
  type CompileOptions,
  type Device,
  type DeviceOptions,
  isInputScale,
  openDefaultDevice,
  openDevice,
  type QuantizeOptions,
} from "../compile.ts";
import { compileOptionsFromEnv } from "../compile-options.ts";
import { didYouMean, InputError, UnsupportedError } from "../ir/errors.ts";
import type { Tensor } from "../ir/tensor.ts";
import { tensorType } from "../ir/types.ts";
import { cacheSpecs } from "../models/deepseek/bucket.ts";
import { checkWeights } from "../models/deepseek/check-weights.ts";
import { type ModelConfig, parseModelConfigText } from "../models/deepseek/config.ts";
import { checkpointDTypes } from "../models/deepseek/layers.ts";
import { deriveWeights, isDerivedWeight } from "../models/deepseek/rope-tables.ts";
import { namesOf, scaleSuffix, weightSpecs } from "../models/deepseek/weights.ts";
import type { BucketLimits } from "./bucket-ladder.ts";
import type { ModelFolder } from "./byte-source.ts";
import { type Checkpoint, openCheckpoint } from "./checkpoint.ts";
import { debugFileWriter } from "./debug-files.ts";
import { defaultThreads } from "./default-threads.ts";
import { type GenerationDefaults, readGenerationDefaults } from "./generation-defaults.ts";
import { checkInputScales, type InputScales, inputScaleWeight, readInputScales } from "./input-scales.ts";
import { type InterpreterOptions, InterpreterRunner } from "./interpreter-runner.ts";
import type { KernelProfile } from "./kernel-profile.ts";
import { Model } from "./model.ts";
import { ModelRunner, type RunnerOptions } from "./model-runner.ts";
import { loadTokenizer } from "./tokenizer.ts";
import { type ReadWeight, WeightStore } from "./weight-store.ts";

export interface LoadProgress {
  readonly phase: "compile" | "weights";
  /** Steps or bytes done, and in all. */
  readonly done: number;
  readonly total: number;
}

export interface LoadOptions {
  /**
   * What computes. Default "wasm", or "js" where the engine cannot; `model.device` says what it is. "interpreter" is the
   * slow definition of every op, for comparison.
   */
  readonly backend?: string | undefined;
  /** Threads that compute together, where the backend has threads. Default: one per core, one alone for small models. */
  readonly threads?: number | undefined;
  /** In a browser, see `DeviceOptions`. */
  readonly threadUrl?: string | undefined;
  /** Longest sequence in tokens, prompt and answer. Default: what the model allows, at most 4096. */
  readonly contextLength?: number | undefined;
  /** Most sequences computed at once. Default 8. */
  readonly maxSequences?: number | undefined;
  /** Most tokens computed at once; longer prompts are computed in chunks. Default 128. */
  readonly maxBatchTokens?: number | undefined;
  /** Memory for the caches in bytes; at least one sequence always fits. Default 512 MiB. */
  readonly cacheBytes?: number | undefined;
  readonly onProgress?: ((progress: LoadProgress) => void) | undefined;
  /** Weights, and with `activations` layer inputs, in fewer bits. Default: as stored. */
  readonly quantize?: QuantizeOptions | undefined;
  /** What `calibrate` measured, for activations `int8-static`. Default: input_scales.json of the folder, if it has one. */
  readonly inputScales?: InputScales | undefined;
  /** Go before the debug variables of docs/env.md. */
  readonly compile?: CompileOptions | undefined;
  /** Collects the time of every kernel, at the price of a slower run. */
  readonly profile?: KernelProfile | undefined;
  readonly signal?: AbortSignal | undefined;
}

const optionNames = [
  "backend",
  "threads",
  "threadUrl",
  "contextLength",
  "maxSequences",
  "maxBatchTokens",
  "cacheBytes",
  "onProgress",
  "quantize",
  "inputScales",
  "compile",
  "profile",
  "signal",
];
const interpreterName = "interpreter";
const oneToken = { tokens: 1, sequences: 1, blocks: 1, outputs: 1 };
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
  const { backend, compile = {}, profile, threads = defaultThreads(config), threadUrl } = options;
  const on = { threads, ...(threadUrl && { threadUrl }) };
  const device = backend === interpreterName ? null : openNamedDevice(backend, on);
  try {
    const headers = new Map(
      [...checkpoint.tensors].map(([name, { dtype, shape }]) => [name, tensorType(dtype, shape)]),
    );
    checkWeights(config, headers, folder.name);
    const limits = limitsOf(config, options);
    const build = { weightDType: checkpointDTypes(config, headers) };
    const runner =
      device === null
        ? await loadInterpreter(config, checkpoint, { limits, build }, options)
        : await loadCompiled(
            config,
            checkpoint,
            { device, limits, build, compile, profile },
            { ...options, inputScales: options.inputScales ?? (await readInputScales(folder)) ?? undefined },
          );
    return new Model({ name: folder.name, config, tokenizer, device, runner, checkpoint, defaults });
  } catch (error) {
    await device?.close();
    await checkpoint.close();
    throw error;
  }
}

function openNamedDevice(backend: string | undefined, options: DeviceOptions): Device {
  if (backend === undefined) return openDefaultDevice(options);
  if (!backendNames.some((name) => name === backend)) {
    const names = [...backendNames, interpreterName];
    const hint = didYouMean(backend, names) ?? `Backends: ${names.join(", ")}.`;
    throw new UnsupportedError("backend", `there is no backend ${JSON.stringify(backend)}`, { hint });
  }
  return openDevice(backend, options);
}

/** Compiles and loads what every request needs: a step of one token. Other steps share its weights. */
async function loadCompiled(
  config: ModelConfig,
  checkpoint: Checkpoint,
  options: RunnerOptions,
  { onProgress, signal, quantize, inputScales }: LoadOptions,
): Promise<ModelRunner> {
  const read = weightReader(config, checkpoint, options.limits.ropeRows, inputScales);
  const weights = new WeightStore(read, options.device);
  const compile = {
    ...compileOptionsFromEnv(await debugFileWriter()),
    ...options.compile,
    ...(quantize && { quantize }),
  };
  const runner = new ModelRunner(config, weights, { ...options, compile });
  onProgress?.({ phase: "compile", done: 0, total: 1 });
  runner.compile(oneToken);
  onProgress?.({ phase: "compile", done: 1, total: 1 });
  await runner.prepare(oneToken, (done, total) => onProgress?.({ phase: "weights", done, total }), signal);
  return runner;
}

async function loadInterpreter(
  config: ModelConfig,
  checkpoint: Checkpoint,
  options: InterpreterOptions,
  { onProgress, signal, quantize }: LoadOptions,
): Promise<InterpreterRunner> {
  if (quantize !== undefined) {
    throw new UnsupportedError("backend interpreter", "runs models as they are stored, not quantised", {
      hint: 'The same arithmetic, compiled: { backend: "js", compile: { optimize: false }, quantize }.',
    });
  }
  const names = weightSpecs(config).flatMap((spec) => [...namesOf(spec)]);
  const scales = names.map((name) => name + scaleSuffix).filter((name) => checkpoint.tensors.has(name));
  const total = [...names, ...scales].reduce((sum, name) => sum + (checkpoint.tensors.get(name)?.bytes ?? 0), 0);
  const tensors = new Map<string, Tensor>();
  let done = 0;
  for (const name of [...names, ...scales]) {
    signal?.throwIfAborted();
    tensors.set(name, await checkpoint.read(name));
    done += checkpoint.tensors.get(name)?.bytes ?? 0;
    onProgress?.({ phase: "weights", done, total });
  }
  return new InterpreterRunner(config, tensors, options);
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
  inputScales: InputScales | undefined,
): ReadWeight {
  const derived = deriveWeights(config, ropeRows);
  const scales = inputScales === undefined ? null : checkInputScales(inputScales);
  return async (name, range, into) => {
    if (isInputScale(name)) return inputScaleWeight(scales, name);
    if (isDerivedWeight(name)) return derived(name);
    const { dtype, shape } = checkpoint.find(name);
    await checkpoint.readInto(name, range, into);
    return { dtype, shape };
  };
}

async function openFolder(path: string): Promise<ModelFolder> {
  if (typeof process === "undefined") {
    throw new UnsupportedError("loadModel", "a path can only be opened under Node", {
      hint: "Pass a ModelFolder, or use ciuic/browser.",
    });
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
