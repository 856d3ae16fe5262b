/** Runs sample sequences through a program that has more results than logits and caches, for calibration. */
import { type CompileOptions, compile, type Device, type Executable } from "../../compile.ts";
import { InputError } from "../../ir/errors.ts";
import type { Module } from "../../ir/graph.ts";
import type { TensorData } from "../../ir/tensor.ts";
import type { Bucket } from "../../models/deepseek/bucket.ts";
import type { WeightStore } from "../weights/weight-store.ts";

export interface SampleOptions {
  readonly device: Device;
  readonly compile: CompileOptions;
  /** Rows of the rope tables that `weights` makes, at least the longest sequence. */
  readonly ropeRows: number;
}

/** Tokens of a step. */
export const sampleChunk = 32;
const blockSize = 16;

/**
 * Sequences run in whole chunks of 32 tokens, because padding would be measured too; what is left over at the end of each is
 * not run. `visit` gets the results beside those that `step` has by itself (logits and caches), after each chunk.
 */
export async function runSamples(
  build: (bucket: Bucket) => Module,
  weights: WeightStore,
  sequences: readonly ArrayLike<number>[],
  { device, compile: options, ropeRows }: SampleOptions,
  visit: (extra: readonly TensorData[], executable: Executable) => void,
): Promise<void> {
  const chunk = sampleChunk;
  const whole = sequences.map((ids) => Int32Array.from(ids).subarray(0, ids.length - (ids.length % chunk)));
  const longest = Math.max(0, ...whole.map(({ length }) => length));
  if (longest === 0 || longest > ropeRows) {
    const expected = `sequences of ${chunk} to ${ropeRows} tokens`;
    throw new InputError("calibration text", `expected ${expected}, got one of ${longest} in whole chunks`);
  }
  const sizes = { tokens: chunk, sequences: 1, blocks: longest / blockSize, outputs: 1, blockSize, slots: longest };
  const module = build({ ...sizes, ropeRows });
  const executable = compile(module, device, options);
  await weights.load(executable.plan);
  const instance = executable.instantiate({ weight: weights.lookup(executable.plan) });
  // Parameters after the first six are caches, which are results too, after the logits.
  const own = 1 + instance.params.length - 6;
  for (const ids of whole) {
    for (let start = 0; start < ids.length; start += chunk) {
      fill(instance.params.slice(0, 6), ids, start);
      await instance.run();
      visit(instance.results.slice(own), executable);
    }
  }
}

/** Parameters of `step` for one sequence whose cache rows are its positions. */
function fill(params: readonly { set: (values: ArrayLike<number>) => void }[], ids: Int32Array, start: number): void {
  const [tokens, positions, sequence, slots, blockTable, outputs] = params;
  const range = Int32Array.from({ length: sampleChunk }, (_, i) => start + i);
  tokens!.set(ids.subarray(start, start + sampleChunk));
  positions!.set(range);
  sequence!.set(new Int32Array(sampleChunk));
  slots!.set(range);
  blockTable!.set(Int32Array.from({ length: Math.floor(ids.length / blockSize) }, (_, i) => i));
  outputs!.set([0]);
}
