/**
 * The threads of a device. Every thread is a worker, so the calling thread stays free: it starts steps, hears of their
 * end, sees a worker die, and can stop a step in the middle. One step runs at a time; others wait for it.
 */
import { CompilerError, InternalError } from "../../ir/errors.ts";
import {
  arrivedAddress,
  commandAddress,
  counterAddress,
  finishedAddress,
  generationAddress,
  programAddress,
  sleepersAddress,
  stopAddress,
} from "./sync.ts";
import { type FromThread, type ThreadCells, type ToThread, threadName, workerSource } from "./worker.ts";

/** A worker of Node or of the Web. */
export interface Thread {
  readonly post: (message: ToThread) => void;
  /** Whether it keeps the process alive. */
  readonly hold: (alive: boolean) => void;
  readonly end: () => Promise<unknown>;
}

/** What a thread tells: its messages, and that it is gone. */
export interface ThreadEvents {
  readonly message: (message: FromThread) => void;
  readonly gone: (why: string) => void;
}

const cells: ThreadCells = {
  command: commandAddress / 4,
  program: programAddress / 4,
  stop: stopAddress / 4,
  generation: generationAddress / 4,
  finished: finishedAddress / 4,
};

/** How long a thread spins for the next step before it sleeps. Waking costs about 40 microseconds per step. */
const spinMs = 2;

interface Pending {
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

export class ThreadPool {
  readonly threads: number;
  readonly #memory: Int32Array;
  readonly #workers: readonly Thread[];
  #programs = 0;
  #pending: Pending | null = null;
  #failure: CompilerError | null = null;
  /** Why the pool can no longer be used. */
  #broken: CompilerError | null = null;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(memory: WebAssembly.Memory, threads: number, startThread: (events: ThreadEvents) => Thread) {
    this.threads = threads;
    this.#memory = new Int32Array(memory.buffer, 0, 256);
    this.#workers = Array.from({ length: threads }, (_, thread) => {
      const worker = startThread({
        message: (message) => this.#hear(message),
        gone: (why) => this.#lose(thread, why),
      });
      worker.post({ kind: "start", memory, thread, threads, cells, spinMs, seen: 0 });
      worker.hold(false);
      return worker;
    });
  }

  /** Gives every thread an instance of a program; `scratch` is the first thread's, `scratchBytes` apart. */
  load(
    module: WebAssembly.Module,
    entry: string,
    args: readonly number[],
    scratch: number,
    scratchBytes: number,
  ): number {
    const id = ++this.#programs;
    const seen = this.#command(0);
    for (const [thread, worker] of this.#workers.entries()) {
      worker.post({ kind: "load", id, module, entry, args, scratch: scratch + thread * scratchBytes, seen });
    }
    return id;
  }

  /** Drops every thread's instance of a program. */
  forget(id: number): void {
    const seen = this.#command(0);
    for (const worker of this.#workers) worker.post({ kind: "forget", id, seen });
  }

  /** Runs a program on all threads. Rejects if a thread fails or dies, or when the signal aborts. */
  async run(id: number, signal?: AbortSignal): Promise<void> {
    const before = this.#turn;
    const turn = before.then(() => this.#step(id, signal));
    this.#turn = turn.catch(() => {});
    return turn;
  }

  async close(): Promise<void> {
    this.#broken ??= new InternalError("wasm threads", "the device is closed", {
      hint: "Close it after the last step.",
    });
    this.#stop(1);
    this.#pending?.reject(this.#broken);
    this.#pending = null;
    await Promise.all(this.#workers.map((worker) => worker.end()));
  }

  async #step(id: number, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    if (this.#broken !== null) throw this.#broken;
    for (const address of [arrivedAddress, counterAddress, stopAddress, sleepersAddress, finishedAddress]) {
      Atomics.store(this.#memory, address / 4, 0);
    }
    this.#failure = null;
    const abort = () => this.#stop(2);
    signal?.addEventListener("abort", abort, { once: true });
    for (const worker of this.#workers) worker.hold(true);
    try {
      await new Promise<void>((resolve, reject) => {
        this.#pending = { resolve, reject };
        this.#command(id);
      });
    } finally {
      for (const worker of this.#workers) worker.hold(false);
      signal?.removeEventListener("abort", abort);
    }
    if (this.#failure !== null) throw this.#failure;
    if (Atomics.load(this.#memory, cells.stop) === 2) throw signal?.reason;
  }

  /** Tells all threads what to do next. */
  #command(program: number): number {
    Atomics.store(this.#memory, cells.program, program);
    const seen = Atomics.add(this.#memory, cells.command, 1) + 1;
    Atomics.notify(this.#memory, cells.command);
    return seen;
  }

  #stop(why: number): void {
    Atomics.compareExchange(this.#memory, cells.stop, 0, why);
    Atomics.notify(this.#memory, cells.generation);
  }

  #hear(message: FromThread): void {
    if (message.kind === "failed") {
      this.#failure ??= new InternalError(`wasm thread ${message.thread}`, `a kernel failed: ${message.message}`);
      return;
    }
    const pending = this.#pending;
    this.#pending = null;
    pending?.resolve();
  }

  #lose(thread: number, why: string): void {
    if (this.#broken !== null) return;
    this.#broken = new CompilerError("internal", `wasm thread ${thread}`, `the worker ended: ${why}`, {
      hint: "The device cannot go on; load the model again.",
    });
    this.#stop(1);
    this.#pending?.reject(this.#broken);
    this.#pending = null;
  }
}

/**
 * Starts a worker thread of Node, or a Web Worker where there is no Node: from a blob, since then it does not matter
 * where a bundler has put this file, or from `url`, a module that calls `serveThread` in workers of this name.
 */
export function startWorker({ message, gone }: ThreadEvents, url?: string): Thread {
  if (typeof process !== "undefined" && typeof process.getBuiltinModule === "function") {
    const { Worker } = process.getBuiltinModule("node:worker_threads");
    const worker = new Worker(workerSource, { eval: true, name: threadName });
    worker.on("message", message);
    worker.on("error", (error) => gone(error instanceof Error ? error.message : String(error)));
    worker.on("exit", (code) => gone(`exit code ${code}`));
    return {
      post: (each) => worker.postMessage(each),
      hold: (alive) => (alive ? worker.ref() : worker.unref()),
      end: () => worker.terminate(),
    };
  }
  const worker = url === undefined ? blobWorker() : new Worker(url, { type: "module", name: threadName });
  worker.onmessage = (event: MessageEvent<FromThread>) => message(event.data);
  // A worker that could not be loaded, or that a content security policy forbids, gives an event without a message.
  worker.onerror = (event) => gone(event.message || "it could not be loaded");
  return { post: (each) => worker.postMessage(each), hold: () => {}, end: async () => worker.terminate() };
}

function blobWorker(): Worker {
  const url = URL.createObjectURL(new Blob([workerSource], { type: "text/javascript" }));
  const worker = new Worker(url, { name: threadName });
  URL.revokeObjectURL(url);
  return worker;
}
