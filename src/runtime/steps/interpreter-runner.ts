/** The interpreter as a StepRunner: the model op by op with no compiler between, slow, for comparison with backends. */
import { InternalError } from "../../ir/errors.ts";
import type { Module } from "../../ir/graph.ts";
import { interpret } from "../../ir/interpret.ts";
import { type Tensor, tensorFrom, tensorOf, zeros } from "../../ir/tensor.ts";
import { tensorType } from "../../ir/types.ts";
import type { WeightSource } from "../../ir/weight.ts";
import { type Bucket, cacheSpecs } from "../../models/deepseek/bucket.ts";
import type { ModelConfig } from "../../models/deepseek/config.ts";
import { type BuildOptions, buildModel } from "../../models/deepseek/model.ts";
import { withDerivedWeights } from "../../models/deepseek/rope-tables.ts";
import { type BucketLimits, runnerSizes } from "../engine/bucket-ladder.ts";
import type { RaggedBatch, RunnerSizes, StepRunner } from "./step.ts";

export interface InterpreterOptions {
  readonly limits: BucketLimits;
  readonly build: BuildOptions;
}

export class InterpreterRunner implements StepRunner {
  readonly sizes: RunnerSizes;
  readonly weightBytes: number;
  readonly #config: ModelConfig;
  readonly #tensors: ReadonlyMap<string, Tensor>;
  readonly #options: InterpreterOptions;
  readonly #weights: WeightSource;
  readonly #modules = new Map<string, Module>();
  #caches: readonly Tensor[];

  /** `tensors`: the checkpoint's by name, all that the config needs. */
  constructor(config: ModelConfig, tensors: ReadonlyMap<string, Tensor>, options: InterpreterOptions) {
    const { limits } = options;
    this.#config = config;
    this.#tensors = tensors;
    this.#options = options;
    this.#weights = withDerivedWeights((name) => find(tensors, name), config, limits.ropeRows);
    this.#caches = cacheSpecs(config, limits).map(({ dtype, shape }) => zeros(dtype, shape));
    this.sizes = runnerSizes(config.vocab_size, limits);
    this.weightBytes = [...tensors.values()].reduce((sum, { data }) => sum + data.byteLength, 0);
  }

  get cacheBytes(): number {
    return this.#caches.reduce((sum, { data }) => sum + data.byteLength, 0);
  }

  /** A runner of its own cache for one sequence on the same weights. */
  single(): InterpreterRunner {
    const { limits } = this.#options;
    const slots = limits.blocks * limits.blockSize;
    return new InterpreterRunner(this.#config, this.#tensors, {
      ...this.#options,
      limits: { ...limits, sequences: 1, slots },
    });
  }

  async step(batch: RaggedBatch, signal?: AbortSignal): Promise<Float32Array> {
    signal?.throwIfAborted();
    const sequences = batch.blockTables.length;
    const blocks = Math.max(...batch.blockTables.map((table) => table.length));
    const table = batch.blockTables.flatMap((ids) => Array.from({ length: blocks }, (_, i) => ids[i] ?? 0));
    // A step that only fills the cache still computes one row of logits.
    const outputs = batch.outputs.length > 0 ? batch.outputs : Int32Array.of(0);
    const ints = [batch.tokens, batch.positions, batch.sequence, batch.slots].map(vector);
    const module = this.#module({ tokens: batch.tokens.length, sequences, blocks, outputs: outputs.length });
    const inputs = [...ints, tensorOf("i32", [sequences, blocks], table), vector(outputs), ...this.#caches];
    const [logits, ...caches] = interpret(module, inputs, { weights: this.#weights });
    if (!(logits?.data instanceof Float32Array)) throw new InternalError("step", "logits are not f32");
    this.#caches = caches;
    return logits.data.subarray(0, batch.outputs.length * this.sizes.vocabSize);
  }

  #module(size: Pick<Bucket, "tokens" | "sequences" | "blocks" | "outputs">): Module {
    const { limits, build } = this.#options;
    const key = JSON.stringify(size);
    let module = this.#modules.get(key);
    if (module === undefined) {
      module = buildModel(this.#config, { ...limits, ...size }, build);
      this.#modules.set(key, module);
    }
    return module;
  }
}

/** A copy: the batch's arrays are overwritten by the next. */
function vector(values: Int32Array): Tensor {
  return tensorFrom(tensorType("i32", [values.length]), values.slice());
}

function find(tensors: ReadonlyMap<string, Tensor>, name: string): Tensor {
  const tensor = tensors.get(name);
  if (tensor === undefined) throw new InternalError(`weight ${name}`, "not loaded");
  return tensor;
}
