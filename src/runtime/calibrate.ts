/**
 * Calibration of activations: sample text runs through the unquantised program, which also tells how large the inputs of
 * its layers become (`observe`). A scale is the largest magnitude met by 127, so nothing met is cut off.
 */
import { type CompileOptions, compile, type Device, type QuantizeOptions } from "../compile.ts";
import { InputError, InternalError } from "../ir/errors.ts";
import { nameOf } from "../ir/graph.ts";
import type { ModelConfig } from "../models/deepseek/config.ts";
import { type BuildOptions, buildModel } from "../models/deepseek/model.ts";
import type { InputScales } from "./input-scales.ts";
import type { WeightStore } from "./weight-store.ts";

export interface CalibrationOptions {
  readonly device: Device;
  readonly build: BuildOptions;
  readonly compile: CompileOptions;
  readonly quantize: QuantizeOptions;
  /** Rows of the rope tables that `weights` makes, at least the longest sequence. */
  readonly ropeRows: number;
}

const chunk = 32;
const blockSize = 16;

/**
 * The scales that `quantize` needs for activations `int8-static`. Sequences run in whole chunks of 32 tokens, because
 * padding would be measured too; what is left over at the end of each is not.
 */
export async function calibrateInputs(
  config: ModelConfig,
  weights: WeightStore,
  sequences: readonly ArrayLike<number>[],
  options: CalibrationOptions,
): Promise<InputScales> {
  const whole = sequences.map((ids) => Int32Array.from(ids).subarray(0, ids.length - (ids.length % chunk)));
  const longest = Math.max(0, ...whole.map(({ length }) => length));
  if (longest === 0 || longest > options.ropeRows) {
    const expected = `sequences of ${chunk} to ${options.ropeRows} tokens`;
    throw new InputError("calibration text", `expected ${expected}, got one of ${longest} in whole chunks`);
  }
  const { build, device, quantize, ropeRows } = options;
  const sizes = { tokens: chunk, sequences: 1, blocks: longest / blockSize, outputs: 1, blockSize, slots: longest };
  const module = buildModel(config, { ...sizes, ropeRows }, build);
  const executable = compile(module, device, { ...options.compile, quantize, observe: true });
  await weights.load(executable.plan);
  const instance = executable.instantiate({ weight: weights.lookup(executable.plan) });
  const own = module.funcs.get(module.entry)!.outs.length;
  const names = executable.module.funcs.get(executable.module.entry)!.outs.slice(own).map(nameOf);
  const largest = new Map<string, number>();
  for (const ids of whole) {
    for (let start = 0; start < ids.length; start += chunk) {
      fill(instance.params.slice(0, 6), ids, start);
      await instance.run();
      for (const [i, name] of names.entries()) {
        if (name === undefined) throw new InternalError("calibrate", "an observed value has lost its name");
        largest.set(name, Math.max(largest.get(name) ?? 0, instance.results[own + i]![0]!));
      }
    }
  }
  return Object.fromEntries([...largest].map(([name, most]) => [name, Math.fround(most / 127)]));
}

/** Parameters of `step` for one sequence whose cache rows are its positions. */
function fill(params: readonly { set: (values: ArrayLike<number>) => void }[], ids: Int32Array, start: number): void {
  const [tokens, positions, sequence, slots, blockTable, outputs] = params;
  const range = Int32Array.from({ length: chunk }, (_, i) => start + i);
  tokens!.set(ids.subarray(start, start + chunk));
  positions!.set(range);
  sequence!.set(new Int32Array(chunk));
  slots!.set(range);
  blockTable!.set(Int32Array.from({ length: Math.floor(ids.length / blockSize) }, (_, i) => i));
  outputs!.set([0]);
}
