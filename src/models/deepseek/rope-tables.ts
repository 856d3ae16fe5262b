/** Weights that no checkpoint has because they follow from the config: the tables of cosines and sines for rope. */
import { InputError } from "../../ir/errors.ts";
import { type Tensor, zeros } from "../../ir/tensor.ts";
import type { WeightSource } from "../../ir/weight.ts";
import type { ModelConfig } from "./config.ts";
import { inverseFrequencies } from "./rope.ts";

const functions: ReadonlyMap<string, (angle: number) => number> = new Map([
  ["rope.cos", Math.cos],
  ["rope.sin", Math.sin],
]);

export function isDerivedWeight(name: string): boolean {
  return functions.has(name);
}

/**
 * `rope.cos` and `rope.sin`, f32 [ropeRows, rope.dim / 2]: attention_factor * cos(position * frequency), computed in
 * double and rounded once. Throws InputError for any other name.
 */
export function deriveWeights(config: ModelConfig, ropeRows: number): WeightSource {
  const frequencies = inverseFrequencies(config.rope);
  const width = frequencies.length;
  const { attention_factor } = config.rope;
  return (name): Tensor => {
    const turn = functions.get(name);
    if (turn === undefined) {
      throw new InputError(`weight ${name}`, `expected one of ${[...functions.keys()].join(", ")}, got ${name}`);
    }
    const table = zeros("f32", [ropeRows, width]);
    for (let position = 0; position < ropeRows; position++) {
      for (let i = 0; i < width; i++) {
        table.data[position * width + i] = turn(position * frequencies[i]!) * attention_factor;
      }
    }
    return table;
  };
}

/** `source` with the derived weights added. */
export function withDerivedWeights(source: WeightSource, config: ModelConfig, ropeRows: number): WeightSource {
  const derived = deriveWeights(config, ropeRows);
  return (name) => (isDerivedWeight(name) ? derived(name) : source(name));
}
