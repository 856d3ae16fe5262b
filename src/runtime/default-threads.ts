/** How many threads compute a model when nobody says. */
import type { ModelConfig } from "../models/deepseek/config.ts";
import { weightSpecs } from "../models/deepseek/weights.ts";

/** Beyond this many, decoding waits for memory, not for cores. */
export const mostThreads = 16;

/** Below this many parameters per token, a few milliseconds, threads mostly wait for each other on a busy machine. */
const smallModel = 20e6;

/** One per core, up to a limit; one alone for a model so small that threads would mostly wait for each other. */
export function defaultThreads(config: ModelConfig, cores = availableCores()): number {
  return isSmall(config) ? 1 : Math.max(1, Math.min(cores, mostThreads));
}

/** Whether a token takes so little that neither threads nor a GPU could save much. */
export function isSmall(config: ModelConfig): boolean {
  return parametersPerToken(config) < smallModel;
}

/** Parameters that a token is multiplied with: of experts those chosen, of the embedding none. */
export function parametersPerToken(config: ModelConfig): number {
  const share = (layer: number | undefined) => {
    const feedForward = layer === undefined ? undefined : config.feed_forward[layer];
    return feedForward?.kind === "moe" ? feedForward.num_experts_per_tok / feedForward.n_routed_experts : 1;
  };
  const head = config.tie_word_embeddings ? 0 : config.vocab_size * config.hidden_size;
  return weightSpecs(config).reduce((sum, { shape, layers, experts }) => {
    const each = shape.reduce((a, b) => a * b, 1);
    return sum + each * (layers?.length ?? 1) * (experts ?? 1) * (experts === null ? 1 : share(layers?.[0]));
  }, -head);
}

/** Both Node and browsers tell; elsewhere one. */
export function availableCores(): number {
  return typeof navigator === "undefined" ? 1 : (navigator.hardwareConcurrency ?? 1);
}

/** Whether threads can be started here that share memory: by any process, and by a worker of an isolated page. */
export function mayShareMemory(): boolean {
  const inWorker = "WorkerGlobalScope" in globalThis; // elsewhere in a page nothing may wait
  const shares = typeof SharedArrayBuffer !== "undefined";
  return shares && (typeof process !== "undefined" || (inWorker && globalThis.crossOriginIsolated === true));
}
