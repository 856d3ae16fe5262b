/** `shardAndDeploy`: a Hugging Face folder becomes a model that chats, divided over several devices of this host. */
import { checkOverrides, quantizeSentences, scaleGroup } from "../../compile.ts";
import { invariant } from "../../ir/errors.ts";
import { type Mesh, rankCount } from "../../ir/mesh.ts";
import { checkWeights } from "../../models/deepseek/check-weights.ts";
import { type ModelConfig, parseModelConfigText } from "../../models/deepseek/config.ts";
import { modelSharding } from "../../models/deepseek/sharding.ts";
import { type WeightSpec, weightSpecs } from "../../models/deepseek/weights.ts";
import type { Recipe } from "../../recipe.ts";
import { availableCores } from "../default-threads.ts";
import { limitsOf, maxConfigBytes } from "../load-limits.ts";
import { Model } from "../model.ts";
import { readInputScales } from "../quality/input-scales.ts";
import { readGenerationDefaults } from "../sampling/generation-defaults.ts";
import { loadTokenizer } from "../text/tokenizer.ts";
import { headersOf, openCheckpoint } from "../weights/checkpoint.ts";
import { openNodeFolder } from "../weights/node-folder.ts";
import { chooseMesh } from "./choose-mesh.ts";
import { checkDeployOptions, type DeployOptions, placeOf } from "./deploy-options.ts";
import { deployable } from "./deploy-recipe.ts";
import { localSite } from "./local-ranks.ts";
import { MeshRanks, type RankSite } from "./mesh-ranks.ts";
import { MeshRunner } from "./mesh-runner.ts";
import type { RankStart } from "./messages.ts";
import { processSite } from "./processes.ts";
import { meshMemory, stopMesh } from "./shared-memory.ts";
import { limitsOfLane } from "./space-limits.ts";
import { startRankThread } from "./threads.ts";

export type { DeployOptions } from "./deploy-options.ts";

/** Bytes on their way from one rank to another at most; longer messages go in pieces. */
const ringBytes = 2 ** 18;
/** How long a rank looks for a message before it sleeps, where every rank has a core and where not. */
const spinMs = { spare: 0.3, taken: 0.02 } as const;
/** The same for the next command, where whoever drives has a core as well and where not. */
const idleMs = { spare: 2, taken: 0.1 } as const;
/** Steps that ranks decode without being asked, where asking takes long. */
const usualStepsAhead = 16;

/**
 * Every device reads its own share of the weights of a folder, given by its path or as a recipe that only quantises.
 *
 * @throws UnsupportedError for recipes that prune, choose fusion or hardware
 */
export async function shardAndDeploy(model: string | Recipe<string>, given: DeployOptions): Promise<Model> {
  const { path, options } = deployable(model, given);
  checkDeployOptions(options);
  const folder = await openNodeFolder(path);
  const config = parseModelConfigText(await folder.readText("config.json", maxConfigBytes), `${path} config.json`);
  const { quantize } = options;
  const group = scaleGroup(quantize);
  const { dp = 1, ...mesh } = chooseMesh(config, options.devices, group);
  // Says what cannot be divided, and which names are wrong, before anything is started.
  modelSharding(config, mesh, { group });
  if (quantize !== undefined) checkOverrides(weightSpecs(config).map(patternName), quantize);
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
      const all = { ...options, inputScales: inputScales ?? undefined };
      runners.push(await startRunner(path, config, { mesh, replicas: dp }, all, name));
    }
    await Promise.all(runners.map((each) => each.prepare({ tokens: 1, sequences: 1, blocks: 1, outputs: 1 })));
    const [runner, ...replicas] = runners;
    invariant(runner !== undefined, () => "a mesh without ranks");
    const lossy = quantizeSentences(quantize);
    const parts = { name: path, config, tokenizer, device: null, runner, replicas, checkpoint, defaults };
    return new Model({ ...parts, lossy, quantized: lossy.length > 0, end });
  } catch (error) {
    await end();
    await checkpoint.close();
    throw error;
  }
}

/** A weight as overrides name it. */
function patternName({ name }: WeightSpec): string {
  return name.replace("{expert}", "{0}");
}

async function startRunner(
  folder: string,
  config: ModelConfig,
  { mesh, replicas }: { readonly mesh: Mesh; readonly replicas: number },
  options: DeployOptions,
  name: string,
): Promise<MeshRunner> {
  const { backend = null, inputScales = null, packageFolder = null, gpuFlags = [] } = options;
  const { stepMs: deadlineMs = 60_000, loadMs = 1_800_000 } = options;
  const compile = { ...options.compile, ...(options.quantize && { quantize: options.quantize }) };
  const stages = mesh.pp ?? 1;
  const { lanes = stages } = options;
  const limits = limitsOfLane(limitsOf(config, options, null), lanes);
  const ranks = rankCount(mesh);
  const waiting = waitingOf(ranks, replicas * ranks, availableCores());
  const guests = placeOf(options) === "threads" ? waiting.guests : 0;
  const sizes = { mesh, guests, cores: waiting.cores, limits, lanes, deadlineMs };
  const rank = { ...sizes, folder, backend, gpuFlags, packageFolder, compile, inputScales };
  const starts = Array.from({ length: ranks }, (_, each): RankStart => ({ ...rank, rank: each }));
  return new MeshRunner({
    ranks: new MeshRanks(starts, await siteOf(options, ranks, waiting, deadlineMs), name),
    // The ranks that wait say more than one that does not answer: theirs comes first.
    deadlines: { stepMs: deadlineMs + 1000, loadMs },
    vocabSize: config.vocab_size,
    limits,
    lanes,
    overlap: stages,
    stepsAhead: options.stepsAhead ?? (placeOf(options) === "threads" ? 0 : usualStepsAhead),
    steps: 0,
    times: [],
    memory: [],
    summaries: [],
  });
}

async function siteOf(
  options: DeployOptions,
  ranks: number,
  { spinMs, idleMs }: Waiting,
  deadlineMs: number,
): Promise<RankSite> {
  const place = placeOf(options);
  if (place === "here") return localSite(ranks, deadlineMs);
  if (place === "processes") return processSite({ gpus: options.gpus ?? null });
  const memory = meshMemory(ranks, ringBytes);
  return {
    start: (start, events) => startRankThread({ memory, spinMs, idleMs }, start, events),
    stop: (rank) => stopMesh(memory, rank),
  };
}

/** What ranks in threads do while they wait. */
export interface Waiting {
  /** How many others may help a rank that is late. */
  readonly guests: number;
  /** How long they look for a message, and for the next command, before they sleep. */
  readonly spinMs: number;
  readonly idleMs: number;
  /** Of the machine's, a rank's share. */
  readonly cores: number;
}

/** `ranks` of a mesh, `threads` of all replicas together: those that look about would take cores from ranks that compute. */
export function waitingOf(ranks: number, threads: number, cores: number): Waiting {
  return {
    guests: threads <= cores ? ranks - 1 : 0,
    spinMs: spinMs[threads <= cores ? "spare" : "taken"],
    idleMs: idleMs[threads < cores ? "spare" : "taken"],
    cores: Math.max(1, Math.floor(cores / threads)),
  };
}
