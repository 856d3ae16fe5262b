/** What is said between the one who drives a mesh and the threads of its ranks. All of it is plain data. */
import type { QuantizeOptions } from "../../compile.ts";
import type { Mesh } from "../../ir/mesh.ts";
import type { BucketLimits, StepSize } from "../bucket-ladder.ts";
import type { ErrorMessage } from "../error-message.ts";
import type { InputScales } from "../input-scales.ts";
import type { RaggedBatch } from "../step.ts";
import type { MeshMemory } from "./shared-memory.ts";

/** Compile options that are plain data. */
export interface PlainCompileOptions {
  readonly optimize?: boolean;
  readonly fuse?: boolean;
  readonly verify?: 0 | 1 | 2 | 3;
  readonly quantize?: QuantizeOptions;
}

/** What a rank is started with. */
export interface RankStart {
  readonly rank: number;
  readonly mesh: Mesh;
  /** Path of the model's folder: every rank reads its own share of the weights. */
  readonly folder: string;
  /** Of each lane. */
  readonly limits: BucketLimits;
  /** Null: the default backend, on one thread. */
  readonly backend: string | null;
  readonly compile: PlainCompileOptions;
  readonly inputScales: InputScales | null;
  readonly memory: MeshMemory;
  readonly deadlineMs: number;
  readonly spinMs: number;
}

/** Caches of their own: those of the requests of each lane, by its number, and those of one sequence whose tokens are scored beside. */
export type CacheSpace = number | "single";

export type ToRank =
  | { readonly kind: "prepare"; readonly space: CacheSpace; readonly size: StepSize }
  | { readonly kind: "step"; readonly space: CacheSpace; readonly step: number; readonly batch: RaggedBatch }
  | { readonly kind: "end" };

/** Bytes that a rank holds and has read. */
export interface RankMemory {
  /** Weights as they are held. */
  readonly weights: number;
  /** Caches of all spaces. */
  readonly caches: number;
  /** Read of the checkpoint. */
  readonly read: number;
}

/** What a rank says of a step. */
export interface RankStep {
  /** From one rank of the last stage. */
  readonly logits: Float32Array | null;
  /** In exchanges, waiting for other ranks included. */
  readonly exchangeMs: number;
}

export type FromRank =
  | { readonly kind: "prepared"; readonly memory: RankMemory; readonly summary: string }
  | ({ readonly kind: "stepped" } & RankStep)
  | { readonly kind: "failed"; readonly error: ErrorMessage };
