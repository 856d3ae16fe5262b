/** Bytes of weights and caches that a step of one token reads: what the memory's speed allows no engine to go below. */
import { cacheSpecs } from "../../src/models/deepseek/bucket.ts";
import type { Spec } from "./candidates/candidate.ts";
import { formatIn } from "./make/make-models.ts";
import { blockBytes, blockSize } from "./make/random-weights.ts";
import { checkpointTensors, ggufTensors, type Shape } from "./make/shapes.ts";

/** Bytes per weight of our formats, with the f16 scale of each group of 32. */
const ours: Readonly<Record<string, number>> = { int8: 34 / 32, int4: 18 / 32, bf16: 2, f32: 4 };

/** Bytes that a token after `context` tokens reads. */
export function bytesPerToken(shape: Shape, spec: Spec, context: number): number {
  const weights = spec.engine === "ciuic" ? ownWeights(shape, spec) : ggufWeights(shape, spec.file);
  // llama.cpp keeps caches in f16, we in f32.
  const element = spec.engine === "ciuic" ? 4 : 2;
  const row = cacheSpecs(shape.config, { slots: 1 }).reduce((sum, { shape: dims }) => sum + dims[1]!, 0);
  return weights + context * row * element;
}

function ownWeights(shape: Shape, { quantize }: Extract<Spec, { engine: "ciuic" }>): number {
  const wanted = String(quantize?.weights ?? "bf16");
  const head = (quantize?.overrides as Readonly<Record<string, string>> | undefined)?.lm_head; // see rows.ts
  return sum(
    checkpointTensors(shape).map(({ name, shape: dims, kind }) => {
      if (kind !== "matrix") return 0;
      const format = formatOf(name, wanted, head);
      return share(name, shape) * dims[0]! * dims[1]! * ours[format]!;
    }),
  );
}

/** As the default policy of `quantize` has it. */
function formatOf(name: string, wanted: string, head: string | undefined): string {
  if (wanted === "f32" || wanted === "bf16") return wanted;
  if (name.includes("mlp.gate.")) return "bf16";
  if (name.startsWith("lm_head")) return head ?? "int8";
  return name.includes("kv_b_proj") ? "int8" : wanted;
}

function ggufWeights(shape: Shape, file: string): number {
  const format = /(q8_0|q4_0|q4_k)\.gguf$/.exec(file)?.[1] as "q8_0" | "q4_0" | "q4_k"; // named by makeGguf
  return sum(
    ggufTensors(shape).map((tensor) => {
      if (tensor.kind !== "matrix") return 0;
      const count = tensor.dims.reduce((all, dim) => all * dim, 1);
      return (share(tensor.name, shape) * count * blockBytes[formatIn(tensor, format)]) / blockSize;
    }),
  );
}

/** The part of a tensor that one token reads: none to speak of of the embedding, of experts those chosen. */
function share(name: string, { config }: Shape): number {
  if (name.includes("embed_tokens") || name.startsWith("token_embd")) return 0;
  if (!name.includes("experts.") && !name.includes("_exps.")) return 1;
  if (name.includes("shared_experts")) return 1;
  const moe = config.feed_forward.find((each) => each.kind === "moe");
  return moe === undefined ? 1 : moe.num_experts_per_tok / moe.n_routed_experts;
}

function sum(values: readonly number[]): number {
  return values.reduce((all, value) => all + value, 0);
}
