/** One rank of a mesh: compiles its part of each bucket when it is first needed, holds its weights and caches, runs steps. */
import { type CompileOptions, type Device, type Executable, openDefaultDevice, openDevice } from "../../compile.ts";
import { compileOptionsFromEnv } from "../../compile-options.ts";
import { programOfRank } from "../../compile-ranks.ts";
import { InternalError } from "../../ir/errors.ts";
import { coordsOf } from "../../ir/mesh.ts";
import type { TensorData } from "../../ir/tensor.ts";
import { cacheSpecs } from "../../models/deepseek/bucket.ts";
import { type ModelConfig, parseModelConfigText } from "../../models/deepseek/config.ts";
import { checkpointDTypes } from "../../models/deepseek/layers.ts";
import { type BuildOptions, buildModel } from "../../models/deepseek/model.ts";
import { modelSharding } from "../../models/deepseek/sharding.ts";
import { bucketFor, bucketKey, type StepSize, stepSizeOf } from "../bucket-ladder.ts";
import { type Checkpoint, headersOf, openCheckpoint } from "../checkpoint.ts";
import { debugFileWriter } from "../debug-files.ts";
import { maxConfigBytes } from "../load-limits.ts";
import { openNodeFolder } from "../node-folder.ts";
import { fillBatch } from "../padded-batch.ts";
import type { RaggedBatch } from "../step.ts";
import { weightReader } from "../weight-reader.ts";
import { type ReadWeight, WeightStore } from "../weight-store.ts";
import { type BoundRank, bindRank } from "./bind-rank.ts";
import type { CacheSpace, RankMemory, RankStart, RankStep } from "./messages.ts";
import { SharedLink } from "./shared-link.ts";
import { limitsOfSpace } from "./space-limits.ts";

/** What a rank is made of. */
interface RankParts {
  readonly start: RankStart;
  readonly config: ModelConfig;
  readonly build: BuildOptions;
  readonly checkpoint: Checkpoint;
  readonly device: Device;
  readonly compile: CompileOptions;
}

/** Opens the model's folder; reads its config and the headers of its weights. */
export async function openRank(start: RankStart): Promise<RankRunner> {
  const folder = await openNodeFolder(start.folder);
  const text = await folder.readText("config.json", maxConfigBytes);
  const config = parseModelConfigText(text, `${folder.name} config.json`);
  const checkpoint = await openCheckpoint(folder);
  const headers = headersOf(checkpoint);
  const { backend } = start;
  return new RankRunner({
    start,
    config,
    build: { weightDType: checkpointDTypes(config, headers) },
    checkpoint,
    device: backend === null ? openDefaultDevice({ threads: 1 }) : openDevice(backend, { threads: 1 }),
    compile: { ...compileOptionsFromEnv(await debugFileWriter()), ...start.compile },
  });
}

export class RankRunner {
  readonly #parts: RankParts;
  readonly #weights: WeightStore;
  readonly #link: SharedLink;
  readonly #caches = new Map<CacheSpace, Map<string, TensorData>>();
  readonly #bound = new Map<string, BoundRank>();
  readonly #known = new Map<string, Executable>();
  /** Whether it is this rank's turn to hand out results that all ranks of its stage have. */
  readonly #speaks: boolean;
  #read = 0;

  constructor(parts: RankParts) {
    this.#parts = parts;
    const { start, config, checkpoint, device } = parts;
    const reader = weightReader(config, checkpoint, start.limits.ropeRows, start.inputScales ?? undefined);
    const read: ReadWeight = (name, range, into) => {
      if (checkpoint.tensors.has(name)) this.#read += into.byteLength;
      return reader(name, range, into);
    };
    this.#weights = new WeightStore(read, device);
    this.#link = new SharedLink(start.memory, start.rank, start);
    const { pp: _, ...others } = coordsOf(start.mesh, start.rank);
    this.#speaks = Object.values(others).every((at) => at === 0);
  }

  get summary(): string {
    return this.#parts.device.summary;
  }

  get memory(): RankMemory {
    const caches = [...this.#caches.values()].flatMap((each) => [...each.values()]);
    const bytes = caches.reduce((sum, { byteLength }) => sum + byteLength, 0);
    return { weights: this.#weights.bytes, caches: bytes, read: this.#read };
  }

  async prepare(space: CacheSpace, size: StepSize): Promise<void> {
    const { start, config, build, device, compile } = this.#parts;
    const limits = limitsOfSpace(start.limits, space);
    const bucket = bucketFor(size, limits);
    const key = `${space} ${bucketKey(bucket)}`;
    if (this.#bound.has(key)) return;
    const group = compile.quantize === undefined ? 1 : (compile.quantize.group ?? 32);
    const sharding = modelSharding(config, start.mesh, { group });
    const program = programOfRank(buildModel(config, bucket, build), sharding, start.rank);
    const names = cacheSpecs(config, limits).map(({ name }) => name);
    const held = this.#caches.get(space) ?? new Map<string, TensorData>();
    this.#caches.set(space, held);
    const bound = await bindRank(
      program,
      { rank: start.rank, device, weights: this.#weights, link: this.#link, compile, known: this.#known },
      {
        memory: (name, allocate) => {
          if (!names.includes(name)) return undefined;
          const cache = held.get(name) ?? allocate();
          held.set(name, cache);
          return cache;
        },
        // Results are the logits, then the caches in the order of the parameters.
        result: (name) => (names.includes(name) ? 1 + names.indexOf(name) : undefined),
      },
    );
    this.#bound.set(key, bound);
  }

  /** `logits` is a copy, where it is this rank that hands them out. The bucket is prepared. */
  async step(space: CacheSpace, step: number, batch: RaggedBatch): Promise<RankStep> {
    const { start, config } = this.#parts;
    const bucket = bucketFor(stepSizeOf(batch), limitsOfSpace(start.limits, space));
    const bound = this.#bound.get(`${space} ${bucketKey(bucket)}`);
    if (bound === undefined) throw new InternalError(`rank ${start.rank}, step ${step}`, "its bucket is not prepared");
    fillBatch((name) => bound.input(name), batch, bucket.blocks);
    const exchangeMs = await bound.run(step);
    const logits = bound.result(0);
    if (logits === undefined || !this.#speaks) return { logits: null, exchangeMs };
    if (!(logits instanceof Float32Array)) throw new InternalError("step", "logits are not f32");
    // Memory of its own: what is handed to another thread may not be shared memory's.
    const rows = logits.subarray(0, batch.outputs.length * config.vocab_size);
    return { logits: new Float32Array(rows), exchangeMs };
  }

  async close(): Promise<void> {
    await this.#parts.device.close();
    await this.#parts.checkpoint.close();
  }
}
