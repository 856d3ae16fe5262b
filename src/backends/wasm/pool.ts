/**
 * The threads of a device. Every thread is a worker, so the calling thread stays free: it starts steps, hears of their
 * end, sees a worker die, and can stop a step in the middle. One step runs at a time; others wait for it.
 */
import { CompilerError, InternalError } from "../../ir/errors.ts";
import { syncCells as cells } from "./sync.ts";
import type { FromThread, ToThread } from "./worker.ts";

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

/** Why a step must stop. */
const stops = { failed: 1, aborted: 2, died: 3 } as const;

/**
 * How long a thread spins for the next step before it sleeps; waking costs about 40 microseconds. Where there are as many
 * threads as cores, one that spins stands in the way of the calling thread, which prepares that step.
 */
const spinMs = { spare: 2, taken: 0.1 } as const;

/** A program for all threads. */
export interface ThreadProgram {
  readonly module: WebAssembly.Module;
  readonly entry: string;
  readonly args: readonly (number | bigint)[];
  /** Where each thread's scratch lies. */
  readonly scratch: (thread: number) => number | bigint;
  /** Tickets of a step (see `sync.ts`). */
  readonly tickets: number;
}

interface Pending {
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

export class ThreadPool {
  readonly threads: number;
  readonly #memory: Int32Array;
  readonly #workers: readonly Thread[];
  /** Tickets of each program, by its number less one. */
  readonly #tickets: number[] = [];
  /** The first ticket of the next step. */
  #ticket = 0;
  #pending: Pending | null = null;
  /** Whether threads have messages to read after the step under way. */
  #unread = false;
  #failure: CompilerError | null = null;
  /** The step is over on the first thread, but the message of the one that failed is still on its way. */
  #over = false;
  /** Why the pool can no longer be used. */
  #broken: CompilerError | null = null;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(
    memory: WebAssembly.Memory,
    threads: number,
    startThread: (events: ThreadEvents) => Thread,
    cores: number = machineCores(),
  ) {
    this.threads = threads;
    this.#memory = new Int32Array(memory.buffer, 0, 256);
    this.#workers = Array.from({ length: threads }, (_, thread) => {
      const worker = startThread({
        message: (message) => this.#hear(message),
        gone: (why) => this.#lose(thread, why),
      });
      worker.post({ kind: "start", memory, thread, cells, spinMs: threads < cores ? spinMs.spare : spinMs.taken });
      worker.hold(false);
      return worker;
    });
  }

  /** Gives every thread an instance of a program; gives its number. */
  load({ module, entry, args, scratch, tickets }: ThreadProgram): number {
    const id = this.#tickets.push(tickets);
    for (const [thread, worker] of this.#workers.entries()) {
      worker.post({ kind: "load", id, module, entry, args, scratch: scratch(thread), tickets });
    }
    this.#letRead();
    return id;
  }

  /** Drops every thread's instance of a program. */
  forget(id: number): void {
    for (const worker of this.#workers) worker.post({ kind: "forget", id });
    this.#letRead();
  }

  /** Runs a program on all threads. Rejects if a thread fails or dies, or when the signal aborts. */
  async run(id: number, signal?: AbortSignal): Promise<void> {
    const turn = this.#turn.then(() => this.#step(id, signal));
    this.#turn = turn.catch(() => {});
    return turn;
  }

  /** Ends all threads, in the middle of a step if there is one. May be called again. */
  async close(): Promise<void> {
    this.#broken ??= new InternalError("wasm threads", "the device is closed", {
      hint: "Close it after the last step.",
    });
    this.#end(this.#broken);
    await Promise.all(this.#workers.map((worker) => worker.end()));
  }

  async #step(id: number, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    if (this.#broken !== null) throw this.#broken;
    Atomics.store(this.#memory, cells.stop, 0);
    this.#failure = null;
    this.#over = false;
    const abort = () => this.#stop(stops.aborted);
    signal?.addEventListener("abort", abort, { once: true });
    for (const worker of this.#workers) worker.hold(true);
    try {
      await new Promise<void>((resolve, reject) => {
        this.#pending = { resolve, reject };
        this.#command(id);
      });
    } finally {
      this.#ticket = (this.#ticket + this.#tickets[id - 1]!) | 0;
      for (const worker of this.#workers) worker.hold(false);
      signal?.removeEventListener("abort", abort);
      if (this.#unread) this.#command(0);
      this.#unread = false;
    }
    if (this.#failure !== null) throw this.#failure;
    if (Atomics.load(this.#memory, cells.stop) === stops.aborted) throw signal?.reason;
  }

  /** Lets threads read their messages; a command that the first thread has not seen yet must not be replaced. */
  #letRead(): void {
    if (this.#pending === null) this.#command(0);
    else this.#unread = true;
  }

  /** Tells all threads what to do next. */
  #command(program: number): void {
    Atomics.add(this.#memory, cells.command, 1);
    Atomics.store(this.#memory, cells.program, program);
    Atomics.store(this.#memory, cells.ticket, this.#ticket);
    Atomics.add(this.#memory, cells.command, 1);
    Atomics.notify(this.#memory, cells.command);
  }

  #stop(why: (typeof stops)[keyof typeof stops]): void {
    if (why === stops.died) Atomics.store(this.#memory, cells.stop, why);
    else Atomics.compareExchange(this.#memory, cells.stop, 0, why);
    Atomics.notify(this.#memory, cells.limit);
    Atomics.notify(this.#memory, cells.done);
  }

  #hear(message: FromThread): void {
    if (message.kind === "failed") {
      this.#failure ??= new InternalError(`wasm thread ${message.thread}`, `a kernel failed: ${message.message}`);
      if (!this.#over) return;
    } else if (this.#failure === null && Atomics.load(this.#memory, cells.stop) === stops.failed) {
      this.#over = true;
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
    this.#end(this.#broken);
  }

  /** Lets the step under way fail, on its threads too. */
  #end(why: CompilerError): void {
    this.#stop(stops.died);
    this.#pending?.reject(why);
    this.#pending = null;
  }
}

/** Both Node and browsers tell. */
function machineCores(): number {
  return typeof navigator === "undefined" ? 1 : (navigator.hardwareConcurrency ?? 1);
}
