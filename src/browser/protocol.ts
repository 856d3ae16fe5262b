/** The messages between a page and the worker in which its model lives. Every request has an id that its answers carry. */
import type { PruneOptions, QuantizeOptions } from "../compile.ts";
import type { ModelConfig } from "../models/deepseek/config.ts";
import type { GeneratedPart, GenerationResult } from "../runtime/engine/generate.ts";
import type { ErrorMessage } from "../runtime/error-message.ts";
import type { LoadProgress } from "../runtime/load-model.ts";
import type { ChatOptions } from "../runtime/model.ts";
import type { InputScales } from "../runtime/quality/input-scales.ts";
import type { KernelText, ProgramSummary } from "../runtime/report/program-summary.ts";
import type { ChatMessage } from "../runtime/text/chat-template.ts";
import type { BackendChoice, Refusal } from "./backend-choice.ts";
import type { DownloadProgress } from "./stored-folder.ts";

export type BrowserProgress = DownloadProgress | LoadProgress;

/** Options of loading that can be sent to a worker. */
export interface LoadSettings {
  /** Left out, the best backend that runs here, as `BackendReport` then says. */
  readonly backend?: string | undefined;
  /** Default: one per core, one alone for small models. */
  readonly threads?: number | undefined;
  readonly contextLength?: number | undefined;
  readonly maxSequences?: number | undefined;
  readonly maxBatchTokens?: number | undefined;
  readonly cacheBytes?: number | undefined;
  readonly quantize?: QuantizeOptions | undefined;
  /** As in `loadModel` of Node: what `prune` takes. */
  readonly prune?: PruneOptions | undefined;
  readonly inputScales?: InputScales | undefined;
  /** The names of the model's files, where they are known. Left out, the server is asked for the usual ones. */
  readonly files?: readonly string[] | undefined;
  /**
   * Where the files are kept: `opfs`, the browser's private file system; `none`, nowhere: they are read over HTTP as
   * they are needed. Left out, `opfs` where there is one.
   */
  readonly storage?: "opfs" | "none" | undefined;
}

/** What computes, and why not something faster. */
export interface BackendReport extends BackendChoice {
  /** One line for people. */
  readonly summary: string;
  /** Faster ones, in order, with what spoke against each. */
  readonly refused: readonly Refusal[];
}

/** What came from where, in bytes. */
export interface StorageReport {
  readonly kind: "opfs" | "none";
  /** Why nothing is stored, where that was not asked for. */
  readonly why: string | null;
  readonly total: number;
  /** Of `total`: was there before. */
  readonly kept: number;
  /** Was damaged and fetched again. */
  readonly repaired: number;
}

/** What is known of a loaded model. */
export interface ModelInfo {
  readonly name: string;
  readonly config: ModelConfig;
  readonly backend: BackendReport;
  readonly storage: StorageReport;
  readonly memory: { readonly weights: number; readonly caches: number };
  readonly program: ProgramSummary;
  /** Milliseconds from the request to its end, download included. */
  readonly loadMs: number;
}

type Sent<T> = Omit<T, "signal" | "variables">;

export type ToWorker =
  | { readonly kind: "load"; readonly id: number; readonly url: string; readonly settings: LoadSettings }
  | {
      readonly kind: "chat";
      readonly id: number;
      readonly messages: readonly ChatMessage[];
      readonly options: Sent<ChatOptions>;
    }
  | {
      readonly kind: "generate";
      readonly id: number;
      readonly prompt: string | readonly number[];
      readonly options: Sent<ChatOptions>;
    }
  | { readonly kind: "logits"; readonly id: number; readonly ids: readonly number[] }
  | { readonly kind: "kernel"; readonly id: number; readonly index: number }
  /** Ends request `id`, be it a generation or the loading. */
  | { readonly kind: "abort"; readonly id: number }
  | { readonly kind: "close"; readonly id: number };

/** What a request gives at its end. */
export interface Answers {
  readonly load: ModelInfo;
  readonly chat: GenerationResult;
  readonly generate: GenerationResult;
  readonly logits: Float32Array;
  readonly kernel: KernelText | null;
  readonly close: null;
}

export type FromWorker =
  | { readonly kind: "progress"; readonly id: number; readonly progress: BrowserProgress }
  | { readonly kind: "part"; readonly id: number; readonly part: GeneratedPart }
  | { readonly kind: "answer"; readonly id: number; readonly answer: Answers[keyof Answers] }
  | { readonly kind: "failed"; readonly id: number; readonly error: ErrorMessage };
