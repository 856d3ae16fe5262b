/** The check of `loadModel`'s options, as programs that no compiler has checked may give them. */
import { checkThreads } from "../compile.ts";
import { didYouMean, InputError, showValue } from "../ir/errors.ts";

const optionNames = [
  "backend",
  "threads",
  "gpu",
  "matrixUnits",
  "threadUrl",
  "packageFolder",
  "contextLength",
  "maxSequences",
  "maxBatchTokens",
  "cacheBytes",
  "onProgress",
  "quantize",
  "prune",
  "passes",
  "inputScales",
  "compile",
  "profile",
  "stepsAhead",
  "lastRows",
  "signal",
];

/** Names, and values whose mistakes would be found late or not at all. @throws InputError */
export function checkLoadOptions(options: unknown): void {
  if (typeof options !== "object" || options === null) throw wrong("options", "an object", options);
  for (const name of Object.keys(options)) {
    if (optionNames.includes(name)) continue;
    const hint = didYouMean(name, optionNames) ?? `Options: ${optionNames.join(", ")}.`;
    throw new InputError(`loadModel ${name}`, "unknown option", { hint });
  }
  const { threads, quantize, backend, signal, onProgress }: Readonly<Record<string, unknown>> = { ...options };
  if (threads !== undefined) checkThreads(threads, "loadModel threads");
  if (backend !== undefined && typeof backend !== "string") throw wrong("backend", "a name", backend);
  if (signal !== undefined && !(signal instanceof AbortSignal)) throw wrong("signal", "an AbortSignal", signal);
  if (onProgress !== undefined && typeof onProgress !== "function") throw wrong("onProgress", "a function", onProgress);
  if (quantize !== undefined && (typeof quantize !== "object" || quantize === null)) {
    const hint = `Or give the model as quantize(folder, ${JSON.stringify(String(quantize))}).`;
    throw wrong("quantize", '{ weights: "int4" }', quantize, hint);
  }
}

function wrong(option: string, expected: string, got: unknown, hint?: string): InputError {
  const what = `expected ${expected}, got ${showValue(got)}`;
  return new InputError(`loadModel ${option}`, what, hint === undefined ? {} : { hint });
}
