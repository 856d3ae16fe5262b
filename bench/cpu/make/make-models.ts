/**
 * Makes the models that the benchmark runs: a Hugging Face folder in bf16, which ciuic reads, and GGUF files, which
 * llama.cpp reads, with the same random numbers. Made once; a file that is there is taken as it is.
 */
import { closeSync, existsSync, mkdirSync, openSync, renameSync, writeFileSync } from "node:fs";
import { type GgufEntry, write, writeGguf } from "./gguf.ts";
import { blockBytes, blockSize, RandomPool, type WeightFormat } from "./random-weights.ts";
import { checkpointTensors, type GgufTensor, ggufMetadata, ggufTensors, type Kind, type Shape } from "./shapes.ts";

export type GgufFormat = "q8_0" | "q4_0" | "q4_k";

let pool: RandomPool | undefined;

/** The Hugging Face folder of a shape. `log` hears what is made. */
export function makeCheckpoint(
  shape: Shape,
  dtype: "bf16" | "f32",
  cache: string,
  log: (text: string) => void,
): string {
  const folder = `${cache}/${shape.key}-${dtype}`;
  const path = `${folder}/model.safetensors`;
  if (existsSync(path)) return folder;
  mkdirSync(folder, { recursive: true });
  log(`making ${path}`);
  writeFileSync(`${folder}/config.json`, JSON.stringify(shape.json, null, 2));
  const tensors = checkpointTensors(shape);
  const fields: Record<string, unknown> = {};
  let offset = 0;
  for (const { name, shape: dims } of tensors) {
    const end = offset + (dtype === "bf16" ? 2 : 4) * product(dims);
    fields[name] = { dtype: dtype.toUpperCase(), shape: dims, data_offsets: [offset, end] };
    offset = end;
  }
  const text = JSON.stringify(fields);
  const header = new TextEncoder().encode(text.padEnd(Math.ceil(text.length / 8) * 8));
  const file = openSync(`${path}.part`, "w");
  try {
    write(file, new Uint8Array(BigUint64Array.of(BigInt(header.length)).buffer));
    write(file, header);
    for (const { name, shape: dims, kind } of tensors) {
      for (const piece of pieces([name], product(dims), kind, dtype)) write(file, piece);
    }
  } finally {
    closeSync(file);
  }
  renameSync(`${path}.part`, path);
  return folder;
}

/** The GGUF file of a shape with its matrices in `format`. */
export function makeGguf(shape: Shape, format: GgufFormat, cache: string, log: (text: string) => void): string {
  const path = `${cache}/${shape.key}-${format}.gguf`;
  if (existsSync(path)) return path;
  mkdirSync(cache, { recursive: true });
  log(`making ${path}`);
  const entries = ggufTensors(shape).map((tensor) => entryOf(tensor, format));
  writeGguf(`${path}.part`, ggufMetadata(shape), entries);
  renameSync(`${path}.part`, path);
  return path;
}

/** The format of a tensor in a GGUF file: routers, norms and biases stay f32; rows of 256 are what q4_k needs. */
export function formatIn({ name, dims, kind }: GgufTensor, format: GgufFormat): GgufFormat | "f32" {
  if (kind !== "matrix" || name.includes("ffn_gate_inp")) return "f32";
  return format === "q4_k" && dims[0]! % blockSize !== 0 ? "q4_0" : format;
}

function entryOf(tensor: GgufTensor, wanted: GgufFormat): GgufEntry {
  const type = formatIn(tensor, wanted);
  const count = product(tensor.dims);
  const bytes = (count / blockSize) * blockBytes[type];
  return {
    name: tensor.name,
    dims: tensor.dims,
    type,
    bytes,
    data: () => pieces(tensor.sources, count, tensor.kind, type),
  };
}

function pieces(names: readonly string[], count: number, kind: Kind, format: WeightFormat): Iterable<Uint8Array> {
  if (kind !== "ones") {
    pool ??= new RandomPool();
    return pool.tensor(names, count, format);
  }
  const ones = format === "bf16" ? new Uint16Array(count).fill(0x3f80) : new Float32Array(count).fill(1);
  return [new Uint8Array(ones.buffer)];
}

function product(dims: readonly number[]): number {
  return dims.reduce((all, dim) => all * dim, 1);
}
