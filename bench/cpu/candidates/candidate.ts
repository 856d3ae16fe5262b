/** What the benchmark asks of an engine that runs a whole model; each runs in a process of its own. */
/** How to start a candidate: what travels to its process. */
export type Spec =
  | {
      readonly engine: "ciuic";
      readonly folder: string;
      readonly threads: number;
      readonly batch: number;
      /** Options of `loadModel`. */
      readonly quantize: Readonly<Record<string, unknown>> | null;
      readonly disabledPasses: readonly string[];
    }
  | {
      readonly engine: "llama";
      readonly file: string;
      readonly threads: number;
      readonly batch: number;
      /** Name of a build of ggml's CPU kernels, e.g. `icelake`; null: the one that llama.cpp chooses. */
      readonly build: string | null;
      /** Whether the whole model goes to a GPU, by Vulkan. */
      readonly gpu?: boolean;
    }
  | { readonly engine: "wllama"; readonly file: string; readonly threads: number };

/** A number that depends on what was computed; or the time that it took, where the engine knows better. */
export type Outcome = number | { readonly ms: number };

/** A loaded model with one sequence. */
export interface Runner {
  /** What runs, e.g. the instruction set. */
  readonly info: string;
  /** Fills the cache with `tokens` tokens, or cuts it to as many. */
  context(tokens: number): Promise<void>;
  /** Runs `count` steps of one token after `context` tokens; later steps overwrite the earlier ones' cache. */
  decode(context: number, count: number): Promise<Outcome>;
  /** Runs a prompt of `count` tokens from an empty cache, for the logits of the last. */
  prefill(count: number): Promise<Outcome>;
  /** Ids that follow a prompt of `context` tokens, each the most likely. */
  greedy?(context: number, count: number): Promise<number[]>;
  /** Most resident memory of what runs it, where that is not this process. */
  peakMemory?(): Promise<number>;
  close(): Promise<void>;
}

/** Fixed ids, spread over the vocabulary; the same for every candidate. */
export function promptIds(count: number): Int32Array {
  return Int32Array.from({ length: count }, (_, i) => 7 + ((i * 40503) % 65521));
}
