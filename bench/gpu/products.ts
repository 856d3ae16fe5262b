/** Speed of the products of codes alone, by rows, inputs and tokens: those of R1-Distill-Qwen-1.5B. */
import { compileToPlan, prepareDevice } from "../../src/compile.ts";
import { Builder, makeModule } from "../../src/ir/graph.ts";

export interface ProductsOptions {
  readonly bits: readonly number[];
  readonly tokens: readonly number[];
}

/** Rows and inputs: gate and up, down, query with key and value, and what attention gives. */
const shapes = [
  [17920, 1536],
  [1536, 8960],
  [2048, 1536],
  [1536, 1536],
] as const;

/** Launches of the longer run, and of the shorter one that is taken off. */
const [many, few] = [25, 5];
const repetitions = 5;

export async function measureProducts(gpu: GPU, { bits, tokens }: ProductsOptions): Promise<void> {
  const device = await prepareDevice("webgpu", { gpu });
  const measure = async (rows: number, inputs: number, count: number, each: number): Promise<void> => {
    const builder = new Builder();
    const [blocks, groups] = [rows / (32 / each), inputs / 32];
    const params = [
      builder.param("x", "i8", [count, inputs]),
      builder.param("x_scale", "f16", [count, groups]),
      builder.param("x_sum", "f32", [count, groups]),
      builder.param("w", "u8", [blocks, groups, 8, 4, 4]),
      builder.param("w_scale", "f16", [blocks, groups, 32 / each]),
    ];
    const out = builder.make("dotGroups", params, { bits: each, zero: each === 8 ? 128 : 8 });
    const module = makeModule("products", [{ name: "main", params, outs: [out] }], "main");
    const program = device.load(compileToPlan(module, device.target).plan);
    const instance = program.instantiate({
      weight: () => {
        throw new Error("there are no weights");
      },
    });
    for (const data of instance.params) for (let i = 0; i < data.length; i += 7) data[i] = (i * 31) % 128;
    await instance.run();
    const time = async (times: number) => {
      const start = performance.now();
      await instance.queue!({ times, write: [], read: instance.params[1]! }); // GPUs have a queue; scales are few
      return (performance.now() - start) / 1000;
    };
    const least = [few, many].map(() => Number.POSITIVE_INFINITY);
    for (let i = 0; i < repetitions; i++) {
      for (const [which, times] of [few, many].entries()) least[which] = Math.min(least[which]!, await time(times));
    }
    const seconds = (least[1]! - least[0]!) / (many - few);
    instance.release();
    const [rate, bytes] = [(2 * rows * inputs * count) / seconds / 1e12, (rows * inputs * each) / 8 / seconds / 1e9];
    console.log(
      `int${each} ${rows} x ${inputs}, ${count} tokens: ${(seconds * 1e6).toFixed(0)} us, ${rate.toFixed(1)} TOP/s, weights at ${bytes.toFixed(0)} GB/s`,
    );
  };
  try {
    for (const each of bits) {
      for (const count of tokens) {
        for (const [rows, inputs] of shapes) await measure(rows, inputs, count, each);
      }
    }
  } finally {
    await device.close();
  }
}
