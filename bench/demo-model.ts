/** The demo model as the benches load it: its config, and its weights in float32 by checkpoint name. */
import { readFileSync } from "node:fs";
import { type ModelConfig, parseModelConfigText } from "../src/models/deepseek/config.ts";

export interface DemoWeight {
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

export interface DemoModel {
  readonly folder: URL;
  readonly config: ModelConfig;
  /** Throws for a name that the checkpoint does not have. */
  readonly weight: (name: string) => DemoWeight;
}

/** Reads `models/tiny-deepseek`, whose tensors are bf16 and f32. */
export function loadDemoModel(): DemoModel {
  const folder = new URL("../models/tiny-deepseek/", import.meta.url);
  const config = parseModelConfigText(readFileSync(new URL("config.json", folder), "utf8"));
  // The layout of the index is the format's.
  const index = JSON.parse(readFileSync(new URL("model.safetensors.index.json", folder), "utf8")) as {
    weight_map: Record<string, string>;
  };
  const tensors = new Map<string, DemoWeight>();
  for (const file of new Set(Object.values(index.weight_map))) readTensors(new URL(file, folder), tensors);
  return {
    folder,
    config,
    weight: (name) => {
      const tensor = tensors.get(name);
      if (tensor === undefined) throw new Error(`the demo model has no tensor ${name}`);
      return tensor;
    },
  };
}

/** A safetensors file: u64 header length, JSON header, data. */
function readTensors(file: URL, tensors: Map<string, DemoWeight>): void {
  const bytes = readFileSync(file);
  const dataStart = 8 + Number(bytes.readBigUInt64LE(0));
  // The layout of the header is the format's.
  const header = JSON.parse(bytes.toString("utf8", 8, dataStart)) as Record<
    string,
    { dtype: string; shape: number[]; data_offsets: [number, number] }
  >;
  for (const [name, { dtype, shape, data_offsets }] of Object.entries(header)) {
    if (name === "__metadata__") continue;
    const data = bytes.subarray(dataStart + data_offsets[0], dataStart + data_offsets[1]);
    const bits = new Uint32Array(shape.reduce((a, b) => a * b, 1));
    // bf16 is the upper half of an f32.
    if (dtype === "BF16") for (let i = 0; i < bits.length; i++) bits[i] = data.readUInt16LE(2 * i) << 16;
    else if (dtype === "F32") for (let i = 0; i < bits.length; i++) bits[i] = data.readUInt32LE(4 * i);
    else throw new Error(`${name}: expected BF16 or F32, got ${dtype}`);
    tensors.set(name, { shape, data: new Float32Array(bits.buffer) });
  }
}
