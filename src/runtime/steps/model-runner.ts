/** A compiled model as a StepRunner: compiles a bucket when it is first needed, pads steps to it, keeps the caches. */
import {
  type CompileOptions,
  compile,
  type Device,
  type Executable,
  type ExpertUse,
  type Instance,
  type QuantizeOptions,
} from "../../compile.ts";
import { InternalError } from "../../ir/errors.ts";
import type { Node } from "../../ir/graph.ts";
import type { Plan } from "../../ir/plan.ts";
import type { Target } from "../../ir/target.ts";
import type { TensorData } from "../../ir/tensor.ts";
import { byteSize, type TensorType, tensorType } from "../../ir/types.ts";
import { type Bucket, cacheSpecs } from "../../models/deepseek/bucket.ts";
import type { ModelConfig } from "../../models/deepseek/config.ts";
import { type BuildOptions, buildModel } from "../../models/deepseek/model.ts";
import {
  type BucketLimits,
  bucketFor,
  bucketKey,
  runnerSizes,
  type StepSize,
  stepSizeOf,
} from "../engine/bucket-ladder.ts";
import { calibrateInputs } from "../quality/calibrate.ts";
import { measureExperts } from "../quality/expert-use.ts";
import type { InputScales } from "../quality/input-scales.ts";
import type { KernelProfile } from "../report/kernel-profile.ts";
import type { WeightProgress, WeightStore } from "../weights/weight-store.ts";
import { DecodeAhead } from "./decode-ahead.ts";
import { fillBatch } from "./padded-batch.ts";
import type { RaggedBatch, RunnerSizes, StepRunner } from "./step.ts";

export interface RunnerOptions {
  /** Holds the weights and the caches, and runs every bucket. */
  readonly device: Device;
  readonly limits: BucketLimits;
  readonly build: BuildOptions;
  readonly compile: CompileOptions;
  /** Collects the time of every kernel. */
  readonly profile?: KernelProfile | undefined;
  /** Steps that the device decodes without being waited for; by default, as many as pay where it can. */
  readonly stepsAhead?: number | undefined;
}

/** Steps queued at once: enough that the device never waits for this side. */
const usualStepsAhead = 16;

/** One compiled bucket. */
export interface CompiledBucket {
  readonly bucket: Bucket;
  readonly executable: Executable;
}

interface Loaded extends CompiledBucket {
  readonly instance: Instance;
}

export class ModelRunner implements StepRunner {
  readonly sizes: RunnerSizes;
  readonly #config: ModelConfig;
  readonly #weights: WeightStore;
  readonly #options: RunnerOptions;
  #caches: ReadonlyMap<string, TensorData> | null = null;
  readonly #compiled = new Map<string, CompiledBucket>();
  readonly #loaded = new Map<string, Loaded>();
  #single: ModelRunner | null = null;
  readonly ahead: DecodeAhead | undefined;

  constructor(config: ModelConfig, weights: WeightStore, options: RunnerOptions) {
    const { limits } = options;
    this.#config = config;
    this.#weights = weights;
    this.#options = options;
    this.sizes = runnerSizes(config.vocab_size, limits);
    const maxSteps = options.stepsAhead ?? (options.device.queues === true ? usualStepsAhead : 0);
    const bind = ({ plan, instantiate }: Executable) => this.#bind(plan, instantiate, "decode");
    this.ahead =
      maxSteps === 0 || options.profile ? undefined : new DecodeAhead({ ...options, config, maxSteps, bind });
  }

  get target(): Target {
    return this.#options.device.target;
  }

  /** Bytes of the compiled weights loaded so far. */
  get weightBytes(): number {
    return this.#weights.bytes;
  }

  /** Bytes of the caches of all layers. */
  get cacheBytes(): number {
    return cacheTypes(this.#config, this.#options.limits).reduce((sum, { type }) => sum + byteSize(type), 0);
  }

  /** The value of a weight expression of a compiled module. */
  evaluateWeight(expr: Node, layer: number | null): Promise<TensorData> {
    return this.#weights.evaluate(expr, layer);
  }

  /** The scales that `quantize` needs for activations `int8-static`, from sample sequences of token ids. */
  calibrate(quantize: QuantizeOptions, sequences: readonly ArrayLike<number>[]): Promise<InputScales> {
    const { device, build, compile, limits } = this.#options;
    const options = { device, build, compile, quantize, ropeRows: limits.ropeRows };
    return calibrateInputs(this.#config, this.#weights, sequences, options);
  }

  /** How the gates use the routed experts on sample sequences of token ids. */
  measureExperts(sequences: readonly ArrayLike<number>[]): Promise<ExpertUse> {
    const { device, build, compile, limits } = this.#options;
    const options = { device, build, compile, ropeRows: limits.ropeRows };
    return measureExperts(this.#config, this.#weights, sequences, options);
  }

  /** The buckets compiled so far. */
  get buckets(): readonly CompiledBucket[] {
    return [...this.#compiled.values()];
  }

  /** Compiles the bucket that a step of this size runs in. */
  compile(size: StepSize): CompiledBucket {
    const { limits, build, device, compile: options } = this.#options;
    const bucket = bucketFor(size, limits);
    const key = bucketKey(bucket);
    let compiled = this.#compiled.get(key);
    if (compiled === undefined) {
      compiled = { bucket, executable: compile(buildModel(this.#config, bucket, build), device, options) };
      this.#compiled.set(key, compiled);
    }
    return compiled;
  }

  /** Compiles, loads the weights and binds memory, so that the first step of this size does not have to. */
  async prepare(size: StepSize, progress?: WeightProgress, signal?: AbortSignal): Promise<void> {
    await this.#load(size, progress, signal);
  }

  /** A runner of its own cache for one sequence on the same weights, to score tokens beside running requests. */
  single(): ModelRunner {
    this.#single ??= this.profiled(this.#options.profile);
    return this.#single;
  }

  /** Such a runner, for `sequences` at a time, of which `profile` hears every launch: on one thread. */
  profiled(profile: KernelProfile | undefined, sequences = 1): ModelRunner {
    const { limits } = this.#options;
    return new ModelRunner(this.#config, this.#weights, {
      ...this.#options,
      limits: { ...limits, sequences, slots: sequences * limits.blocks * limits.blockSize },
      profile,
    });
  }

  /** Gives back the memory of its programs and caches; weights stay, which others use too. It cannot run any more. */
  release(): void {
    for (const { instance } of this.#loaded.values()) instance.release();
    this.#loaded.clear();
    this.ahead?.forget();
    for (const data of this.#caches?.values() ?? []) this.#options.device.free(data);
    this.#caches = null;
  }

  /** Loads and binds programs anew where they are needed next, as after the device's variants changed. */
  bindAgain(): void {
    for (const { instance } of this.#loaded.values()) instance.release();
    this.#loaded.clear();
    this.#compiled.clear();
    this.ahead?.forget();
    this.#single?.bindAgain();
  }

  async step(batch: RaggedBatch, signal?: AbortSignal): Promise<Float32Array> {
    const { instance, bucket } = await this.#load(stepSizeOf(batch), undefined, signal);
    const [tokens, positions, sequence, slots, blockTable, outputs] = instance.params;
    const inputs = { tokens, positions, sequence, slots, blockTable, outputs };
    fillBatch((name) => inputs[name], batch, bucket.blocks);
    if (batch.outputs.length === 0 && instance.runKept !== undefined) await instance.runKept(signal);
    else await instance.run(signal);
    const logits = instance.results[0];
    if (!(logits instanceof Float32Array)) throw new InternalError("step", "logits are not f32");
    return logits.subarray(0, batch.outputs.length * this.sizes.vocabSize);
  }

  async #load(size: StepSize, progress?: WeightProgress, signal?: AbortSignal): Promise<Loaded> {
    const key = bucketKey(bucketFor(size, this.#options.limits));
    const known = this.#loaded.get(key);
    if (known !== undefined) return known;
    const compiled = this.compile(size);
    const { plan, instantiate } = compiled.executable;
    const loaded = { ...compiled, instance: await this.#bind(plan, instantiate, key, progress, signal) };
    this.#loaded.set(key, loaded);
    return loaded;
  }

  /** Binds a program to weights, which are loaded if they are not yet, and to the caches. */
  async #bind(
    plan: Plan,
    instantiate: Executable["instantiate"],
    key: string,
    progress?: WeightProgress,
    signal?: AbortSignal,
  ): Promise<Instance> {
    await this.#weights.load(plan, progress, signal);
    const { profile, device, limits } = this.#options;
    // After the first program, by which a device decides how large its memory must be able to grow.
    this.#caches ??= new Map(
      cacheTypes(this.#config, limits).map(({ name, type }) => [name, device.allocate(type, "resident")]),
    );
    return instantiate({
      weight: this.#weights.lookup(plan),
      params: this.#caches,
      ...(profile === undefined ? {} : { onLaunch: profile.listen(plan, key) }),
    });
  }
}

function cacheTypes(config: ModelConfig, limits: BucketLimits): { readonly name: string; readonly type: TensorType }[] {
  return cacheSpecs(config, limits).map(({ name, dtype, shape }) => ({ name, type: tensorType(dtype, shape) }));
}
