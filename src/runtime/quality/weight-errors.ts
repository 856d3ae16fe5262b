/** What quantisation did to each weight: the relative error of what the codes stand for. */
import { type Executable, type PackedWeight, packedWeights } from "../../compile.ts";
import type { Node } from "../../ir/graph.ts";
import { reader, type Tensor, type TensorData, tensorFrom } from "../../ir/tensor.ts";
import { byteSize, type DType, sizeOf } from "../../ir/types.ts";

export interface WeightError {
  /** Checkpoint names, several where contractions were merged. */
  readonly names: readonly string[];
  /** Dtype of the codes. */
  readonly codes: DType;
  readonly elements: number;
  /** Of codes, scales and minimums. */
  readonly bytes: number;
  /** sqrt(sum((w - w')^2) / sum(w^2)): root mean square of the error by that of the weight. */
  readonly error: number;
}

/** Evaluates a weight expression as the loader does. */
export type Evaluate = (expr: Node, layer: number | null) => Promise<TensorData>;

/** One entry per quantised weight and layer, in the order of the model. */
export async function weightErrors({ module }: Executable, evaluate: Evaluate): Promise<WeightError[]> {
  const errors: WeightError[] = [];
  for (const packed of packedWeights(module)) errors.push(await errorOf(packed, evaluate));
  return errors;
}

async function errorOf(packed: PackedWeight, evaluate: Evaluate): Promise<WeightError> {
  const { names, layer, source, codes, params, group } = packed;
  const read = async (expr: Node): Promise<Tensor> => tensorFrom(expr.type, await evaluate(expr, layer));
  const [w, q] = [reader(await read(source)), reader(await read(codes))];
  const [scale, minimum] = (await Promise.all(params.map(read))).map(reader);
  const length = codes.type.shape.at(-1)!;
  const perRow = Math.ceil(length / group);
  const elements = sizeOf(codes.type.shape);
  let [off, all] = [0, 0];
  for (let i = 0; i < elements; i++) {
    const at = Math.floor(i / length) * perRow + Math.floor((i % length) / group);
    const exact = w(i);
    off += (exact - (q(i) * scale!(at) + (minimum?.(at) ?? 0))) ** 2;
    all += exact ** 2;
  }
  const bytes = [codes, ...params].reduce((sum, { type }) => sum + byteSize(type), 0);
  return { names, codes: codes.type.dtype, elements, bytes, error: all === 0 ? 0 : Math.sqrt(off / all) };
}
