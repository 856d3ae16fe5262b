/** Translation validation: interprets a module before and after a pass on the same random inputs and compares. */
import { InternalError } from "../ir/errors.ts";
import { getFunc, isOp, type Module, topoOrder } from "../ir/graph.ts";
import { interpret } from "../ir/interpret.ts";
import { reader, type Tensor, tensorOf } from "../ir/tensor.ts";
import { isFloat, type Shape, sizeOf, type TensorType } from "../ir/types.ts";
import type { WeightSource } from "../ir/weight.ts";

export interface ValidateOptions {
  readonly exact: boolean;
  readonly seed: number;
}

/**
 * Normalised mean squared error (of the difference, over the mean square of the values before) that a pass which is
 * not exact may cause: f32 rounds by 6e-8 per op; a thousand ops in a row whose errors all add up reach 6e-5 of a
 * value, whose square is 3.6e-9.
 */
const inexactLimit = 1e-8;

/** Throws where the results of the entry function differ: in any bit for an exact pass, else beyond `inexactLimit`. */
export function validate(before: Module, after: Module, { exact, seed }: ValidateOptions): void {
  const random = randomNumbers(seed);
  const { params } = getFunc(before, before.entry);
  const inputs = params.map(({ type }) => randomTensor(type, random));
  const weights = randomWeights(before, seed);
  const expected = interpret(before, inputs, { weights });
  const found = interpret(after, inputs, { weights });
  for (const [i, tensor] of expected.entries()) {
    const difference = exact ? firstDifference(tensor, found[i]!) : nmseDifference(tensor, found[i]!);
    if (difference !== undefined)
      throw new InternalError(`result ${i} of @${before.entry}`, `${difference} (seed ${seed})`);
  }
}

/** The first element that is not the same number (zeros of different sign differ, NaN is NaN), in words. */
export function firstDifference(expected: Tensor, found: Tensor): string | undefined {
  const [readExpected, readFound] = [reader(expected), reader(found)];
  for (let i = 0; i < sizeOf(expected.type.shape); i++) {
    const [want, got] = [readExpected(i), readFound(i)];
    if (!Object.is(want, got)) return `element ${i}: expected ${show(want)}, got ${show(got)}`;
  }
  return undefined;
}

/** Mean squared difference over mean square of `expected`; infinite where exactly one of two elements is finite. */
export function nmse(expected: Tensor, found: Tensor): number {
  const [readExpected, readFound] = [reader(expected), reader(found)];
  let [error, square] = [0, 0];
  for (let i = 0; i < sizeOf(expected.type.shape); i++) {
    const [want, got] = [readExpected(i), readFound(i)];
    if (Object.is(want, got)) {
      if (Number.isFinite(want)) square += want * want;
      continue;
    }
    if (!Number.isFinite(want) || !Number.isFinite(got)) return Number.POSITIVE_INFINITY;
    error += (want - got) ** 2;
    square += want * want;
  }
  return error === 0 ? 0 : error / square;
}

function nmseDifference(expected: Tensor, found: Tensor): string | undefined {
  const error = nmse(expected, found);
  return error <= inexactLimit ? undefined : `normalised mean squared error ${error}: expected at most ${inexactLimit}`;
}

function show(value: number): string {
  return Object.is(value, -0) ? "-0" : String(value);
}

/** Floats of about unit size, small integers from -1, so that indices and positions are mostly in range. */
export function randomTensor(type: TensorType, random: () => number): Tensor {
  const value = isFloat(type.dtype) ? () => random() * 2 - 1 : () => Math.floor(random() * 6) - 1;
  return tensorOf(type.dtype, type.shape, Array.from({ length: sizeOf(type.shape) }, value));
}

/** A source that makes up every weight that the module names, the same for the same name and seed. */
export function randomWeights(module: Module, seed: number): WeightSource {
  const patterns: { pattern: RegExp; type: TensorType }[] = [];
  for (const func of module.funcs.values()) {
    for (const node of topoOrder(func.outs)) {
      if (!isOp(node, "weight")) continue;
      const { name } = node.attrs;
      const shape: Shape = name.includes("{0}") ? node.type.shape.slice(1) : node.type.shape;
      const parts = name.split(/\{(?:layer|0)\}/).map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
      patterns.push({ pattern: new RegExp(`^${parts.join("\\d+")}$`), type: { dtype: node.type.dtype, shape } });
    }
  }
  return (name) => {
    const known = patterns.find(({ pattern }) => pattern.test(name));
    if (known === undefined) throw new InternalError(`weight ${name}`, "the module names no such weight");
    const hash = [...name].reduce((sum, letter) => (Math.imul(sum, 31) + letter.codePointAt(0)!) | 0, seed);
    return randomTensor(known.type, randomNumbers(hash));
  };
}

/** Uniform numbers in [0, 1): a 32-bit counter through the mixing steps of MurmurHash3's finaliser. */
export function randomNumbers(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x9e3779b9) | 0;
    let mixed = Math.imul(state ^ (state >>> 16), 0x85ebca6b);
    mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
    return ((mixed ^ (mixed >>> 16)) >>> 0) / 2 ** 32;
  };
}
