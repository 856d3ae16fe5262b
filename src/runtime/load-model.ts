/** `loadModel`: a Hugging Face folder becomes a model that chats. */
import {
  allBackendNames,
  arePairs,
  type CompileOptions,
  checkPruneOptions,
  type Device,
  type DeviceOptions,
  missingWasm,
  openDefaultDevice,
  type PruneOptions,
  parseSparsity,
  prepareDevice,
  pruneSentences,
  type QuantizeOptions,
  quantizeSentences,
} from "../compile.ts";
import { compileOptionsFromEnv } from "../compile-options.ts";
import { resolve } from "../compile-recipe.ts";
import { didYouMean, InputError, showValue, UnsupportedError } from "../ir/errors.ts";
import type { Tensor } from "../ir/tensor.ts";
import { checkWeights } from "../models/deepseek/check-weights.ts";
import { type ModelConfig, parseModelConfigText } from "../models/deepseek/config.ts";
import { checkpointDTypes } from "../models/deepseek/layers.ts";
import { buildModel } from "../models/deepseek/model.ts";
import { prunedConfig } from "../models/deepseek/pruned.ts";
import { namesOf, scaleSuffix, weightSpecs } from "../models/deepseek/weights.ts";
import { type Choices, type Recipe, type RecipeStep, recipeOf } from "../recipe.ts";
import { debugFileWriter } from "./debug-files.ts";
import { defaultThreads, mayShareMemory } from "./default-threads.ts";
import { bucketFor } from "./engine/bucket-ladder.ts";
import { checkLoadOptions } from "./load-check.ts";
import { type LimitOptions, limitsOf, maxConfigBytes } from "./load-limits.ts";
import { chooseFor, type LoadTarget, loadOnFirst } from "./load-target.ts";
import { Model } from "./model.ts";
import type { TargetChoice } from "./probe/target-choice.ts";
import { type InputScales, readInputScales } from "./quality/input-scales.ts";
import type { KernelProfile } from "./report/kernel-profile.ts";
import { type GenerationDefaults, readGenerationDefaults } from "./sampling/generation-defaults.ts";
import { type InterpreterOptions, InterpreterRunner } from "./steps/interpreter-runner.ts";
import { ModelRunner, type RunnerOptions } from "./steps/model-runner.ts";
import type { Tokenizer } from "./text/tokenizer.ts";
import { loadTokenizer } from "./text/tokenizer.ts";
import type { ModelFolder } from "./weights/byte-source.ts";
import { type Checkpoint, headersOf, openCheckpoint } from "./weights/checkpoint.ts";
import { pruneCheckpoint } from "./weights/pruned-checkpoint.ts";
import { weightReader } from "./weights/weight-reader.ts";
import { WeightStore } from "./weights/weight-store.ts";

export interface LoadProgress {
  readonly phase: "compile" | "weights";
  /** Steps or bytes done, and in all. */
  readonly done: number;
  readonly total: number;
}

export interface LoadOptions extends LimitOptions {
  /**
   * What computes: js, wasm, webgpu, or an engine of TensorFlow.js (tfjs-cpu, tfjs-wasm, tfjs-webgpu, tensorflow,
   * tensorflow-gpu), whose packages are imported when it is asked for. Default: what should be fastest of what fits, see
   * `chooseTarget`; `model.choice` says why, `model.device` what it is. "interpreter" is the slow definition of every op, for comparison.
   */
  readonly backend?: string | undefined;
  /** Threads that compute together, where the backend has threads. Default: as many as should be fastest. */
  readonly threads?: number | undefined;
  /** Where backends webgpu and tfjs-webgpu find their GPU. Default: `navigator.gpu`, under Node the package `webgpu`. */
  readonly gpu?: GPU | undefined;
  /** On a GPU, see `DeviceOptions`. */
  readonly matrixUnits?: boolean | undefined;
  /** In a browser, see `DeviceOptions`. */
  readonly threadUrl?: string | undefined;
  /** Where TensorFlow.js is, see `DeviceOptions`. */
  readonly packageFolder?: string | undefined;
  readonly onProgress?: ((progress: LoadProgress) => void) | undefined;
  /** Weights, and with `activations` layer inputs, in fewer bits. Default: as stored. */
  readonly quantize?: QuantizeOptions | undefined;
  /** Routed experts to leave out, as `Model.chooseExperts` or pruning.json says, and weights to set to 0. Default: none. */
  readonly prune?: PruneOptions | undefined;
  /** Choices as `quantize`, `prune`, `fuse` and `optimizeFor` give them; options beside them go before them. */
  readonly passes?: readonly RecipeStep[] | undefined;
  /** What `calibrate` measured, for activations `int8-static`. Default: input_scales.json of the folder, if it has one. */
  readonly inputScales?: InputScales | undefined;
  /** Go before the debug variables of docs/env.md. */
  readonly compile?: CompileOptions | undefined;
  /** Steps that are decoded on the device at once, without waiting for each token; 0 for none. Default: where it pays. */
  readonly stepsAhead?: number | undefined;
  /** Whether steps of prompts leave rows out of the last layer that are not asked for. Default: where it pays. */
  readonly lastRows?: boolean | undefined;
  /** Collects the time of every kernel, at the price of a slower run. */
  readonly profile?: KernelProfile | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Backends that ask for a GPU of the kind that browsers have. */
const onGpu: readonly string[] = ["webgpu", "tfjs-webgpu"];
const interpreterName = "interpreter";
const oneToken = { tokens: 1, sequences: 1, blocks: 1, outputs: 1 };

/**
 * Loads the model in a folder of the disk (its path) or elsewhere (a ModelFolder), or a recipe of one. Compiles for one
 * sequence and for prompts.
 */
export async function loadModel(
  model: string | ModelFolder | Recipe<string | ModelFolder>,
  options: LoadOptions = {},
): Promise<Model> {
  checkLoadOptions(options);
  const { source, choices } = recipeOf(model, options.passes);
  const folder = await openSource(source);
  const stored = await readConfig(folder);
  const prune = options.prune ?? choices.prune ?? null;
  if (prune !== null) checkPruneOptions(prune);
  const { experts } = prune ?? {};
  const config = experts === undefined ? stored : prunedConfig(stored, experts);
  const tokenizer = (await folder.has("tokenizer.json")) ? await loadTokenizer(folder) : null;
  const defaults: GenerationDefaults = await readGenerationDefaults(folder);
  const checkpoint = pruneCheckpoint(await openCheckpoint(folder), prune);
  const open = { folder, stored, config, prune, tokenizer, defaults, checkpoint, choices };
  try {
    const { backend = choices.hardware?.backend, quantize = choices.quantize } = options;
    const choice = await chooseFor(config, { ...options, backend, quantize });
    const targets = choice === null ? [{ backend, threads: options.threads }] : [choice, ...choice.others];
    return await loadOnFirst(targets, (target) => loadOn(target, choice, open, options));
  } catch (error) {
    await checkpoint.close();
    throw error;
  }
}

interface OpenModel {
  readonly folder: ModelFolder;
  /** As the folder has it. */
  readonly stored: ModelConfig;
  /** Without experts that are left out. */
  readonly config: ModelConfig;
  readonly prune: PruneOptions | null;
  readonly tokenizer: Tokenizer | null;
  readonly defaults: GenerationDefaults;
  readonly checkpoint: Checkpoint;
  readonly choices: Choices;
}

async function loadOn(
  { backend, threads }: LoadTarget,
  choice: TargetChoice | null,
  { folder, stored, config, prune, tokenizer, defaults, checkpoint, choices }: OpenModel,
  options: LoadOptions,
): Promise<Model> {
  const { profile, stepsAhead, lastRows } = options;
  // Where the engine lacks what the default needs, the default device is plain JavaScript, and says why.
  const lacking = choice !== null && backend === "js" && missingWasm() !== null;
  const device = await openFor(lacking ? undefined : backend, threads ?? defaultThreads(config), options);
  try {
    const headers = headersOf(checkpoint);
    checkWeights(stored, headers, folder.name);
    const limits = limitsOf(config, options, device);
    const build = { weightDType: checkpointDTypes(stored, headers), ...(lastRows !== undefined && { lastRows }) };
    const pruned = prune === null ? [] : pruneSentences(prune);
    const parts = { name: folder.name, config, tokenizer, device, checkpoint, defaults, choice, lossy: pruned };
    if (device === null) {
      if ((options.quantize ?? choices.quantize) !== undefined) throw interpreterQuantizes();
      return new Model({ ...parts, runner: await loadInterpreter(config, checkpoint, { limits, build }, options) });
    }
    const first = () => buildModel(config, bucketFor(oneToken, limits), build);
    const { options: compile, why } = resolve(choices, first, device.target, await compileOptions(options));
    const inputScales = options.inputScales ?? (await readInputScales(folder)) ?? undefined;
    const pairs = prune?.sparsity !== undefined && arePairs(parseSparsity(prune.sparsity));
    const how = { device, limits, build, compile: { ...compile, pairs }, profile, stepsAhead };
    const runner = await loadCompiled(config, checkpoint, how, { ...options, inputScales });
    const rounded = quantizeSentences(compile.quantize);
    const quantized = rounded.length > 0;
    return new Model({ ...parts, runner, quantized, lossy: [...pruned, ...rounded, ...(why === null ? [] : [why])] });
  } catch (error) {
    await device?.close();
    throw error;
  }
}

/** Null for the interpreter. */
async function openFor(backend: string | undefined, threads: number, options: LoadOptions): Promise<Device | null> {
  if (backend === interpreterName) return null;
  const { threadUrl, gpu, matrixUnits, packageFolder } = options;
  return openNamedDevice(backend, {
    threads,
    ...(threadUrl && { threadUrl }),
    ...(gpu && { gpu }),
    ...(matrixUnits && { matrixUnits }),
    ...(packageFolder && { packageFolder }),
  });
}

/** What a call asks for goes before the debug variables. */
async function compileOptions({ compile, quantize }: LoadOptions): Promise<CompileOptions> {
  return { ...compileOptionsFromEnv(await debugFileWriter()), ...compile, ...(quantize && { quantize }) };
}

async function readConfig(folder: ModelFolder): Promise<ModelConfig> {
  return parseModelConfigText(await folder.readText("config.json", maxConfigBytes), `${folder.name} config.json`);
}

async function openNamedDevice(backend: string | undefined, options: DeviceOptions): Promise<Device> {
  if (backend === undefined) return openDefaultDevice(options);
  if (!allBackendNames.some((name) => name === backend)) {
    const names = [...allBackendNames, interpreterName];
    const hint = didYouMean(backend, names) ?? `Backends: ${names.join(", ")}.`;
    throw new UnsupportedError("backend", `there is no backend ${JSON.stringify(backend)}`, { hint });
  }
  const gpu = options.gpu ?? (onGpu.includes(backend) ? await nodeGpu(options.matrixUnits) : undefined);
  return prepareDevice(backend, { ...options, ...(gpu && { gpu }) });
}

/** The GPU of a process under Node; a browser's backend finds its own. */
async function nodeGpu(matrixUnits = false): Promise<GPU | undefined> {
  if (typeof process === "undefined" || globalThis.navigator?.gpu !== undefined) return undefined;
  const { openNodeGpu, unitFlags } = await import("./node-gpu.ts");
  return openNodeGpu(matrixUnits ? unitFlags : []);
}

/** Compiles and loads what every request needs: a step of one token. Other steps share its weights. */
async function loadCompiled(
  config: ModelConfig,
  checkpoint: Checkpoint,
  options: RunnerOptions,
  { onProgress, signal, inputScales, threadUrl }: LoadOptions,
): Promise<ModelRunner> {
  const read = weightReader(config, checkpoint, options.limits.ropeRows, inputScales);
  // Where the GPU's weights are made the processor has nothing else to do.
  const fold = { threads: mayShareMemory() ? defaultThreads(config) : 1, ...(threadUrl && { threadUrl }) };
  const weights = new WeightStore(read, options.device, { fold, locate: checkpoint.locate });
  const runner = new ModelRunner(config, weights, options);
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
  { onProgress, signal }: LoadOptions,
): Promise<InterpreterRunner> {
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

function interpreterQuantizes(): UnsupportedError {
  return new UnsupportedError("backend interpreter", "runs models as they are stored, not quantised", {
    hint: 'The same arithmetic, compiled: { backend: "js", compile: { optimize: false }, quantize }.',
  });
}

async function openSource(source: string | ModelFolder): Promise<ModelFolder> {
  const given: unknown = source; // as programs that no compiler has checked may have it
  if (typeof given === "object" && given !== null && "readText" in given) return source as ModelFolder;
  if (typeof source !== "string" || source === "")
    throw new InputError(
      "loadModel",
      `expected the path of a model's folder, or a ModelFolder, got ${showValue(given)}`,
    );
  if (typeof process === "undefined") {
    throw new UnsupportedError("loadModel", "a path can only be opened under Node", {
      hint: "Pass a ModelFolder, or use ciuic/browser.",
    });
  }
  const { openNodeFolder } = await import("./weights/node-folder.ts");
  return openNodeFolder(source);
}
