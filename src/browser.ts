/**
 * The library in a browser, `ciuic/browser`: `loadModel` as in Node, but from an address, and the model lives in a
 * worker, so that the page stays free. See docs/browser.md.
 */
import { removePrivateFolder } from "./browser/file-store.ts";
import { folderUrl, storageName } from "./browser/folder-url.ts";
import type { BrowserProgress, LoadSettings } from "./browser/protocol.ts";
import { loadInWorker, type RemoteModel, type WorkerPort } from "./browser/remote-model.ts";
import { didYouMean, InputError } from "./ir/errors.ts";

export type { BackendChoice, Refusal } from "./browser/backend-choice.ts";
export type { BackendReport, BrowserProgress, LoadSettings, StorageReport } from "./browser/protocol.ts";
export type { RemoteModel } from "./browser/remote-model.ts";
export { CompilerError, InputError, InternalError, IrError, UnsupportedError } from "./ir/errors.ts";
export type { GeneratedPart, GenerateOptions, GenerationResult } from "./runtime/engine/generate.ts";
export type { Generation } from "./runtime/engine/generation.ts";
export type { ChatOptions } from "./runtime/model.ts";
export type { KernelSummary, KernelText, PassSummary, ProgramSummary } from "./runtime/report/program-summary.ts";
export type { ChatMessage } from "./runtime/text/chat-template.ts";

export interface BrowserLoadOptions extends LoadSettings {
  readonly onProgress?: ((progress: BrowserProgress) => void) | undefined;
  /** Ends loading. What has been downloaded stays, and the next load goes on from there. */
  readonly signal?: AbortSignal | undefined;
  /**
   * Starts the worker. Left out, `browser/worker.js` beside this file, as the package has it and as bundlers find it
   * that know `new Worker(new URL(...))`; with others, bundle `ciuic/browser-worker` and start that here.
   */
  readonly worker?: (() => Worker) | undefined;
}

const optionNames: readonly string[] = [
  "backend",
  "threads",
  "contextLength",
  "maxSequences",
  "maxBatchTokens",
  "cacheBytes",
  "quantize",
  "prune",
  "inputScales",
  "files",
  "storage",
  "onProgress",
  "signal",
  "worker",
];

/**
 * Loads the model in the folder at `url`, relative to the page. Its files are downloaded once and then kept.
 * @throws UnsupportedError, InputError; the signal's reason when aborted
 */
export async function loadModel(url: string, options: BrowserLoadOptions = {}): Promise<RemoteModel> {
  for (const name of Object.keys(options)) {
    if (optionNames.includes(name)) continue;
    const hint = didYouMean(name, optionNames) ?? `Options: ${optionNames.join(", ")}.`;
    throw new InputError(`loadModel ${name}`, "unknown option", { hint });
  }
  // For those whose program no compiler has checked.
  if (typeof url !== "string") {
    throw new InputError("loadModel", `expected an address, got ${typeof url}`, {
      hint: "A recipe lives where it was made; the worker takes its choices as options: quantize, prune, backend.",
    });
  }
  const { onProgress, signal, worker: start = startWorker, ...settings } = options;
  const folder = folderUrl(url, document.baseURI);
  signal?.throwIfAborted();
  // A Worker calls its handlers with events of these types.
  return loadInWorker(start() as unknown as WorkerPort, folder, settings, { onProgress, signal });
}

/** Removes what is kept of the model at `url`. Nothing may be using it. */
export async function removeStoredModel(url: string): Promise<void> {
  await removePrivateFolder(await storageName(folderUrl(url, document.baseURI)));
}

function startWorker(): Worker {
  return new Worker(new URL("./browser/worker.js", import.meta.url), { type: "module", name: "ciuic model" });
}
