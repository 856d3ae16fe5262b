/** Where a model's weights come from: its checkpoint, and what no checkpoint has. */
import { isInputScale } from "../../compile.ts";
import type { ModelConfig } from "../../models/deepseek/config.ts";
import { deriveWeights, isDerivedWeight } from "../../models/deepseek/rope-tables.ts";
import { checkInputScales, type InputScales, inputScaleWeight } from "../quality/input-scales.ts";
import type { Checkpoint } from "./checkpoint.ts";
import type { ReadWeight } from "./weight-store.ts";

/** Reads from the checkpoint, and computes what no checkpoint has. */
export function weightReader(
  config: ModelConfig,
  checkpoint: Checkpoint,
  ropeRows: number,
  inputScales: InputScales | undefined,
): ReadWeight {
  const derived = deriveWeights(config, ropeRows);
  const scales = inputScales === undefined ? null : checkInputScales(inputScales);
  return async (name, range, into) => {
    if (isInputScale(name)) return inputScaleWeight(scales, name);
    if (isDerivedWeight(name)) return derived(name);
    const { dtype, shape } = checkpoint.find(name);
    await checkpoint.readInto(name, range, into);
    return { dtype, shape };
  };
}
