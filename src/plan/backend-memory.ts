/** What each backend makes of a model's memory: how it holds weights, and what the process takes besides. */
import { type ModelMemory, modelMemory, type Precision } from "./model-memory.ts";
import type { WeightSizes } from "./weight-groups.ts";

export interface BackendHolding {
  readonly backend: string;
  /** What matrices are held in unless they are quantised, and what they can be quantised to, most precise first. */
  readonly precisions: readonly Precision[];
  /** Whether it holds the model in memory of its own. */
  readonly ownMemory: boolean;
  /** Resident bytes of a process besides what `modelMemory` counts: the engine, this package, what was compiled. */
  readonly process: number;
}

const MB = 1e6;

/** One row per backend that holds weights itself. `process` was measured with Node 24 (docs/memory.md). */
export const backendHoldings: readonly BackendHolding[] = [
  { backend: "webgpu", precisions: ["f32", "int8", "int4"], ownMemory: true, process: 220 * MB },
  { backend: "wasm", precisions: ["f32", "int8", "int4"], ownMemory: false, process: 220 * MB },
  { backend: "js", precisions: ["f32", "int8", "int4"], ownMemory: false, process: 160 * MB },
];

export interface MemoryRequest {
  /** Tokens of each sequence. */
  readonly context: number;
  readonly sequences: number;
  /** Most tokens of a step. */
  readonly tokens: number;
}

export interface BackendMemory extends ModelMemory {
  readonly backend: string;
  readonly precision: Precision;
  /** Whether `device` is memory of its own, which the process has no part in. */
  readonly ownMemory: boolean;
  /** Of the process, with full caches. */
  readonly resident: number;
}

const blockSize = 16;

export function memoryOn(
  { backend, ownMemory, process }: BackendHolding,
  precision: Precision,
  sizes: WeightSizes,
  { context, sequences, tokens }: MemoryRequest,
): BackendMemory {
  const blocks = Math.ceil(context / blockSize);
  const slots = blocks * blockSize * sequences;
  // As a sequence grows its steps run in buckets of 8, 32, 128, ... blocks, each with values of its own.
  const buckets = 1 + Math.max(0, Math.ceil(Math.log2(blocks / 8) / 2));
  const step = { slots, context, tokens: Math.min(tokens, sequences * context), buckets };
  const memory = modelMemory(sizes, precision, step);
  return { ...memory, backend, precision, ownMemory, resident: process + (ownMemory ? 0 : memory.device) };
}
