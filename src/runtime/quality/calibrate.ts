/**
 * Calibration of activations: sample text runs through the unquantised program, which also tells how large the inputs of
 * its layers become (`observe`). A scale is the largest magnitude met by 127, so nothing met is cut off.
 */
import type { QuantizeOptions } from "../../compile.ts";
import { InternalError } from "../../ir/errors.ts";
import { nameOf } from "../../ir/graph.ts";
import type { Bucket } from "../../models/deepseek/bucket.ts";
import type { ModelConfig } from "../../models/deepseek/config.ts";
import { type BuildOptions, buildModel } from "../../models/deepseek/model.ts";
import { runSamples, type SampleOptions } from "../steps/run-samples.ts";
import type { WeightStore } from "../weights/weight-store.ts";
import type { InputScales } from "./input-scales.ts";

export interface CalibrationOptions extends SampleOptions {
  readonly build: BuildOptions;
  readonly quantize: QuantizeOptions;
}

/**
 * The scales that `quantize` needs for activations `int8-static`. See `runSamples`.
 */
export async function calibrateInputs(
  config: ModelConfig,
  weights: WeightStore,
  sequences: readonly ArrayLike<number>[],
  options: CalibrationOptions,
): Promise<InputScales> {
  const module = (bucket: Bucket) => buildModel(config, bucket, { ...options.build, lastRows: false }); // inputs of all tokens
  const compile = { ...options.compile, quantize: options.quantize, observe: true };
  const largest = new Map<string, number>();
  await runSamples(module, weights, sequences, { ...options, compile }, (extra, executable) => {
    const names = executable.module.funcs.get(executable.module.entry)!.outs.slice(-extra.length).map(nameOf);
    for (const [i, name] of names.entries()) {
      if (name === undefined) throw new InternalError("calibrate", "an observed value has lost its name");
      largest.set(name, Math.max(largest.get(name) ?? 0, extra[i]![0]!));
    }
  });
  return Object.fromEntries([...largest].map(([name, most]) => [name, Math.fround(most / 127)]));
}
