/**
 * Calibrated scales of layer inputs (activations `int8-static`): numbers by name, measured by `calibrate`, stored beside
 * the model in `input_scales.json`, and handed to the program as the weights that it calls `<layer>.input_scale`.
 */
import { didYouMean, InputError, showValue } from "../../ir/errors.ts";
import { type Tensor, tensorOf } from "../../ir/tensor.ts";
import type { ModelFolder } from "../weights/byte-source.ts";
import { parseJsonObject } from "../weights/json.ts";

/** By weight name, e.g. `model.layers.0.mlp.down_proj.input_scale`: the size of one i8 step. */
export type InputScales = Readonly<Record<string, number>>;

export const inputScalesFile = "input_scales.json";
const maxFileBytes = 10_000_000;
const largestF16 = 65504;

/** The scales in a folder; null for a folder without. */
export async function readInputScales(folder: ModelFolder): Promise<InputScales | null> {
  if (!(await folder.has(inputScalesFile))) return null;
  const where = `${folder.name} ${inputScalesFile}`;
  const parsed = parseJsonObject(await folder.readText(inputScalesFile, maxFileBytes), where);
  return checkInputScales(Object.fromEntries(parsed), where);
}

/** @throws InputError unless all values are numbers from 0 that f16 holds. */
export function checkInputScales(values: Readonly<Record<string, unknown>>, where = "inputScales"): InputScales {
  for (const [name, scale] of Object.entries(values)) {
    if (typeof scale !== "number" || !(scale >= 0 && scale <= largestF16)) {
      throw new InputError(`${where} ${name}`, `expected a number from 0 to ${largestF16}, got ${showValue(scale)}`);
    }
  }
  return values as InputScales; // checked above
}

/** The weight `name`, f16 [1]. */
export function inputScaleWeight(scales: InputScales | null, name: string): Tensor {
  const scale = scales !== null && Object.hasOwn(scales, name) ? scales[name] : undefined;
  if (scale === undefined) {
    const hint =
      scales === null
        ? 'activations "int8-static" need calibrate(), or input_scales.json in the folder. "int8" needs neither.'
        : (didYouMean(name, Object.keys(scales)) ?? "Calibrate with the same quantize options.");
    throw new InputError(`inputScales ${name}`, "missing", { hint });
  }
  return tensorOf("f16", [1], [scale]);
}
