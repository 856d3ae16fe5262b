/**
 * How a DeepSeek model is divided over a mesh: which dimensions of its weights and inputs are cut along which mesh axes.
 * Tensor parallel: query heads and feed-forward widths, the vocabulary; key heads as far as there are enough, latents of
 * MLA not at all, as all heads share them. Expert parallel: routed experts. Data parallel: sequences with all that is
 * theirs. What a program makes of it is the pass's business (passes/shard).
 */
import { UnsupportedError } from "../../ir/errors.ts";
import { checkMesh, type Mesh, sizeAlong } from "../../ir/mesh.ts";
import type { Shape } from "../../ir/types.ts";
import type { ModelConfig } from "./config.ts";

/** Mesh axes of each dimension. */
export interface DimAxes {
  readonly dims: readonly (readonly string[])[];
}

/** A placement as the pass takes it. */
export interface ModelSharding {
  readonly mesh: Mesh;
  readonly weight: (name: string, shape: Shape) => DimAxes | undefined;
  readonly param: (name: string, shape: Shape) => DimAxes | undefined;
  readonly result: (i: number, shape: Shape) => DimAxes | undefined;
  readonly aligned: readonly string[];
}

export interface ShardingAxes {
  /** Heads, widths and vocabulary. Default `tp`. */
  readonly tensor?: string;
  /** Routed experts; may be, or include, the axes of `tensor` and `data`. Default `ep`. */
  readonly experts?: string | readonly string[];
  /** Sequences. Default `dp`. */
  readonly data?: string;
  /** Elements that share a scale where weights will be quantised: sums are cut between groups only. Default 1. */
  readonly group?: number;
}

/** Throws UnsupportedError where the mesh does not divide the model, with the nearest division that works. */
export function modelSharding(config: ModelConfig, wanted: Mesh, axes: ShardingAxes = {}): ModelSharding {
  checkMesh(wanted);
  const { tensor = "tp", experts: expertAxes = "ep", data: dataAxis = "dp", group = 1 } = axes;
  const present = (axis: string) => (Object.hasOwn(wanted, axis) && wanted[axis]! > 1 ? [axis] : []);
  const parts = sizeAlong(wanted, present(tensor));
  checkTensorParts(config, parts, group);
  const expertList = [expertAxes].flat().flatMap(present);
  checkExpertParts(config, sizeAlong(wanted, expertList));
  const { mesh, keyHeads, heads } = splitHeads(config, wanted, present(tensor), parts);
  const data = present(dataAxis);
  const experts = expertList.flatMap((axis) => (axis === tensor ? heads : [axis]));
  const inExperts = experts.some((axis) => heads.includes(axis)) ? [] : heads;
  const cuts: readonly (readonly [pattern: RegExp, dims: readonly (readonly string[])[]])[] = [
    [/^(model\.embed_tokens|lm_head)\.weight$/, [heads]],
    [/\.(q_proj|q_b_proj|kv_b_proj)\.(weight|bias)/, [heads]],
    [/\.[kv]_proj\.(weight|bias)/, [keyHeads]],
    [/\.o_proj\.weight/, [[], heads]],
    [/\.experts\.\{0\}\.(gate|up)_proj\.weight/, [experts, inExperts]],
    [/\.experts\.\{0\}\.down_proj\.weight/, [experts, [], inExperts]],
    [/\.(gate|up)_proj\.weight/, [heads]],
    [/\.down_proj\.weight/, [[], heads]],
  ];
  const dimsOf = (shape: Shape, dims: readonly (readonly string[])[]): DimAxes => ({
    dims: shape.map((size, i) => (fits(mesh, size, dims[i] ?? []) ? (dims[i] ?? []) : [])),
  });
  const cacheWidth = config.attention.kind === "mla" ? [] : keyHeads;
  return {
    mesh,
    weight: (name, shape) => {
      const found = cuts.find(([pattern]) => pattern.test(name));
      return found && dimsOf(shape, found[1]);
    },
    param: (name, shape) => ({
      dims: shape.map((_, i) => (i === 0 ? data : /^(key|value|cache)\./.test(name) ? cacheWidth : [])),
    }),
    // The logits of all tokens of a rank's sequences are needed whole, to sample from them.
    result: (i, shape) => (i === 0 ? { dims: shape.map((_, dim) => (dim === 0 ? data : [])) } : undefined),
    aligned: data,
  };
}

/** A vocabulary that does not divide, and scales of blocks that do not fall on the cuts, stay whole. */
function fits(mesh: Mesh, size: number, axes: readonly string[]): boolean {
  return size % sizeAlong(mesh, axes) === 0;
}

/** The tensor-parallel degrees that divide the model, up to `most`; `group` as in `ShardingAxes`. */
export function tensorParts(config: ModelConfig, most: number, group = 1): readonly number[] {
  return Array.from({ length: most }, (_, i) => i + 1).filter(
    (parts) => tensorProblem(config, parts, group) === undefined,
  );
}

/** What keeps a model from being divided into `parts`; undefined if nothing does. */
function tensorProblem(config: ModelConfig, parts: number, group: number): string | undefined {
  const { attention, feed_forward } = config;
  const sizes: [string, number][] = [["num_attention_heads", attention.num_attention_heads]];
  for (const each of new Set(feed_forward)) {
    if (each.kind === "dense") sizes.push(["intermediate_size", each.intermediate_size]);
    else sizes.push(["moe_intermediate_size", each.moe_intermediate_size]);
  }
  const wrong = sizes.find(([, size]) => size % parts !== 0);
  if (wrong !== undefined) return `${wrong[0]} ${wrong[1]} cannot be cut into ${parts} equal parts`;
  // Heads are summed over as well; together they are as wide as o_proj's input.
  const headDim = attention.kind === "mla" ? attention.v_head_dim : attention.head_dim;
  const widths = [["heads together", attention.num_attention_heads * headDim] as const, ...sizes.slice(1)];
  const split = parts === 1 ? undefined : widths.find(([, size]) => (size / parts) % group !== 0);
  if (split !== undefined)
    return `${split[0]} ${split[1]} in ${parts} parts would cut groups of ${group} that share a scale`;
  const keys = attention.kind === "gqa" ? attention.num_key_value_heads : parts;
  if (keys % parts === 0 || parts % keys === 0) return undefined;
  return `num_key_value_heads ${keys} is neither a multiple nor a divisor of ${parts}`;
}

function checkTensorParts(config: ModelConfig, parts: number, group: number): void {
  const problem = tensorProblem(config, parts, group);
  if (problem === undefined) return;
  const possible = tensorParts(config, 2 * parts, group);
  const nearest = possible.reduce((best, each) => (Math.abs(each - parts) < Math.abs(best - parts) ? each : best), 1);
  throw new UnsupportedError("tensor parallel", problem, { hint: `The nearest division that works is ${nearest}.` });
}

function checkExpertParts(config: ModelConfig, parts: number): void {
  for (const each of config.feed_forward) {
    if (each.kind === "dense" || each.n_routed_experts % parts === 0) continue;
    const { n_routed_experts: count } = each;
    const possible = Array.from({ length: Math.min(count, 2 * parts) }, (_, i) => i + 1).filter((d) => count % d === 0);
    const nearest = possible.reduce((best, d) => (Math.abs(d - parts) < Math.abs(best - parts) ? d : best), 1);
    const what = `n_routed_experts ${count} cannot be cut into ${parts} equal parts`;
    throw new UnsupportedError("expert parallel", what, { hint: `The nearest division that works is ${nearest}.` });
  }
}

/**
 * Fewer key heads than devices: the tensor axis is taken apart into one for key heads and one for the devices that
 * share a key head and divide its query heads.
 */
function splitHeads(config: ModelConfig, mesh: Mesh, tensor: readonly string[], parts: number) {
  const { attention } = config;
  const keys = attention.kind === "gqa" ? attention.num_key_value_heads : parts;
  if (keys % parts === 0) return { mesh, keyHeads: attention.kind === "mla" ? [] : tensor, heads: tensor };
  const [axis] = tensor;
  const [shared, own] = [`${axis}_keys`, `${axis}_queries`];
  const entries = Object.entries(mesh).flatMap(([name, size]): [string, number][] =>
    name === axis
      ? [
          [shared, keys],
          [own, parts / keys],
        ]
      : [[name, size]],
  );
  return { mesh: Object.fromEntries(entries), keyHeads: keys === 1 ? [] : [shared], heads: [shared, own] };
}
