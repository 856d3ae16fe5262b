/** What each backend makes of a model's memory: how it holds weights, and what the process takes besides. */
import { graphNarrowWeights, type NarrowWeights, wasmTarget, webgpuTarget } from "../ir/target.ts";
import type { Launching } from "./expected-speed.ts";
import {
  type Expansion,
  type Holding,
  isQuantized,
  type ModelMemory,
  modelMemory,
  type Precision,
} from "./model-memory.ts";
import type { WeightSizes } from "./weight-groups.ts";

export interface BackendHolding {
  readonly backend: string;
  /** What matrices are held in unless they are quantised, and what they can be quantised to, most precise first. */
  readonly precisions: readonly Precision[];
  /** Memory of its own: what must fit there is what the device holds. */
  readonly ownMemory: boolean;
  /** See `Holding`. */
  readonly hostCopy: Holding["hostCopy"];
  readonly expands?: Expansion;
  /** Weights that it reads as they are stored. */
  readonly narrow: NarrowWeights | null;
  /** Bindings that a kernel has to spare for one weight (of the eight of every WebGPU others are operands'). Default: 1. */
  readonly weightBindings?: number;
  /** How its steps are launched, see `expectedSpeed`. */
  readonly launching: Launching;
  /** See `SpeedQuestion`. */
  readonly queues?: boolean;
  /** Resident bytes of a process besides what `modelMemory` counts. */
  readonly around: ProcessMemory;
}

/**
 * What a process has besides the model, in bytes, after garbage was collected: V8 keeps up to a hundred megabytes more for
 * a while, and gives them back where memory is short.
 */
export interface ProcessMemory {
  /** Node, this package, and what it loads besides: a library of an engine, the driver of a GPU. */
  readonly engine: number;
  /** What is compiled for a model: plans, code of kernels, the heap that they are in. */
  readonly programs: number;
  /** More of the same where weights are quantised. */
  readonly quantized: number;
  /** The first thread beside the calling one, and each further one: an isolate, its stacks and its code. */
  readonly threads: readonly [first: number, further: number];
}

const MB = 1e6;

const inNode = { engine: 96 * MB, threads: [27 * MB, 13 * MB] } as const;
const eager = { expands: { gathered: "wide" }, narrow: null, precisions: ["stored", "int8", "int4"] } as const;
const inGraphs = { expands: { gathered: "stored", inGraph: true }, narrow: graphNarrowWeights } as const;
const formats = ["stored", "f32", "int8", "int4"] as const;
/** TensorFlow maps 330 MB of library; how much of the rest its allocator keeps differs by tens of megabytes. */
const inTensorFlow = { engine: 430 * MB, programs: 100 * MB, quantized: 80 * MB, threads: [0, 0] } as const;
const opByOp = { engine: 440 * MB, programs: 25 * MB, quantized: 30 * MB, threads: [0, 0] } as const;
const inScripts = { ...inNode, programs: 34 * MB, quantized: 5 * MB } as const;

/**
 * One row per backend. What a process has was measured with Node 24 on Linux (`node bench/memory.bench.ts`,
 * docs/machine.md); of drivers of GPUs it is a guess.
 */
export const backendHoldings: readonly BackendHolding[] = [
  {
    ...{ backend: "webgpu", precisions: formats, ownMemory: true, hostCopy: false, launching: "divided" },
    narrow: webgpuTarget.narrowWeights ?? null,
    weightBindings: 5,
    queues: true,
    around: { ...inNode, engine: 200 * MB, programs: 20 * MB, quantized: 10 * MB },
  },
  {
    ...{ backend: "wasm", precisions: formats, ownMemory: false, hostCopy: false, launching: "merged" },
    narrow: wasmTarget.narrowWeights ?? null,
    around: { ...inNode, programs: 20 * MB, quantized: 10 * MB },
  },
  {
    ...{ backend: "js", precisions: eager.precisions, ownMemory: false, hostCopy: false, launching: "merged" },
    narrow: null,
    around: { ...inNode, programs: 30 * MB, quantized: 8 * MB },
  },
  ...(["tensorflow", "tensorflow-gpu"] as const).map((backend) => ({
    // TensorFlow reads the files itself, but where codes are made of what is in them.
    ...{ backend, precisions: formats, hostCopy: "codes" as const, ...inGraphs, launching: "graph" as const },
    ...{ ownMemory: backend === "tensorflow-gpu", around: inTensorFlow },
  })),
  ...(["tensorflow-ops", "tensorflow-gpu-ops"] as const).map((backend) => ({
    ...{ backend, hostCopy: true, ...eager, launching: "ops" as const },
    ...{ ownMemory: backend === "tensorflow-gpu-ops", around: opByOp },
  })),
  {
    ...{
      backend: "tfjs-webgpu",
      ownMemory: true,
      hostCopy: true,
      ...eager,
      launching: "ops",
    },
    around: { ...inScripts, engine: 220 * MB },
  },
  {
    ...{
      backend: "tfjs-wasm",
      ownMemory: false,
      hostCopy: true,
      ...eager,
      launching: "ops",
    },
    // Its memory grows with what a step needs and never shrinks.
    around: { ...inScripts, programs: 52 * MB },
  },
  {
    // Its f32 tensors are the arrays that were loaded.
    ...{
      backend: "tfjs-cpu",
      ownMemory: false,
      hostCopy: "others",
      ...eager,
      launching: "ops",
    },
    around: inScripts,
  },
];

export interface MemoryRequest {
  /** Tokens of each sequence. */
  readonly context: number;
  readonly sequences: number;
  /** Most tokens of a step. */
  readonly tokens: number;
  /** Threads, where the backend has them. Default: 1. */
  readonly threads?: number;
}

export interface BackendMemory extends ModelMemory {
  readonly backend: string;
  readonly precision: Precision;
  /** Whether `device` is memory of its own, which the process has no part in. */
  readonly ownMemory: boolean;
  readonly weightBindings: number;
  /** Of the process, with full caches. */
  readonly resident: number;
}

const blockSize = 16;

/** Of a tokenizer: strings, ids and merges of a token, as they are on V8's heap. */
const tokenBytes = 250;

/** What a tokenizer takes for so many tokens. */
export function tokenizerBytes(vocab: number): number {
  return tokenBytes * vocab;
}

export function memoryOn(
  { backend, ownMemory, around, hostCopy, expands, narrow, weightBindings = 1 }: BackendHolding,
  precision: Precision,
  sizes: WeightSizes,
  { context, sequences, tokens, threads = 1 }: MemoryRequest,
): BackendMemory {
  const blocks = Math.ceil(context / blockSize);
  const slots = blocks * blockSize * sequences;
  // As a sequence grows its steps run in buckets of 8, 32, 128, ... blocks, each with values of its own.
  const buckets = 1 + Math.max(0, Math.ceil(Math.log2(blocks / 8) / 2));
  const step = { slots, context, tokens: Math.min(tokens, sequences * context), buckets };
  const memory = modelMemory(sizes, { precision, hostCopy, expands, narrow }, step);
  const { engine, programs, quantized } = around;
  const [first, further] = around.threads;
  const besides =
    engine +
    programs +
    (isQuantized(precision) ? quantized : 0) +
    (threads > 1 ? first + (threads - 2) * further : 0) +
    tokenizerBytes(sizes.vocab);
  const resident = besides + memory.host + (ownMemory ? 0 : memory.device);
  return { ...memory, backend, precision, ownMemory, weightBindings, resident };
}
