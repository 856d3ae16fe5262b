/** Runs a model's `step` in the interpreter: packs a ragged batch into the inputs of a bucket and keeps the caches. */
import type { Module } from "../../src/ir/graph.ts";
import { interpret } from "../../src/ir/interpret.ts";
import { type Tensor, tensorOf } from "../../src/ir/tensor.ts";
import { sizeOf } from "../../src/ir/types.ts";
import type { WeightSource } from "../../src/ir/weight.ts";
import { type Bucket, cacheSpecs } from "../../src/models/deepseek/bucket.ts";
import type { ModelConfig } from "../../src/models/deepseek/config.ts";
import { checkpointDTypes } from "../../src/models/deepseek/layers.ts";
import { type BuildOptions, buildModel } from "../../src/models/deepseek/model.ts";
import { withDerivedWeights } from "../../src/models/deepseek/rope-tables.ts";
import { weightsFrom } from "./read-golden.ts";

/** Consecutive tokens of one sequence, the first of them at position `start`. */
export interface Chunk {
  readonly ids: readonly number[];
  readonly start: number;
  /** The cache blocks of the sequence, in order. */
  readonly table: readonly number[];
}

export interface StepResult {
  /** One row of logits per output. */
  readonly logits: readonly Float32Array[];
  /** [tokens of the chunks, hidden_size]: the embedding, then after each layer. */
  readonly hidden: readonly Float32Array[];
}

export interface Sizes {
  readonly blockSize: number;
  /** Blocks in each cache. */
  readonly total: number;
  /** Blocks per sequence. */
  readonly blocks: number;
}

/** How a module is run: the interpreter, or something that is to give the same. */
export type Run = (module: Module, inputs: readonly Tensor[], options: { weights: WeightSource }) => Tensor[];

/**
 * A model in the interpreter, its caches full of NaN, which nothing may read before it is written. Without hidden states
 * (`built`) its steps have none.
 */
export function interpretedModel(
  config: ModelConfig,
  tensors: ReadonlyMap<string, Tensor>,
  sizes: Sizes,
  run: Run = interpret,
  built: BuildOptions = { hiddenStates: true },
) {
  const { blockSize, total, blocks } = sizes;
  const ropeRows = config.max_position_embeddings;
  const headers = new Map(Array.from(tensors, ([name, tensor]) => [name, tensor.type] as const));
  const weightDType = checkpointDTypes(config, headers);
  const weights = withDerivedWeights(weightsFrom(tensors), config, ropeRows);
  const modules = new Map<string, ReturnType<typeof buildModel>>();
  const slots = total * blockSize;
  let caches = cacheSpecs(config, { slots }).map(({ dtype, shape }) =>
    tensorOf(dtype, shape, new Array<number>(sizeOf(shape)).fill(Number.NaN)),
  );

  const moduleFor = (tokens: number, sequences: number, outputs: number) => {
    const key = `${tokens} ${sequences} ${outputs}`;
    const bucket: Bucket = { tokens, sequences, blocks, outputs, blockSize, slots, ropeRows };
    const module = modules.get(key) ?? buildModel(config, bucket, { weightDType, ...built });
    modules.set(key, module);
    return module;
  };

  return {
    caches: () => caches,
    /**
     * One step with `padding` tokens that belong to no sequence before and after the chunks' own. `outputs` numbers
     * those of the chunks whose logits are wanted; without it, all.
     */
    step: (chunks: readonly Chunk[], padding = 0, outputs?: readonly number[]): StepResult => {
      const rows = chunks.flatMap(({ ids, start, table }, sequence) =>
        ids.map((id, i) => {
          const position = start + i;
          const slot = table[Math.floor(position / blockSize)]! * blockSize + (position % blockSize);
          return { id, position, sequence, slot };
        }),
      );
      const pad = new Array(padding).fill({ id: 0, position: -1, sequence: 0, slot: -1 });
      const padded: typeof rows = [...pad, ...rows, ...pad];
      const n = padded.length;
      const ints = (values: readonly number[]) => tensorOf("i32", [values.length], values);
      const table = chunks.flatMap(({ table }) => Array.from({ length: blocks }, (_, i) => table[i] ?? 0));
      const wanted = (outputs ?? rows.map((_, i) => i)).map((i) => padding + i);
      const results = run(
        moduleFor(n, chunks.length, wanted.length),
        [
          ints(padded.map((row) => row.id)),
          ints(padded.map((row) => row.position)),
          ints(padded.map((row) => row.sequence)),
          ints(padded.map((row) => row.slot)),
          tensorOf("i32", [chunks.length, blocks], table),
          ints(wanted),
          ...caches,
        ],
        { weights },
      );
      const [logits, ...rest] = results.map(({ data }) => data as Float32Array); // every result is f32
      const hidden = rest.slice(caches.length);
      caches = results.slice(1, 1 + caches.length);
      const v = config.vocab_size;
      return {
        logits: wanted.map((_, i) => logits!.subarray(i * v, (i + 1) * v)),
        hidden: hidden.map((x) => x.subarray((padding * x.length) / n, ((n - padding) * x.length) / n)),
      };
    },
  };
}

/** The largest absolute difference; NaN if there is one. */
export function largestDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) return Number.NaN;
  let largest = 0;
  for (let i = 0; i < a.length; i++) {
    const difference = Math.abs(a[i]! - b[i]!);
    if (!(difference <= largest)) largest = difference;
  }
  return largest;
}

/** All rows in one array. */
export function joined(rows: readonly Float32Array[]): Float32Array {
  return Float32Array.from(rows.flatMap((row) => Array.from(row)));
}

/** The position of the largest value, the first of equals. */
export function argMax(values: Float32Array): number {
  return values.reduce((best, value, i) => (value > values[best]! ? i : best), 0);
}
