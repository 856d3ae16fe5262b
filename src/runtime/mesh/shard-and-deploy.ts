/** `shardAndDeploy`: a Hugging Face folder becomes a model that chats, divided over several devices of this host. */
import { allBackendNames, checkQuantizeOptions, type QuantizeOptions, quantizeSentence } from "../../compile.ts";
import { didYouMean, InputError, invariant, UnsupportedError } from "../../ir/errors.ts";
import { type Mesh, rankCount } from "../../ir/mesh.ts";
import { checkWeights } from "../../models/deepseek/check-weights.ts";
import { type ModelConfig, parseModelConfigText } from "../../models/deepseek/config.ts";
import { modelSharding } from "../../models/deepseek/sharding.ts";
import { type Recipe, recipeOf } from "../../recipe.ts";
import { headersOf, openCheckpoint } from "../checkpoint.ts";
import { readGenerationDefaults } from "../generation-defaults.ts";
import { type InputScales, readInputScales } from "../input-scales.ts";
import { type LimitOptions, limitsOf, maxConfigBytes } from "../load-limits.ts";
import { Model } from "../model.ts";
import { openNodeFolder } from "../node-folder.ts";
import { loadTokenizer } from "../tokenizer.ts";
import { chooseMesh } from "./choose-mesh.ts";
import { MeshRunner } from "./mesh-runner.ts";
import { MeshThreads } from "./mesh-threads.ts";
import type { PlainCompileOptions, RankStart } from "./messages.ts";
import { meshMemory } from "./shared-memory.ts";
import { limitsOfLane } from "./space-limits.ts";

export interface DeployOptions extends LimitOptions {
  /**
   * How many threads with a part of the model each, or a mesh of such, as in `{ pp: 2, tp: 2 }`. Axes: tp, pp, ep, and dp, along which whole models stand
   * beside each other with requests divided over them.
   */
  readonly devices: number | Mesh;
  /** What each device computes with. Default "wasm", or "js" where the engine cannot. */
  readonly backend?: string | undefined;
  /** As for `loadModel`, but one format for all weights: without `overrides`. Default: as stored. */
  readonly quantize?: QuantizeOptions | undefined;
  readonly compile?: Omit<PlainCompileOptions, "quantize"> | undefined;
  readonly inputScales?: InputScales | undefined;
  /** How long a step, and within it an exchange, may take, in milliseconds. Default 60 s. */
  readonly stepMs?: number | undefined;
  /** How long compiling a bucket and reading weights may take, in milliseconds. Default 30 min. */
  readonly loadMs?: number | undefined;
}

const optionNames = [
  "devices",
  "backend",
  "quantize",
  "compile",
  "inputScales",
  "stepMs",
  "loadMs",
  "contextLength",
  "maxSequences",
  "maxBatchTokens",
  "cacheBytes",
];

/** Bytes on their way from one rank to another at most; longer messages go in pieces. */
const ringBytes = 2 ** 18;
/** How long a rank looks for a message before it sleeps, where every rank has a core and where not. */
const spinMs = { spare: 2, taken: 0.02 } as const;

/**
 * Every device reads its own share of the weights of a folder, given by its path or as a recipe that only quantises.
 *
 * @throws UnsupportedError for recipes that prune, choose fusion or hardware
 */
export async function shardAndDeploy(model: string | Recipe<string>, given: DeployOptions): Promise<Model> {
  const { path, options } = deployable(model, given);
  checkOptions(options);
  const folder = await openNodeFolder(path);
  const config = parseModelConfigText(await folder.readText("config.json", maxConfigBytes), `${path} config.json`);
  const { quantize } = options;
  const group = quantize === undefined ? 1 : (quantize.group ?? 32);
  const { dp = 1, ...mesh } = chooseMesh(config, options.devices, group);
  // Says what cannot be divided before anything is started.
  modelSharding(config, mesh, { group });
  const tokenizer = (await folder.has("tokenizer.json")) ? await loadTokenizer(folder) : null;
  const defaults = await readGenerationDefaults(folder);
  const checkpoint = await openCheckpoint(folder);
  const runners: MeshRunner[] = [];
  const end = async () => {
    await Promise.all(runners.map((each) => each.close()));
  };
  try {
    const headers = headersOf(checkpoint);
    checkWeights(config, headers, path);
    const inputScales = options.inputScales ?? (await readInputScales(folder));
    for (let i = 0; i < dp; i++) {
      const name = dp === 1 ? "" : `replica ${i}, `;
      runners.push(startRunner(path, config, mesh, { ...options, inputScales: inputScales ?? undefined }, name));
    }
    await Promise.all(runners.map((each) => each.prepare({ tokens: 1, sequences: 1, blocks: 1, outputs: 1 })));
    const [runner, ...replicas] = runners;
    invariant(runner !== undefined, () => "a mesh without ranks");
    const lossy = quantize === undefined ? [] : [quantizeSentence(quantize)];
    const parts = { name: path, config, tokenizer, device: null, runner, replicas, checkpoint, defaults };
    return new Model({ ...parts, lossy, quantized: lossy.length > 0, end });
  } catch (error) {
    await end();
    await checkpoint.close();
    throw error;
  }
}

/** A recipe's choices as options; those of the call go before them. */
function deployable(model: string | Recipe<string>, options: DeployOptions) {
  if (typeof model === "string") return { path: model, options };
  const { source: path, choices } = recipeOf(model);
  const refused = (["prune", "fuse", "hardware"] as const).filter((each) => choices[each] !== undefined);
  if (refused.length > 0) {
    throw new UnsupportedError(
      "shardAndDeploy",
      `takes recipes that quantise, and this one has ${refused.join(" and ")}`,
      {
        hint: refused.includes("prune")
          ? "A model that is divided has all of its weights; loadModel(prune(folder, ...)) runs a pruned one on one device."
          : "What each device computes with are the options backend and compile.",
      },
    );
  }
  const { quantize } = choices;
  return { path, options: quantize === undefined ? options : { quantize, ...options } };
}

function startRunner(
  folder: string,
  config: ModelConfig,
  mesh: Mesh,
  options: DeployOptions,
  name: string,
): MeshRunner {
  const { backend = null, inputScales = null, stepMs = 60_000, loadMs = 1_800_000 } = options;
  const compile = { ...options.compile, ...(options.quantize && { quantize: options.quantize }) };
  const lanes = mesh.pp ?? 1;
  const limits = limitsOfLane(limitsOf(config, options), lanes);
  const ranks = rankCount(mesh);
  const memory = meshMemory(ranks, ringBytes);
  const cores = typeof navigator === "undefined" ? 1 : (navigator.hardwareConcurrency ?? 1);
  const starts = Array.from({ length: ranks }, (_, rank): RankStart => {
    const spin = ranks <= cores ? spinMs.spare : spinMs.taken;
    const timing = { deadlineMs: stepMs, spinMs: spin };
    return { rank, mesh, folder, limits, backend, compile, inputScales, memory, ...timing };
  });
  return new MeshRunner({
    threads: new MeshThreads(starts, memory, name),
    // The ranks that wait say more than one that does not answer: theirs comes first.
    deadlines: { stepMs: stepMs + 1000, loadMs },
    vocabSize: config.vocab_size,
    limits,
    lanes,
    steps: 0,
    exchangeMs: [],
    memory: [],
    summaries: [],
  });
}

function checkOptions(options: DeployOptions): void {
  for (const name of Object.keys(options)) {
    if (optionNames.includes(name)) continue;
    const hint = didYouMean(name, optionNames) ?? `Options: ${optionNames.join(", ")}.`;
    throw new InputError(`shardAndDeploy ${name}`, "unknown option", { hint });
  }
  const { backend, quantize, stepMs = 1, loadMs = 1 } = options;
  if (backend !== undefined && !["js", "wasm"].includes(backend)) {
    const what = `expected js or wasm, which threads can run, got ${JSON.stringify(backend)}`;
    const known = allBackendNames.some((name) => name === backend);
    throw new UnsupportedError("backend", what, known ? { hint: "Use loadModel for one device of another kind." } : {});
  }
  if (quantize !== undefined) checkQuantizeOptions(quantize);
  if (quantize?.overrides !== undefined) {
    throw new UnsupportedError("quantize overrides", "a divided model has one format for all weights", {
      hint: "Leave overrides out, or use loadModel.",
    });
  }
  for (const [name, ms] of Object.entries({ stepMs, loadMs })) {
    if (!Number.isFinite(ms) || ms <= 0 || ms > 2 ** 31 - 2000) {
      throw new InputError(`shardAndDeploy ${name}`, `expected milliseconds above 0, got ${ms}`);
    }
  }
}
