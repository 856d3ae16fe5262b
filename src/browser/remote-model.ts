/** The page's side: a model that lives in a worker, with the methods of `Model`. */
import { CompilerError, InputError, InternalError } from "../ir/errors.ts";
import type { ModelConfig } from "../models/deepseek/config.ts";
import type { GenerateOptions, GenerationResult } from "../runtime/engine/generate.ts";
import { Channel, Generation } from "../runtime/engine/generation.ts";
import { errorFrom } from "../runtime/error-message.ts";
import type { ChatOptions } from "../runtime/model.ts";
import type { KernelText, ProgramSummary } from "../runtime/report/program-summary.ts";
import type { ChatMessage } from "../runtime/text/chat-template.ts";
import type {
  Answers,
  BackendReport,
  BrowserProgress,
  FromWorker,
  LoadSettings,
  ModelInfo,
  StorageReport,
  ToWorker,
} from "./protocol.ts";

/** What the worker is asked, without the id. */
type Question<K extends keyof Answers> = Omit<Extract<ToWorker, { kind: K }>, "id">;

/** As much of a Worker as is used. */
export interface WorkerPort {
  postMessage(message: ToWorker): void;
  terminate(): void;
  onmessage: ((event: MessageEvent<FromWorker>) => void) | null;
  onerror: ((event: ErrorEvent) => void) | null;
  onmessageerror: ((event: MessageEvent) => void) | null;
}

interface Pending {
  readonly message: (message: Exclude<FromWorker, { kind: "answer" | "failed" }>) => void;
  readonly answer: (answer: Answers[keyof Answers]) => void;
  readonly fail: (error: unknown) => void;
}

/** Requests to a worker and what comes back. When the worker dies, so do all requests. */
class Connection {
  readonly #worker: WorkerPort;
  readonly #pending = new Map<number, Pending>();
  #next = 0;
  #dead: CompilerError | null = null;

  constructor(worker: WorkerPort) {
    this.#worker = worker;
    worker.onmessage = ({ data }) => this.#hear(data);
    worker.onerror = (event) => {
      const why = event.message || "its file could not be loaded";
      this.end(
        new CompilerError("internal", "worker", why, { hint: "The model's worker ended; load the model again." }),
      );
    };
    worker.onmessageerror = () => this.end(new InternalError("worker", "sent a message that cannot be read"));
  }

  /** Sends a request. Its answer has the type that belongs to its kind: the worker's server says so. */
  ask<K extends keyof Answers>(kind: K, question: Question<K>, onMessage: Pending["message"] = () => {}) {
    const id = this.#next++;
    const { promise, resolve, reject } = Promise.withResolvers<Answers[K]>();
    if (this.#dead !== null) reject(this.#dead);
    else {
      // As above: the answer is of the question's kind.
      this.#pending.set(id, { message: onMessage, answer: (answer) => resolve(answer as Answers[K]), fail: reject });
      try {
        this.#worker.postMessage({ ...question, kind, id } as ToWorker); // put together from its parts
      } catch (cause) {
        this.#pending.delete(id);
        reject(new InputError(kind, `cannot be sent to the worker: ${String(cause)}`, { cause }));
      }
    }
    return { answer: promise, abort: () => this.abort(id) };
  }

  abort(id: number): void {
    if (this.#dead === null) this.#worker.postMessage({ kind: "abort", id });
  }

  /** Ends the worker and with it everything that is still under way. */
  end(why: CompilerError): void {
    this.#dead ??= why;
    this.#worker.terminate();
    for (const { fail } of this.#pending.values()) fail(this.#dead);
    this.#pending.clear();
  }

  #hear(message: FromWorker): void {
    const pending = this.#pending.get(message.id);
    if (message.kind === "answer" || message.kind === "failed") {
      this.#pending.delete(message.id);
      if (message.kind === "answer") pending?.answer(message.answer);
      else pending?.fail(errorFrom(message.error));
    } else pending?.message(message);
  }
}

/** Lives from `loadModel` to `close()`. Requests may overlap: they are computed together, each as if it were alone. */
export class RemoteModel {
  readonly name: string;
  readonly config: ModelConfig;
  /** What computes, and why not something faster. */
  readonly backend: BackendReport;
  /** Where the files came from. */
  readonly storage: StorageReport;
  /** Bytes held: compiled weights and caches. */
  readonly memory: ModelInfo["memory"];
  /** The compiled step for one token. */
  readonly program: ProgramSummary;
  readonly loadMs: number;
  readonly #connection: Connection;

  constructor(info: ModelInfo, connection: Connection) {
    this.name = info.name;
    this.config = info.config;
    this.backend = info.backend;
    this.storage = info.storage;
    this.memory = info.memory;
    this.program = info.program;
    this.loadMs = info.loadMs;
    this.#connection = connection;
  }

  /** Answers a conversation. Iterate the result for parts of text as they come. */
  chat(messages: readonly ChatMessage[], options: Omit<ChatOptions, "variables"> = {}): Generation {
    const { signal, ...rest } = options;
    return this.#generate("chat", { kind: "chat", messages, options: rest }, signal);
  }

  /** Continues a text, or token ids as they are. */
  generate(prompt: string | ArrayLike<number>, options: GenerateOptions = {}): Generation {
    const { signal, ...rest } = options;
    const sent = typeof prompt === "string" ? prompt : Array.from(prompt);
    return this.#generate("generate", { kind: "generate", prompt: sent, options: rest }, signal);
  }

  /** Logits [ids.length, vocab_size] of every position, in a cache apart from the requests'. */
  async logits(ids: ArrayLike<number>): Promise<Float32Array> {
    return this.#connection.ask("logits", { kind: "logits", ids: Array.from(ids) }).answer;
  }

  /** A kernel of `program` as text; null where there is none of this number. */
  async kernel(index: number): Promise<KernelText | null> {
    return this.#connection.ask("kernel", { kind: "kernel", index }).answer;
  }

  /** Ends all requests and the worker. */
  async close(): Promise<void> {
    await this.#connection.ask("close", { kind: "close" }).answer.catch(() => {});
    this.#connection.end(new InputError("model", "closed"));
  }

  #generate<K extends "chat" | "generate">(
    kind: K,
    question: Question<K>,
    signal: AbortSignal | undefined,
  ): Generation {
    const { answer, abort } = this.#connection.ask(kind, question, (message) => {
      if (message.kind === "part") channel.push(message.part);
    });
    const channel = new Channel(abort);
    signal?.addEventListener("abort", abort, { once: true });
    if (signal?.aborted) abort();
    answer
      .then(
        (result: GenerationResult) => channel.finish(result),
        (error: unknown) => channel.fail(error),
      )
      .finally(() => signal?.removeEventListener("abort", abort));
    return new Generation(channel);
  }
}

/** How long an aborted load may take to put away what it has. */
const putAwayMs = 3000;

/** Has the worker load a model; ends it when that fails. */
export async function loadInWorker(
  worker: WorkerPort,
  url: string,
  settings: LoadSettings,
  {
    onProgress,
    signal,
  }: { onProgress?: ((progress: BrowserProgress) => void) | undefined; signal?: AbortSignal | undefined },
): Promise<RemoteModel> {
  const connection = new Connection(worker);
  let timer: ReturnType<typeof setTimeout> | undefined;
  const { answer, abort } = connection.ask("load", { kind: "load", url, settings }, (message) => {
    if (message.kind === "progress" && !signal?.aborted) onProgress?.(message.progress);
  });
  const stop = () => {
    abort();
    timer = setTimeout(() => connection.end(new InputError("loadModel", "aborted")), putAwayMs);
  };
  signal?.addEventListener("abort", stop, { once: true });
  if (signal?.aborted) stop();
  try {
    return new RemoteModel(await answer, connection);
  } catch (error) {
    connection.end(new InputError("loadModel", "the model was not loaded"));
    throw signal?.aborted ? signal.reason : error;
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", stop);
  }
}
