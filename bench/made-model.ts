/** A made-up checkpoint of a published shape, written to a folder: random bf16 weights, no tokenizer. */
import { closeSync, existsSync, mkdirSync, openSync, renameSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { parseModelConfig } from "../src/models/deepseek/config.ts";
import { namesOf, weightSpecs } from "../src/models/deepseek/weights.ts";

export interface MadeShape {
  readonly layers: number;
  readonly vocab: number;
}

/** The published sizes of R1-Distill-Qwen-1.5B but for the number of layers and of tokens. */
function rawConfig({ layers, vocab }: MadeShape) {
  return {
    model_type: "qwen2",
    architectures: ["Qwen2ForCausalLM"],
    vocab_size: vocab,
    hidden_size: 1536,
    intermediate_size: 8960,
    num_hidden_layers: layers,
    num_attention_heads: 12,
    num_key_value_heads: 2,
    hidden_act: "silu",
    rms_norm_eps: 1e-6,
    max_position_embeddings: 131072,
    rope_theta: 10000,
    tie_word_embeddings: false,
    torch_dtype: "bfloat16",
    bos_token_id: 1,
    eos_token_id: 2,
  };
}

/** Writes the model into `folder`/<shape> unless it is there, and gives that folder. */
export function makeModel(folder: string, shape: MadeShape): string {
  const path = join(folder, `ciuic-made-${shape.layers}-${shape.vocab}`);
  if (existsSync(join(path, "model.safetensors"))) return path;
  mkdirSync(path, { recursive: true });
  const raw = rawConfig(shape);
  writeFileSync(join(path, "config.json"), JSON.stringify(raw));
  const specs = weightSpecs(parseModelConfig(raw, "made")).flatMap((spec) =>
    [...namesOf(spec)].map((name) => ({ name, shape: spec.shape, bytes: 2 * spec.shape.reduce((a, b) => a * b, 1) })),
  );
  const header: Record<string, unknown> = {};
  let end = 0;
  for (const { name, shape: dims, bytes } of specs) {
    header[name] = { dtype: "BF16", shape: dims, data_offsets: [end, end + bytes] };
    end += bytes;
  }
  const text = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  // Written under another name first, so that a run that was interrupted leaves no half of a file.
  const unfinished = join(path, "unfinished");
  const file = openSync(unfinished, "w");
  writeSync(file, length);
  writeSync(file, text);
  // Numbers of about 0.01, different in every tensor; the values do not matter much.
  const block = new Uint16Array(2 ** 20 + 4099);
  let state = 1;
  for (let i = 0; i < block.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    block[i] = 0x3c00 | ((state >>> 16) & 0x80ff);
  }
  for (let at = 0; at < end; ) {
    const count = Math.min(end - at, block.byteLength);
    writeSync(file, new Uint8Array(block.buffer, 0, count));
    at += count;
  }
  closeSync(file);
  renameSync(unfinished, join(path, "model.safetensors"));
  return path;
}
