/**
 * The building blocks of the reference model in plain loops over doubles: reading weights, linear layers, RMS norm,
 * softmax, rope. Activations are row-major Float64Arrays, one row per token.
 */
import { InputError } from "../../ir/errors.ts";
import { reader, type Tensor } from "../../ir/tensor.ts";
import { showType, sizeOf } from "../../ir/types.ts";
import type { RopeConfig } from "./rope-config.ts";
import { scaleSuffix } from "./weights.ts";

/** Where weights come from, and the block of FP8 ones. */
export interface WeightSource {
  readonly weight: (name: string) => Tensor;
  readonly block: readonly [rows: number, columns: number] | null;
}

/** All elements of a weight, dequantised. */
export function readWeight(source: WeightSource, name: string): Float64Array {
  const tensor = source.weight(name);
  const { dtype, shape } = tensor.type;
  const read = reader(tensor);
  const values = new Float64Array(sizeOf(shape));
  for (let i = 0; i < values.length; i++) values[i] = read(i);
  if (dtype !== "f8e4m3") return values;
  if (source.block === null) throw new InputError(name, `expected a plain float weight, got ${showType(tensor.type)}`);
  const [blockRows, blockColumns] = source.block;
  const scale = reader(source.weight(name + scaleSuffix));
  const [rows, columns] = [shape[0]!, shape[1]!];
  const blocksPerRow = Math.ceil(columns / blockColumns);
  for (let row = 0; row < rows; row++) {
    const firstBlock = Math.floor(row / blockRows) * blocksPerRow;
    for (let column = 0; column < columns; column++) {
      values[row * columns + column]! *= scale(firstBlock + Math.floor(column / blockColumns));
    }
  }
  return values;
}

/** y = x W^T + b for x [n, into] and W [out, into]; `name` is the layer's, without `.weight`. */
export function linear(source: WeightSource, name: string, x: Float64Array, into: number, bias = false): Float64Array {
  const w = readWeight(source, `${name}.weight`);
  const out = w.length / into;
  const b = bias ? readWeight(source, `${name}.bias`) : new Float64Array(out);
  const n = x.length / into;
  const y = new Float64Array(n * out);
  for (let t = 0; t < n; t++) {
    for (let o = 0; o < out; o++) {
      let sum = b[o]!;
      for (let i = 0; i < into; i++) sum += x[t * into + i]! * w[o * into + i]!;
      y[t * out + o] = sum;
    }
  }
  return y;
}

/** Each run of w.length values: w * x / sqrt(mean(x^2) + eps). */
export function rmsNorm(x: Float64Array, w: Float64Array, eps: number): Float64Array {
  const size = w.length;
  const y = new Float64Array(x.length);
  for (let start = 0; start < x.length; start += size) {
    let squares = 0;
    for (let i = 0; i < size; i++) squares += x[start + i]! ** 2;
    const scale = 1 / Math.sqrt(squares / size + eps);
    for (let i = 0; i < size; i++) y[start + i] = w[i]! * x[start + i]! * scale;
  }
  return y;
}

/** exp(x) over its sum, shifted by the maximum so that nothing overflows. */
export function softmax(x: Float64Array): Float64Array {
  let max = Number.NEGATIVE_INFINITY;
  for (const value of x) max = Math.max(max, value);
  const y = x.map((value) => Math.exp(value - max));
  let sum = 0;
  for (const value of y) sum += value;
  return y.map((value) => value / sum);
}

/** 1 / (1 + exp(-x)). */
export function sigmoid(x: number): number {
  return 1 / (1 + Math.exp(-x));
}

/** down(silu(gate x) * up x); `prefix` names the network, e.g. `model.layers.0.mlp`. */
export function swiglu(source: WeightSource, prefix: string, x: Float64Array, hidden: number): Float64Array {
  const gate = linear(source, `${prefix}.gate_proj`, x, hidden);
  const up = linear(source, `${prefix}.up_proj`, x, hidden);
  const inner = gate.map((g, i) => g * sigmoid(g) * up[i]!);
  return linear(source, `${prefix}.down_proj`, inner, inner.length / (x.length / hidden));
}

/** Turns the pairs of one head's `rope.dim` values, in place, by position * frequency. */
export function rotate(x: Float64Array, position: number, rope: RopeConfig, frequencies: Float64Array): void {
  const half = rope.dim / 2;
  for (let i = 0; i < half; i++) {
    const [a, b] = rope.layout === "half" ? [i, i + half] : [2 * i, 2 * i + 1];
    const cos = Math.cos(position * frequencies[i]!) * rope.attention_factor;
    const sin = Math.sin(position * frequencies[i]!) * rope.attention_factor;
    const [xa, xb] = [x[a]!, x[b]!];
    x[a] = xa * cos - xb * sin;
    x[b] = xb * cos + xa * sin;
  }
}

/** x += y, element by element. */
export function addTo(x: Float64Array, y: Float64Array): void {
  for (let i = 0; i < x.length; i++) x[i]! += y[i]!;
}
