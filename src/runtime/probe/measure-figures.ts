/** Measures a device in some tenths of a second: usual times of a few small programs. */
import type { Compiled, Device, Instance } from "../../compile.ts";
import { planTotals } from "../../ir/plan.ts";
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
  /** The same with as many vectors as a step of a prompt has. */
  readonly launchMatrix: ChainShape;
  /** More than caches hold, for devices that cannot tell how fast they read; by default what `vector` has. */
  readonly reading?: ChainShape;
}

export const processorSizes: ProbeSizes = {
  vector: { vectors: 1, size: 768, links: 4, format: "f32" },
  matrix: { vectors: 32, size: 512, links: 1, format: "f32" },
  launch: { vectors: 1, size: 256, links: 16, format: "f32", layered: true },
  launchMatrix: { vectors: 128, size: 256, links: 3, format: "f32", layered: true },
  reading: { vectors: 1, size: 4096, links: 1, format: "f32" },
};
/** For graphs, whose ops take a microsecond: with a larger product that would be lost in how products vary. */
export const graphSizes: ProbeSizes = {
  ...processorSizes,
  launch: { vectors: 1, size: 32, links: 64, format: "f32" },
  launchMatrix: { vectors: 128, size: 32, links: 64, format: "f32" },
};
export const gpuSizes: ProbeSizes = {
  vector: { vectors: 1, size: 4096, links: 16, format: "f32" },
  matrix: { vectors: 128, size: 4096, links: 4, format: "f32" },
  launch: { vectors: 1, size: 256, links: 32, format: "f32", layered: true },
  launchMatrix: { vectors: 128, size: 256, links: 16, format: "f32", layered: true },
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
  /** Milliseconds in which a program runs again and again. */
  readonly patience: number;
}

/** What is measured on a device; the rest of `Figures` is the runtime's, the same for all. */
export type DeviceFigures = Omit<Figures, "token" | "logit">;

/** Null where the time did not suffice. */
export async function measureFigures(device: Device, options: MeasureOptions): Promise<DeviceFigures | null> {
  const { vector, matrix, launch, launchMatrix, reading } = options.sizes;
  const readsItself = device.measureReading !== undefined;
  const shapes: Readonly<Record<string, ChainShape>> = {
    step: { ...launch, links: 1, layered: false },
    f32Vector: vector,
    ...{ launch, launchMatrix },
    int8Vector: { ...vector, format: "int8" },
    f32Matrix: matrix,
    int8Matrix: { ...matrix, format: "int8" },
    ...(reading === undefined || readsItself ? {} : { reading }),
  };
  const programs = new Map<string, Program>();
  for (const [name, shape] of Object.entries(shapes)) {
    if (performance.now() > options.deadline) return null;
    programs.set(name, prepareProgram(device, shape, options));
  }
  // All are there before the first runs, so that a GPU's driver compiles their shaders side by side.
  for (const { instance } of programs.values()) {
    if (performance.now() > options.deadline) return null;
    await instance.run(); // compiled code, pipelines, threads
  }
  const bytesRead = await timeAll(device, [...programs.values()], options);
  for (const { instance } of programs.values()) instance.release();
  if (bytesRead === null) return null;
  const run = {
    usual: (name: string) => programs.get(name)!.usual,
    launches: (name: string) => programs.get(name)!.launches,
  };
  return figuresOf(shapes, run, readsItself ? bytesRead : null);
}

/** Of a program, by its name among the shapes: seconds of a usual run, and its launches. */
interface Runs {
  readonly usual: (name: string) => number;
  readonly launches: (name: string) => number;
}

/**
 * A GPU computes with one vector as fast as it reads, from matrices for which a launch is worth it: that says nothing of
 * its operations, which are then those of many vectors.
 * @param read bytes per second, where the device can tell: else its fastest product does
 */
export function figuresOf(
  shapes: Readonly<Record<string, ChainShape>>,
  { usual, launches }: Runs,
  read: number | null,
): DeviceFigures {
  const step = usual("step");
  const rate = (name: string, count: (shape: ChainShape) => number) => {
    const whole = usual(name);
    // A step that was measured in a bad moment may seem to take longer than many do.
    return count(shapes[name]!) / Math.max(whole - step, whole / 5);
  };
  const ops = (name: string) => rate(name, chainOps);
  const [f32Matrix, int8Matrix] = [ops("f32Matrix"), ops("int8Matrix")];
  const vectors = { f32Vector: ops("f32Vector"), int8Vector: ops("int8Vector") };
  const limits = {
    f32Vector: Math.max(vectors.f32Vector, f32Matrix),
    int8Vector: Math.max(vectors.int8Vector, int8Matrix),
  };
  const readingLimits = read === null && shapes.reading === undefined;
  // One of its launches, and the products of one link, are in the step.
  const each = (name: string, rate: number) => {
    const more = (1 - 1 / shapes[name]!.links) * chainOps(shapes[name]!);
    return Math.max((usual(name) - step - more / rate) / (launches(name) - 1), 1e-8);
  };
  const products = shapes.reading === undefined ? ["f32Vector", "int8Vector"] : ["reading"];
  return {
    reading: read ?? Math.max(...products.map((name) => rate(name, chainBytes))),
    ...(readingLimits ? limits : vectors),
    ...{ f32Matrix, int8Matrix },
    launch: each("launch", vectors.f32Vector),
    launchMatrix: each("launchMatrix", f32Matrix),
    step,
  };
}

interface Program {
  readonly instance: Instance;
  readonly launches: number;
  /** Seconds of a usual run, in the faster of the rounds so far. */
  usual: number;
}

/** Compiled and filled. */
function prepareProgram(device: Device, shape: ChainShape, { plans }: MeasureOptions): Program {
  const { plan } = plans.get(shape, device.target);
  const entry = plan.funcs.get(plan.entry)!;
  const instance = device.load(plan).instantiate({
    weight: (func, index) => fill(device, plan.funcs.get(func)!.weights[index]!.type),
  });
  for (const [i, { type }] of entry.params.entries()) instance.params[i]!.fill(type.dtype === "f32" ? 0.01 : 0);
  return { instance, launches: planTotals(plan).launches, usual: Number.POSITIVE_INFINITY };
}

const rounds = 2;
/** Of each round: on a busy machine some runs wait for other programs. */
const [fewestRuns, mostRuns] = [3, 500];

/**
 * All programs in turns: by the second round the engine has had time to optimise what the first one ran, and a moment in
 * which another program computes spoils one round of a few programs. Gives bytes per second that the device reads, where it
 * can tell (else 0), or null where the first round was not finished in time.
 */
async function timeAll(device: Device, programs: readonly Program[], options: MeasureOptions): Promise<number | null> {
  const { deadline, patience } = options;
  if (device.measureReading !== undefined) {
    const block = device.allocate({ dtype: "f32", shape: [readingBytes / 4] });
    block.fill(1); // pages that were never written are all one page of zeros
  }
  let read = 0;
  for (let round = 0; round < rounds; round++) {
    for (const program of programs) {
      if (performance.now() > deadline) return round === 0 ? null : read;
      const seconds = await usualTime(program.instance, deadline, patience / rounds);
      program.usual = Math.min(program.usual, seconds);
    }
    read = Math.max(read, (await device.measureReading?.()) ?? 0);
  }
  return read;
}

/** Seconds of a run in the middle of some: the fastest of many is one in which, of many threads, none was late. */
async function usualTime(instance: Instance, deadline: number, patience: number): Promise<number> {
  const times: number[] = [];
  const end = Math.min(performance.now() + patience, deadline);
  for (let i = 0; i < mostRuns; i++) {
    const start = performance.now();
    await instance.run();
    const now = performance.now();
    times.push(now - start);
    if ((now > end && i + 1 >= fewestRuns) || now > deadline) break;
  }
  return times.toSorted((a, b) => a - b)[times.length >> 1]! / 1000;
}

/**
 * Any values do, but small ones: products of tiny numbers take longer on many processors. A GPU multiplies zeros as fast, so
 * that a gigabyte of weights need not be made and sent there; pages of a processor's memory would all be one.
 */
function fill(device: Device, type: TensorType) {
  if (device.target.workgroup !== null && device.fill !== undefined && byteSize(type) > 0)
    return device.fill(type).data;
  const data = byteSize(type) === 0 ? zeros(type.dtype, type.shape).data : device.allocate(type);
  if (type.dtype === "f16") data.fill(0x2000);
  else data.fill(type.dtype === "f32" ? 0.001 : 1);
  return data;
}
