/** What is said between the one who drives a mesh and its ranks. All of it is data that can be posted to where ranks are. */
import type { GuestOffer, QuantizeOptions } from "../../compile.ts";
import type { Mesh } from "../../ir/mesh.ts";
import type { SamplerKind } from "../../models/sampling/sample.ts";
import type { BucketLimits, StepSize } from "../engine/bucket-ladder.ts";
import type { ErrorMessage } from "../error-message.ts";
import type { InputScales } from "../quality/input-scales.ts";
import type { RaggedBatch } from "../steps/step.ts";

/** Compile options that are plain data. */
export interface PlainCompileOptions {
  readonly optimize?: boolean;
  readonly fuse?: boolean;
  readonly verify?: 0 | 1 | 2 | 3;
  readonly quantize?: QuantizeOptions;
}

/** What a rank is started with, besides its links to the others. */
export interface RankStart {
  readonly rank: number;
  readonly mesh: Mesh;
  /** Path of the model's folder: every rank reads its own share of the weights. */
  readonly folder: string;
  /** Of each lane. */
  readonly limits: BucketLimits;
  readonly lanes: number;
  /** Ranks that can help this one with its programs, see `Device.offer`. */
  readonly guests: number;
  /** Its share of the machine's cores, for making weights. */
  readonly cores: number;
  /** Null: the default backend, on one thread. */
  readonly backend: string | null;
  /** Flags of Dawn, for WebGPU under Node. */
  readonly gpuFlags: readonly string[];
  /** Where TensorFlow.js is, see `DeviceOptions`. */
  readonly packageFolder: string | null;
  readonly compile: PlainCompileOptions;
  readonly inputScales: InputScales | null;
  /** Of an exchange. */
  readonly deadlineMs: number;
}

/** Caches of their own: those of the requests of each lane, by its number, and those of one sequence whose tokens are scored beside. */
export type CacheSpace = number | "single";

/** Steps that choose their own tokens, one of every sequence of a batch. */
export interface DecodeRun {
  /** The step before the first, as the driver knows it: tokens, and blocks for all steps. */
  readonly batch: RaggedBatch;
  readonly kind: SamplerKind;
  /** f32 [rows, 4], see `samplerRow`. */
  readonly options: Float32Array;
}

export type Command =
  | { readonly kind: "prepare"; readonly space: CacheSpace; readonly size: StepSize; readonly sampler?: SamplerKind }
  /** What each rank has offered the others. */
  | { readonly kind: "join"; readonly space: CacheSpace; readonly offers: readonly (GuestOffer | null)[] }
  | { readonly kind: "step"; readonly space: CacheSpace; readonly step: number; readonly batch: RaggedBatch }
  | {
      readonly kind: "decode";
      readonly space: CacheSpace;
      /** Number of the first step, of as many as there are rows of `uniforms`. */
      readonly step: number;
      readonly run: DecodeRun;
      /** Steps of the run before these, whose tokens the ranks know. */
      readonly before: number;
      /** f32 [steps, rows]: random numbers below 1. */
      readonly uniforms: Float32Array;
    };

/** `id` comes back with the answer. */
export type ToRank =
  | { readonly kind: "command"; readonly id: number; readonly command: Command }
  | { readonly kind: "end" };

/** Bytes that a rank holds and has read. */
export interface RankMemory {
  /** Weights as they are held. */
  readonly weights: number;
  /** Caches of all spaces. */
  readonly caches: number;
  /** In use of the device's memory: these, and what programs compute between. Null where the device does not say. */
  readonly held: number | null;
  /** Read of the checkpoint. */
  readonly read: number;
}

/** Milliseconds that steps took on a rank. */
export interface RankTimes {
  readonly ms: number;
  /** Of these in exchanges, waiting for other ranks included. */
  readonly exchangeMs: number;
}

/** What a rank says of a step. */
export interface RankStep extends RankTimes {
  /** From one rank of the last stage. */
  readonly logits: Float32Array | null;
}

/** What a rank says of steps that chose their own tokens. */
export interface RankDecode extends RankTimes {
  /** i32 [steps, rows], -1 where logits were no numbers; from one rank of the last stage. */
  readonly ids: Int32Array | null;
}

export type Answer =
  | {
      readonly kind: "prepared";
      readonly memory: RankMemory;
      readonly summary: string;
      /** Programs that others can help with from now on. */
      readonly offer: GuestOffer | null;
    }
  | { readonly kind: "joined" }
  | ({ readonly kind: "stepped" } & RankStep)
  | ({ readonly kind: "decoded" } & RankDecode);

export type FromRank =
  | { readonly kind: "answer"; readonly id: number; readonly answer: Answer }
  /** `id`: under which command; null: under none. */
  | { readonly kind: "failed"; readonly id: number | null; readonly error: ErrorMessage };
