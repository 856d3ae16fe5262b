/** Measures a device in some tenths of a second: best times of a few small programs. */
import type { Compiled, Device, Instance } from "../../compile.ts";
import type { Target } from "../../ir/target.ts";
import { zeros } from "../../ir/tensor.ts";
import { byteSize, type TensorType } from "../../ir/types.ts";
import type { Figures } from "./backend-probe.ts";
import { type ChainShape, chainBytes, chainOps, compileChain } from "./probe-programs.ts";

/** Sizes of the programs: for processors, whose caches should hold the matrix, and for GPUs, whose caches should not. */
export interface ProbeSizes {
  readonly vector: ChainShape;
  readonly matrix: ChainShape;
  readonly launch: ChainShape;
  /** More than caches hold, for devices that cannot tell how fast they read; by default what `vector` has. */
  readonly reading?: ChainShape;
}

export const processorSizes: ProbeSizes = {
  vector: { vectors: 1, size: 768, links: 4, format: "f32" },
  matrix: { vectors: 32, size: 512, links: 1, format: "f32" },
  launch: { vectors: 1, size: 256, links: 32, format: "f32" },
  reading: { vectors: 1, size: 4096, links: 1, format: "f32" },
};
export const gpuSizes: ProbeSizes = {
  vector: { vectors: 1, size: 4096, links: 16, format: "f32" },
  matrix: { vectors: 128, size: 4096, links: 4, format: "f32" },
  launch: { vectors: 1, size: 256, links: 64, format: "f32" },
};

/** Bytes read to find out how fast memory is: more than the caches that a core has to itself. */
const readingBytes = 64 * 2 ** 20;

/** Plans by target and shape: threads share those of their backend. */
export class ProbePlans {
  readonly #plans = new Map<string, Compiled>();

  get(shape: ChainShape, target: Target): Compiled {
    const key = JSON.stringify([shape, target]);
    const known = this.#plans.get(key) ?? compileChain(shape, target);
    this.#plans.set(key, known);
    return known;
  }
}

export interface MeasureOptions {
  readonly sizes: ProbeSizes;
  readonly plans: ProbePlans;
  /** `performance.now()` at which to have finished. */
  readonly deadline: number;
  /** Milliseconds in which the fastest run of a program is looked for. */
  readonly patience: number;
}

/** Null where the time did not suffice. */
export async function measureFigures(device: Device, options: MeasureOptions): Promise<Figures | null> {
  const { sizes, deadline } = options;
  const late = () => performance.now() > deadline;
  const time = (shape: ChainShape) => timeChain(device, shape, options);
  const step = await time({ ...sizes.launch, links: 1 });
  if (late()) return null;
  const rate = async (shape: ChainShape) => {
    const whole = await time(shape);
    // A step that was measured in a bad moment may seem to take longer than many do.
    const seconds = Math.max(whole - step, whole / 5);
    return { ops: chainOps(shape) / seconds, bytes: chainBytes(shape) / seconds };
  };
  const f32Vector = await rate(sizes.vector);
  if (late()) return null;
  const links = sizes.launch.links - 1;
  const each = ((await time(sizes.launch)) - step) / links;
  const launch = Math.max(each - chainOps({ ...sizes.launch, links: 1 }) / f32Vector.ops, 1e-8);
  if (late()) return null;
  const int8Vector = await rate({ ...sizes.vector, format: "int8" });
  if (late()) return null;
  const f32Matrix = await rate(sizes.matrix);
  if (late()) return null;
  const int8Matrix = await rate({ ...sizes.matrix, format: "int8" });
  if (late()) return null;
  // A device that cannot tell how fast it reads is measured by its fastest product.
  const bytesRead = async () =>
    sizes.reading === undefined ? Math.max(f32Vector.bytes, int8Vector.bytes) : (await rate(sizes.reading)).bytes;
  const reading =
    device.measureReading === undefined ? await bytesRead() : await readMemory(device, device.measureReading);
  if (late()) return null;
  return {
    reading,
    f32Vector: f32Vector.ops,
    int8Vector: int8Vector.ops,
    f32Matrix: f32Matrix.ops,
    int8Matrix: int8Matrix.ops,
    launch,
    step,
  };
}

/** Seconds of a run of the program. */
async function timeChain(
  device: Device,
  shape: ChainShape,
  { plans, deadline, patience }: MeasureOptions,
): Promise<number> {
  const { plan } = plans.get(shape, device.target);
  const entry = plan.funcs.get(plan.entry)!;
  const instance = device.load(plan).instantiate({
    weight: (func, index) => fill(device, plan.funcs.get(func)!.weights[index]!.type),
  });
  for (const [i, { type }] of entry.params.entries()) instance.params[i]!.fill(type.dtype === "f32" ? 0.01 : 0);
  const seconds = await bestTime(instance, deadline, patience);
  instance.release();
  return seconds;
}

async function readMemory(device: Device, measure: () => Promise<number>): Promise<number> {
  const block = device.allocate({ dtype: "f32", shape: [readingBytes / 4] });
  block.fill(1); // pages that were never written are all one page of zeros
  return measure();
}

const mostRuns = 1000;
/** On a busy machine some runs wait for other programs. */
const fewestRuns = 6;

/** Seconds of the fastest run. */
async function bestTime(instance: Instance, deadline: number, patience: number): Promise<number> {
  await instance.run(); // compiled code, pipelines, threads
  let best = Number.POSITIVE_INFINITY;
  const end = Math.min(performance.now() + patience, deadline);
  for (let i = 0; i < mostRuns; i++) {
    const start = performance.now();
    await instance.run();
    const now = performance.now();
    best = Math.min(best, now - start);
    if ((now > end && i >= fewestRuns) || now > deadline) break;
  }
  return best / 1000;
}

/** Any values do, but small ones: products of tiny numbers take longer on many processors. */
function fill(device: Device, type: TensorType) {
  const data = byteSize(type) === 0 ? zeros(type.dtype, type.shape).data : device.allocate(type);
  if (type.dtype === "f16") data.fill(0x2000);
  else data.fill(type.dtype === "f32" ? 0.001 : 1);
  return data;
}
