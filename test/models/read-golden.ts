/** A minimal safetensors reader for tests, and the golden cases by name. */
import { readFileSync } from "node:fs";
import { type Tensor, tensorFrom, zeros } from "../../src/ir/tensor.ts";
import { byteSize, type DType, tensorType } from "../../src/ir/types.ts";

const dtypes: Readonly<Record<string, DType>> = { F32: "f32", F16: "f16", BF16: "bf16", I32: "i32", F8_E4M3: "f8e4m3" };

/** All tensors of a safetensors file: u64 header length, JSON header, data. */
export function readSafetensors(path: string | URL): Map<string, Tensor> {
  const bytes = readFileSync(path);
  const headerLength = Number(bytes.readBigUInt64LE(0));
  // The layout of the header is the format's.
  const header = JSON.parse(bytes.toString("utf8", 8, 8 + headerLength)) as Record<
    string,
    { dtype: string; shape: number[]; data_offsets: [number, number] }
  >;
  const tensors = new Map<string, Tensor>();
  for (const [name, entry] of Object.entries(header)) {
    if (name === "__metadata__") continue;
    const type = tensorType(dtypes[entry.dtype]!, entry.shape);
    const { data } = zeros(type.dtype, type.shape);
    const start = 8 + headerLength + entry.data_offsets[0];
    new Uint8Array(data.buffer).set(bytes.subarray(start, start + byteSize(type)));
    tensors.set(name, tensorFrom(type, data));
  }
  return tensors;
}

export const goldenNames = [
  "llama-coder",
  "llama-distill",
  "qwen2-distill",
  "qwen2-tied",
  "qwen3-distill",
  "v2-lite",
  "v2",
  "v3",
  "v3-plain",
  "v3-fp8",
] as const;
export type GoldenName = (typeof goldenNames)[number];

const goldens = new URL("../fixtures/goldens/", import.meta.url);

/** The text of a golden case's config.json. */
export function goldenConfigText(name: GoldenName): string {
  return readFileSync(new URL(`${name}/config.json`, goldens), "utf8");
}

export function goldenTensors(name: GoldenName, file: "model" | "golden"): Map<string, Tensor> {
  return readSafetensors(new URL(`${name}/${file}.safetensors`, goldens));
}

/** A weight function over tensors in memory; an unknown name is the test's mistake. */
export function weightsFrom(tensors: ReadonlyMap<string, Tensor>): (name: string) => Tensor {
  return (name) => {
    const tensor = tensors.get(name);
    if (tensor === undefined) throw new Error(`no tensor ${name}`);
    return tensor;
  };
}
