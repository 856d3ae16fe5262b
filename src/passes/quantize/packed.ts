/** The quantised weights of a compiled module: which codes, scales and minimums stand for which weights. */
import { isOp, type Module, type Node, topoOrder } from "../../ir/graph.ts";
import { stageOf } from "../constant.ts";
import { weightNames } from "./policy.ts";

export interface PackedWeight {
  /** Checkpoint names, with `{layer}` bound; several where contractions were merged. */
  readonly names: readonly string[];
  /** Of the call, or null for a weight of the entry. */
  readonly layer: number | null;
  /** The weight expression that was quantised. */
  readonly source: Node;
  readonly codes: Node;
  /** Scales, then minimums where the format has them. */
  readonly params: readonly Node[];
  readonly group: number;
}

/** In the order of the model, once per layer. */
export function packedWeights(module: Module): PackedWeight[] {
  const entry = module.funcs.get(module.entry)!;
  const calls = topoOrder(entry.outs).filter((node) => isOp(node, "call"));
  const layers = new Map(calls.map(({ attrs }) => [`${attrs.func} ${attrs.layer}`, attrs]));
  return [
    ...packedIn(module, module.entry, null),
    ...[...layers.values()].flatMap(({ func, layer }) => packedIn(module, func, layer ?? null)),
  ];
}

function packedIn(module: Module, func: string, layer: number | null): PackedWeight[] {
  const found = new Map<Node, PackedWeight>();
  for (const node of topoOrder(module.funcs.get(func)!.outs)) {
    if (!isOp(node, "dequantizeGroups")) continue;
    // Chosen rows are rows of what is stored.
    const [codes, ...params] = node.ins.map((x) => (isOp(x, "gather") ? x.ins[0]! : x));
    if (codes === undefined || stageOf(codes) !== "weight") continue;
    const names = weightNames(codes).map((name) => name.replace("{layer}", String(layer)));
    found.set(codes, { names, layer, source: codes.ins[0]!, codes, params, group: node.attrs.group });
  }
  return [...found.values()];
}
