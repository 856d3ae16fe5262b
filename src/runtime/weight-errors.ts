/** What quantisation did to each weight: the relative error of what the codes stand for. */
import type { Executable } from "../compile.ts";
import { attrsOf, isOp, type Module, type Node, topoOrder } from "../ir/graph.ts";
import { reader, type Tensor, type TensorData, tensorFrom } from "../ir/tensor.ts";
import { byteSize, sizeOf } from "../ir/types.ts";
import { stageOf } from "../passes/constant.ts";
import { weightNames } from "../passes/quantize/policy.ts";

export interface WeightError {
  /** Checkpoint names, several where contractions were merged. */
  readonly names: readonly string[];
  readonly layer: number | null;
  /** Dtype of the codes. */
  readonly codes: string;
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
  for (const { func, layer } of callsOf(module)) {
    for (const node of packedWeights(module, func)) errors.push(await errorOf(node, layer, evaluate));
  }
  return errors;
}

/** The entry, and each call of a function with its layer. */
function callsOf(module: Module): { func: string; layer: number | null }[] {
  const calls: { func: string; layer: number | null }[] = [{ func: module.entry, layer: null }];
  for (const node of topoOrder(module.funcs.get(module.entry)!.outs)) {
    if (!isOp(node, "call") || node.attrs.result !== 0) continue;
    calls.push({ func: node.attrs.func, layer: node.attrs.layer ?? null });
  }
  return calls;
}

/** Codes, scales and minimums as stored, whether all or chosen rows are read. */
interface PackedWeight {
  readonly codes: Node;
  readonly params: readonly Node[];
  readonly group: number;
}

function packedWeights(module: Module, func: string): PackedWeight[] {
  const found = new Map<Node, PackedWeight>();
  for (const node of topoOrder(module.funcs.get(func)!.outs)) {
    if (!isOp(node, "dequantizeGroups")) continue;
    const [codes, ...params] = node.ins.map((x) => (isOp(x, "gather") ? x.ins[0]! : x));
    if (stageOf(codes!) === "weight") found.set(codes!, { codes: codes!, params, group: node.attrs.group });
  }
  return [...found.values()];
}

async function errorOf({ codes, params, group }: PackedWeight, layer: number | null, evaluate: Evaluate) {
  const read = async (expr: Node): Promise<Tensor> => tensorFrom(expr.type, await evaluate(expr, layer));
  const [source] = codes.ins;
  const [w, q] = [reader(await read(source!)), reader(await read(codes))];
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
  const names = weightNames(codes).map((name) => name.replace("{layer}", String(layer)));
  const error = all === 0 ? 0 : Math.sqrt(off / all);
  return { names, layer, codes: String(attrsOf(codes).dtype), elements, bytes, error };
}
