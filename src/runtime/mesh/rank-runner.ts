/** One rank of a mesh: compiles its part of each bucket when it is first needed, holds its weights and caches, runs steps. */
import {
  type CompileOptions,
  type Device,
  type Executable,
  type GuestOffer,
  openDefaultDevice,
  prepareDevice,
} from "../../compile.ts";
import { compileOptionsFromEnv } from "../../compile-options.ts";
import { InternalError, invariant } from "../../ir/errors.ts";
import { coordsOf } from "../../ir/mesh.ts";
import type { TensorData } from "../../ir/tensor.ts";
import { byteSize, tensorType } from "../../ir/types.ts";
import { cacheSpecs } from "../../models/deepseek/bucket.ts";
import { type ModelConfig, parseModelConfigText } from "../../models/deepseek/config.ts";
import { checkpointDTypes } from "../../models/deepseek/layers.ts";
import type { BuildOptions } from "../../models/deepseek/model.ts";
import type { SamplerKind } from "../../models/sampling/sample.ts";
import { debugFileWriter } from "../debug-files.ts";
import { defaultThreads } from "../default-threads.ts";
import { type BucketLimits, bucketFor, bucketKey, type StepSize, stepSizeOf } from "../engine/bucket-ladder.ts";
import { maxConfigBytes } from "../load-limits.ts";
import { fillBatch } from "../steps/padded-batch.ts";
import type { RaggedBatch } from "../steps/step.ts";
import { type Checkpoint, headersOf, openCheckpoint } from "../weights/checkpoint.ts";
import { openNodeFolder } from "../weights/node-folder.ts";
import { weightReader } from "../weights/weight-reader.ts";
import { type ReadWeight, WeightStore } from "../weights/weight-store.ts";
import { type BoundRank, bindRank } from "./bind-rank.ts";
import type { Link } from "./link.ts";
import type { CacheSpace, Command, RankDecode, RankMemory, RankStart, RankStep } from "./messages.ts";
import { stepOfRank } from "./plan-rank.ts";
import { type DecodeRank, runDecode } from "./rank-decode.ts";
import type { RankGuests } from "./rank-guests.ts";
import { limitsOfSpace } from "./space-limits.ts";

/** What a rank is made of. */
interface RankParts {
  readonly start: RankStart;
  readonly link: Link;
  readonly config: ModelConfig;
  readonly build: BuildOptions;
  readonly checkpoint: Checkpoint;
  readonly device: Device;
  readonly compile: CompileOptions;
  /** For weights of devices that leave making them to the processor. */
  readonly foldThreads: number;
  /** What it helps others with; null where ranks and whoever drives share no memory. */
  readonly guests: RankGuests | null;
}

/** Opens the device and the model's folder; reads its config and the headers of its weights. */
export async function openRank(
  start: RankStart,
  linked: Link | Promise<Link>,
  guests: RankGuests | null = null,
): Promise<RankRunner> {
  const link = await linked;
  const folder = await openNodeFolder(start.folder);
  const text = await folder.readText("config.json", maxConfigBytes);
  const config = parseModelConfigText(text, `${folder.name} config.json`);
  const device = await openRankDevice(start);
  const checkpoint = await openCheckpoint(folder);
  return new RankRunner({
    start,
    link,
    guests,
    config,
    build: { weightDType: checkpointDTypes(config, headersOf(checkpoint)) },
    checkpoint,
    device,
    compile: { ...compileOptionsFromEnv(await debugFileWriter()), ...start.compile },
    foldThreads: defaultThreads(config, start.cores),
  });
}

async function openRankDevice({ backend, gpuFlags, packageFolder, guests }: RankStart): Promise<Device> {
  const threads = 1;
  if (backend === null) return openDefaultDevice({ threads, guests });
  const packages = packageFolder === null ? {} : { packageFolder };
  if (!["webgpu", "tfjs-webgpu"].includes(backend)) return prepareDevice(backend, { threads, guests, ...packages });
  const { openNodeGpu } = await import("../node-gpu.ts");
  return prepareDevice(backend, { threads, gpu: await openNodeGpu(gpuFlags), ...packages });
}

/** Which program: the caches it works on, how large it is, and how it samples if it does. */
interface ProgramWish {
  readonly space: CacheSpace;
  readonly size: StepSize;
  readonly sampler?: SamplerKind;
}

export class RankRunner {
  readonly #parts: RankParts;
  readonly #weights: WeightStore;
  readonly #caches = new Map<CacheSpace, Map<string, TensorData>>();
  readonly #bound = new Map<string, BoundRank>();
  readonly #known = new Map<string, Executable>();
  /** Whether it is this rank's turn to hand out results that all ranks of its stage have. */
  readonly #speaks: boolean;
  #read = 0;

  constructor(parts: RankParts) {
    this.#parts = parts;
    const { start, config, checkpoint, device, foldThreads } = parts;
    const reader = weightReader(config, checkpoint, start.limits.ropeRows, start.inputScales ?? undefined);
    const read: ReadWeight = (name, range, into) => {
      if (checkpoint.tensors.has(name)) this.#read += into.byteLength;
      return reader(name, range, into);
    };
    this.#weights = new WeightStore(read, device, { fold: { threads: foldThreads } });
    const { pp: _, ...others } = coordsOf(start.mesh, start.rank);
    this.#speaks = Object.values(others).every((at) => at === 0);
  }

  /** Whether steps of different cache spaces may be under way at the same time. */
  get interleaves(): boolean {
    return this.#parts.link.interleaves;
  }

  get summary(): string {
    return this.#parts.device.summary;
  }

  get memory(): RankMemory {
    const caches = [...this.#caches.values()].flatMap((each) => [...each.values()]);
    const bytes = caches.reduce((sum, { byteLength }) => sum + byteLength, 0);
    const held = this.#parts.device.heldBytes?.() ?? null;
    return { weights: this.#weights.bytes, caches: bytes, held, read: this.#read };
  }

  /** What others can help with since this was asked for last. */
  get offer(): GuestOffer | null {
    return this.#parts.device.offer?.() ?? null;
  }

  join(offers: readonly (GuestOffer | null)[]): void {
    this.#parts.guests?.join(offers);
  }

  async prepare(wish: ProgramWish): Promise<void> {
    const { start, link, config, build, device, compile } = this.#parts;
    const { space, size, sampler } = wish;
    const limits = limitsOfSpace(start.limits, space);
    const bucket = bucketFor(size, limits);
    const key = this.#key(wish);
    if (this.#bound.has(key)) return;
    const names = cacheSpecs(config, limits).map(({ name }) => name);
    const known = this.#caches.has(space);
    const held = this.#caches.get(space) ?? new Map<string, TensorData>();
    this.#caches.set(space, held);
    const bound = await bindRank(
      stepOfRank({ ...start, config, build, compile }, bucket, sampler),
      {
        rank: start.rank,
        device,
        weights: this.#weights,
        link,
        compile,
        // Every rank goes on with the tokens that a program samples.
        handsOut: sampler === undefined,
        known: this.#known,
      },
      {
        memory: (name, allocate) => {
          if (!names.includes(name)) return undefined;
          const cache = held.get(name) ?? allocate();
          invariant(!known || held.has(name), () => `${name} was another rank's in an earlier program`);
          held.set(name, cache);
          return cache;
        },
        moreBytes: start.lanes * this.#cacheBytes(limits),
        // Results are the logits or ids, then the caches in the order of the parameters.
        result: (name) => (names.includes(name) ? 1 + names.indexOf(name) : undefined),
      },
    );
    this.#bound.set(key, bound);
  }

  /** `logits`, where it is this rank that hands them out, are valid until the next step. The bucket is prepared. */
  async step(space: CacheSpace, step: number, batch: RaggedBatch): Promise<RankStep> {
    const { start, config } = this.#parts;
    const size = stepSizeOf(batch);
    const { blocks } = bucketFor(size, limitsOfSpace(start.limits, space));
    const bound = this.#prepared({ space, size }, step);
    fillBatch((name) => bound.input(name), batch, blocks);
    const begin = performance.now();
    const exchangeMs = await bound.run(step);
    const times = { ms: performance.now() - begin, exchangeMs };
    const logits = bound.result(0);
    if (logits === undefined || !this.#speaks) return { logits: null, ...times };
    if (!(logits instanceof Float32Array)) throw new InternalError("step", "logits are not f32");
    const given = logits.subarray(0, batch.outputs.length * config.vocab_size);
    // Where ranks share memory, whoever drives can look into the device's.
    const inPlace = this.#parts.guests !== null && !(logits.buffer instanceof ArrayBuffer);
    return { logits: inPlace ? given : new Float32Array(given), ...times };
  }

  /** Steps that feed each other; ids where it is this rank that hands them out. The bucket is prepared. */
  decode(command: Extract<Command, { kind: "decode" }>): Promise<RankDecode> {
    const { start, link } = this.#parts;
    const { space, step, run } = command;
    const size = stepSizeOf(run.batch);
    const { blocks } = bucketFor(size, limitsOfSpace(start.limits, space));
    const bound = this.#prepared({ space, size, sampler: run.kind }, step);
    const { rank, mesh, limits } = start;
    const self: DecodeRank = { rank, mesh, link, bound, blocks, blockSize: limits.blockSize, speaks: this.#speaks };
    return runDecode(self, command);
  }

  /** About this rank's caches of a space. */
  #cacheBytes(limits: BucketLimits): number {
    const { start, config } = this.#parts;
    const all = cacheSpecs(config, limits).reduce(
      (sum, { dtype, shape }) => sum + byteSize(tensorType(dtype, shape)),
      0,
    );
    return all / (start.mesh.pp ?? 1);
  }

  #key({ space, size, sampler }: ProgramWish): string {
    const bucket = bucketFor(size, limitsOfSpace(this.#parts.start.limits, space));
    return `${space} ${bucketKey(bucket)} ${sampler === undefined ? "" : JSON.stringify(sampler)}`;
  }

  #prepared(wish: ProgramWish, step: number): BoundRank {
    const bound = this.#bound.get(this.#key(wish));
    if (bound !== undefined) return bound;
    throw new InternalError(`rank ${this.#parts.start.rank}, step ${step}`, "its bucket is not prepared");
  }

  /** Ends waiting for other ranks. */
  stop(why: string): void {
    this.#parts.link.stop(why);
  }

  async close(): Promise<void> {
    await this.#parts.device.close();
    await this.#parts.checkpoint.close();
  }
}
