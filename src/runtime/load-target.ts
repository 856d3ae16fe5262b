/** On what a model is loaded: what the caller said, else what is chosen, and the next where that refuses the model. */
import type { QuantizeOptions } from "../compile.ts";
import { UnsupportedError } from "../ir/errors.ts";
import type { ModelConfig } from "../models/deepseek/config.ts";
import { precisionOf } from "../plan/model-memory.ts";
import { defaultTarget } from "./probe/default-target.ts";
import type { TargetChoice } from "./probe/target-choice.ts";

export interface TargetWish {
  readonly backend?: string | undefined;
  readonly threads?: number | undefined;
  readonly contextLength?: number | undefined;
  readonly maxSequences?: number | undefined;
  readonly quantize?: QuantizeOptions | undefined;
  readonly packageFolder?: string | undefined;
}

/** Null where nothing is left to choose. @throws UnsupportedError where nothing that was asked for runs */
export async function chooseFor(config: ModelConfig, wish: TargetWish): Promise<TargetChoice | null> {
  const { backend, threads, contextLength: context, maxSequences: sequences, quantize, packageFolder } = wish;
  // Of the others only this one has threads.
  if (backend !== undefined && (backend !== "wasm" || threads !== undefined)) return null;
  const precision = precisionOf(quantize);
  return defaultTarget(config, { backend, threads, context, sequences, precision, packageFolder });
}

export interface LoadTarget {
  readonly backend?: string | undefined;
  readonly threads?: number | null | undefined;
}

/** Loads on the first target that takes the model: memory, say, may be short only when it is asked for. */
export async function loadOnFirst<T>(
  targets: readonly LoadTarget[],
  load: (target: LoadTarget) => Promise<T>,
): Promise<T> {
  for (const [i, target] of targets.entries()) {
    try {
      return await load(target);
    } catch (error) {
      const refused = error instanceof UnsupportedError && error.where.startsWith(String(target.backend));
      if (!refused || i + 1 === targets.length) throw error;
    }
  }
  throw new UnsupportedError("backend", "there is none to try");
}
