/** A product of codes alone, made for one target and run many times: what `products` and `units` measure. */
import { compileToPlan, type Device } from "../../src/compile.ts";
import { Builder, makeModule } from "../../src/ir/graph.ts";
import type { Target } from "../../src/ir/target.ts";
import type { TensorData } from "../../src/ir/tensor.ts";

export interface ProductSize {
  readonly rows: number;
  readonly inputs: number;
  readonly tokens: number;
  readonly bits: number;
}

/** Rows and inputs of R1-Distill-Qwen-1.5B: gate and up, down, query with key and value, and what attention gives. */
export const productShapes = [
  { rows: 17920, inputs: 1536 },
  { rows: 1536, inputs: 8960 },
  { rows: 2048, inputs: 1536 },
  { rows: 1536, inputs: 1536 },
] as const;

export interface Product {
  /** Runs it many times and a few times, once more. */
  readonly measure: () => Promise<void>;
  /** Of a launch: the fastest of the few runs is taken off the fastest of the many. */
  readonly seconds: () => number;
  readonly result: TensorData;
  readonly release: () => void;
}

/** Launches of the longer run, and of the shorter one. */
const [many, few] = [25, 5];

/** `target`: the device's own, or the same without something. */
export async function openProduct(device: Device, target: Target, size: ProductSize): Promise<Product> {
  const { rows, inputs, tokens, bits } = size;
  const builder = new Builder();
  const [blocks, groups] = [rows / (32 / bits), inputs / 32];
  const params = [
    builder.param("x", "i8", [tokens, inputs]),
    builder.param("x_scale", "f16", [tokens, groups]),
    builder.param("x_sum", "f32", [tokens, groups]),
    builder.param("w", "u8", [blocks, groups, bits / 4, 32 / bits, 16]),
    builder.param("w_scale", "f16", [blocks, groups, 32 / bits]),
  ];
  const out = builder.make("dotGroups", params, { bits, zero: bits === 8 ? 128 : 8 });
  const module = makeModule("products", [{ name: "main", params, outs: [out] }], "main");
  const instance = device.load(compileToPlan(module, target).plan).instantiate({
    weight: () => {
      throw new Error("there are no weights");
    },
  });
  // Halves by their bits: from 2^-4 on.
  for (const data of instance.params) {
    const first = data instanceof Uint16Array ? 0x2c00 : 0;
    for (let i = 0; i < data.length; i++) data[i] = first + ((i * 31) % 128);
  }
  await instance.run();
  const queue = async (times: number) => {
    const start = performance.now();
    await instance.queue!({ times, write: [], read: instance.params[1]! }); // GPUs have a queue; scales are few
    return (performance.now() - start) / 1000;
  };
  let [short, long] = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY];
  const measure = async () => {
    short = Math.min(short, await queue(few));
    long = Math.min(long, await queue(many));
  };
  return {
    measure,
    seconds: () => (long - short) / (many - few),
    result: instance.results[0]!,
    release: instance.release,
  };
}

export function showRate({ rows, inputs, tokens }: ProductSize, seconds: number): string {
  return `${(seconds * 1e6).toFixed(0)} us, ${((2 * rows * inputs * tokens) / seconds / 1e12).toFixed(1)} TOP/s`;
}
