/** The worker's side: loads one model and answers the page's requests. */
import { InputError, UnsupportedError } from "../ir/errors.ts";
import { type ModelConfig, parseModelConfigText } from "../models/deepseek/config.ts";
import { defaultThreads } from "../runtime/default-threads.ts";
import type { Generation } from "../runtime/engine/generation.ts";
import { errorMessage } from "../runtime/error-message.ts";
import { maxConfigBytes } from "../runtime/load-limits.ts";
import { loadModel } from "../runtime/load-model.ts";
import type { Model } from "../runtime/model.ts";
import { kernelText, summarizeProgram } from "../runtime/report/program-summary.ts";
import type { ModelFolder } from "../runtime/weights/byte-source.ts";
import { type BackendChoice, type Capabilities, chooseBackends, type Refusal } from "./backend-choice.ts";
import { fittingBackends } from "./memory-check.ts";
import type {
  Answers,
  BrowserProgress,
  FromWorker,
  LoadSettings,
  ModelInfo,
  StorageReport,
  ToWorker,
} from "./protocol.ts";

/** What loading needs of the place where it runs. */
export interface Surroundings {
  readonly capabilities: () => Promise<Capabilities>;
  readonly openFolder: (url: string, settings: LoadSettings, watch: Watch) => Promise<OpenedFolder>;
  /** See `DeviceOptions`. */
  readonly threadUrl: string;
}

export interface Watch {
  readonly onProgress: (progress: BrowserProgress) => void;
  readonly signal: AbortSignal;
  /** Called with the model's config before anything larger is fetched; what it throws ends loading. */
  readonly beforeDownload: (config: string) => void;
}

export interface OpenedFolder {
  readonly folder: ModelFolder;
  /** Asked for after loading, since damage shows when a file is read. */
  readonly storage: () => StorageReport;
}

type Request<K extends ToWorker["kind"]> = Extract<ToWorker, { kind: K }>;

export class ModelServer {
  readonly #post: (message: FromWorker) => void;
  readonly #surroundings: Surroundings;
  readonly #running = new Map<number, { abort(): void }>();
  #model: Model | null = null;
  #loading = false;

  constructor(post: (message: FromWorker) => void, surroundings: Surroundings) {
    this.#post = post;
    this.#surroundings = surroundings;
  }

  /** Takes a message; every request ends in an answer or an error. */
  receive(message: ToWorker): void {
    const { id } = message;
    if (message.kind === "abort") {
      this.#running.get(id)?.abort();
      return;
    }
    this.#answer(message)
      .then((answer) => this.#post({ kind: "answer", id, answer }))
      .catch((error: unknown) => this.#post({ kind: "failed", id, error: errorMessage(error) }))
      .finally(() => this.#running.delete(id));
  }

  async #answer(message: Exclude<ToWorker, { kind: "abort" }>): Promise<Answers[keyof Answers]> {
    switch (message.kind) {
      case "load":
        return this.#load(message);
      case "chat":
        return this.#stream(message.id, this.#loaded().chat(message.messages, message.options));
      case "generate":
        return this.#stream(message.id, this.#loaded().generate(message.prompt, message.options));
      case "logits":
        return this.#loaded().logits(message.ids);
      case "kernel":
        return kernelText(this.#loaded().program, message.index);
      case "close": {
        for (const each of this.#running.values()) each.abort();
        await this.#model?.close();
        this.#model = null;
        return null;
      }
    }
  }

  async #stream(id: number, generation: Generation): Promise<Answers["chat"]> {
    this.#running.set(id, generation);
    for await (const part of generation) this.#post({ kind: "part", id, part });
    return generation.result;
  }

  async #load({ id, url, settings }: Request<"load">): Promise<ModelInfo> {
    if (this.#loading || this.#model !== null) throw new InputError("worker", "a worker holds one model");
    this.#loading = true;
    const began = performance.now();
    const controller = new AbortController();
    this.#running.set(id, controller);
    const { signal } = controller;
    const onProgress = (progress: BrowserProgress) => this.#post({ kind: "progress", id, progress });
    try {
      const capabilities = await this.#surroundings.capabilities();
      chooseBackends(settings, capabilities); // what cannot run is said before anything is downloaded
      const chosen = (config: ModelConfig) => {
        const { threads = defaultThreads(config, capabilities.cores) } = settings;
        return fittingBackends(chooseBackends({ ...settings, threads }, capabilities), config, settings, capabilities);
      };
      const parse = (text: string) => parseModelConfigText(text, "config.json");
      const beforeDownload = (text: string) => void chosen(parse(text));
      const watch = { onProgress, signal, beforeDownload };
      const { folder, storage } = await this.#surroundings.openFolder(url, settings, watch);
      const { possible, refused } = chosen(parse(await folder.readText("config.json", maxConfigBytes)));
      const threadUrl = capabilities.blobWorkers ? undefined : this.#surroundings.threadUrl;
      const options = { ...modelOptions(settings), onProgress, signal, threadUrl };
      const { model, choice, failed } = await loadFirst(folder, possible, options);
      this.#model = model;
      return {
        name: model.name,
        config: model.config,
        backend: { ...choice, summary: model.device?.summary ?? choice.label, refused: [...refused, ...failed] },
        storage: storage(),
        memory: model.memory,
        program: summarizeProgram(model.program),
        loadMs: performance.now() - began,
      };
    } finally {
      this.#loading = false;
    }
  }

  #loaded(): Model {
    if (this.#model === null) throw new InputError("worker", "no model is loaded");
    return this.#model;
  }
}

type ModelOptions = Omit<NonNullable<Parameters<typeof loadModel>[1]>, "backend" | "threads" | "compile">;

/** Loads on the first backend that takes the model: memory, say, may be short only when it is asked for. */
export async function loadFirst(
  folder: ModelFolder,
  choices: readonly BackendChoice[],
  options: ModelOptions,
  load: typeof loadModel = loadModel,
) {
  const failed: Refusal[] = [];
  for (const [i, choice] of choices.entries()) {
    const { backend, threads } = choice;
    try {
      const model = await load(folder, { ...options, backend, threads });
      return { model, choice, failed };
    } catch (error) {
      const other = error instanceof UnsupportedError && error.where.startsWith(backend) && i + 1 < choices.length;
      if (!other) throw error;
      failed.push({ label: choice.label, reason: error.message });
    }
  }
  throw new UnsupportedError("backend", "there is none to try");
}

/** Settings that `loadModel` has too. */
function modelOptions({ backend: _, threads: __, files: ___, storage: ____, ...options }: LoadSettings) {
  return options;
}
