/**
 * What a thread runs. `serveThread` is turned into text and started in a Node worker or a Web Worker, so it uses nothing
 * from outside itself. A thread waits in its loop for commands in shared memory, spinning while steps follow each other
 * closely and sleeping otherwise; to read messages it returns to its event loop. Only the first thread must take part in
 * a step (see `sync.ts`); another may miss one.
 */

/** Indices of 32-bit cells. */
export interface ThreadCells {
  readonly command: number;
  readonly program: number;
  readonly ticket: number;
  readonly stop: number;
  readonly next: number;
  readonly limit: number;
  readonly done: number;
}

/** From the pool to a thread. */
export type ToThread =
  | {
      readonly kind: "start";
      readonly memory: WebAssembly.Memory;
      readonly thread: number;
      readonly cells: ThreadCells;
      /** How long to spin for the next command before sleeping. */
      readonly spinMs: number;
    }
  | {
      readonly kind: "load";
      readonly id: number;
      readonly module: WebAssembly.Module;
      readonly entry: string;
      readonly args: readonly (number | bigint)[];
      readonly scratch: number | bigint;
      readonly tickets: number;
    }
  | { readonly kind: "forget"; readonly id: number };

/** From a thread: the step is over, or this thread has failed in it. */
export type FromThread =
  | { readonly kind: "finished" }
  | { readonly kind: "failed"; readonly thread: number; readonly message: string };

/** Where messages come from: a Node parent port or the scope of a Web Worker. */
interface Port {
  postMessage(message: FromThread): void;
  on?(event: "message", handler: (message: ToThread) => void): void;
  onmessage?: ((event: { data: ToThread }) => void) | null;
}

/** The name of workers that are threads. */
export const threadName = "ciuic thread";

export function serveThread(port: Port): void {
  interface Loaded {
    readonly run: () => void;
    readonly tickets: number;
    /** Exported globals. */
    readonly ticket: { value: number };
    readonly holds: { value: number };
  }
  const programs = new Map<number, Loaded>();
  let start: Extract<ToThread, { kind: "start" }> | undefined;
  let cells = new Int32Array(0);
  /** The last command that this thread has obeyed. */
  let seen = 0;
  // Tells the processor that this is a waiting loop, where the engine can.
  const { pause = () => {} } = Atomics as { pause?: () => void };

  const waitForCommand = (): number => {
    const { cells: at, spinMs } = start!;
    const end = performance.now() + spinMs;
    for (let turn = 1; ; turn++) {
      const now = Atomics.load(cells, at.command);
      if (now !== seen) return now;
      if (turn % 1024 === 0 && performance.now() > end) Atomics.wait(cells, at.command, seen);
      pause();
    }
  };

  /** Ends a step in which this thread has trapped: of its own fault, or because it saw that the step must stop. */
  const fail = ({ holds, tickets }: Loaded, first: number, error: unknown): void => {
    const { cells: at, thread } = start!;
    // One that comes late to a step that is over may find the program's memory given back: nothing is wrong.
    const over = ((Atomics.load(cells, at.next) - first - tickets) | 0) >= 0;
    if (thread !== 0 && holds.value === 0 && over) return;
    if (Atomics.compareExchange(cells, at.stop, 0, 1) === 0) {
      port.postMessage({ kind: "failed", thread, message: error instanceof Error ? error.message : String(error) });
    }
    // A chunk that will never be done is over as well.
    if (holds.value !== 0) Atomics.add(cells, at.done, 1);
    holds.value = 0;
    Atomics.notify(cells, at.done);
    if (thread !== 0) return;
    // Nobody takes any more; what others hold they still write.
    const end = (first + tickets) | 0;
    const taken = Atomics.exchange(cells, at.next, end);
    for (;;) {
      const done = Atomics.load(cells, at.done);
      if (done === taken || Atomics.load(cells, at.stop) === 3) break;
      Atomics.wait(cells, at.done, done, 1);
    }
    Atomics.store(cells, at.done, end);
    Atomics.store(cells, at.limit, end);
    Atomics.notify(cells, at.limit);
  };

  /** Runs commands until there are messages to read. */
  const serve = (): void => {
    const { cells: at, thread } = start!;
    for (;;) {
      const command = waitForCommand();
      const id = Atomics.load(cells, at.program);
      const first = Atomics.load(cells, at.ticket);
      // Written while they were read: again.
      if (command % 2 !== 0 || Atomics.load(cells, at.command) !== command) continue;
      const loaded = programs.get(id);
      // The message with an unknown program is still to be read; then the command is looked at again.
      if (id === 0) seen = command;
      if (loaded === undefined) return;
      seen = command;
      loaded.ticket.value = first;
      try {
        loaded.run();
      } catch (error) {
        fail(loaded, first, error);
      }
      if (thread === 0) port.postMessage({ kind: "finished" });
    }
  };

  const receive = (message: ToThread): void => {
    if (message.kind === "start") {
      start = message;
      cells = new Int32Array(message.memory.buffer, 0, 256);
    } else if (message.kind === "forget") programs.delete(message.id);
    else {
      const { id, module, entry, args, scratch, tickets } = message;
      const { memory, thread } = start!;
      const { exports } = new WebAssembly.Instance(module, { env: { memory } });
      // Exported by every program.
      const global = (name: string) => exports[name] as { value: number | bigint };
      global("thread").value = thread;
      global("scratch").value = scratch;
      const step = exports[entry] as (...addresses: readonly (number | bigint)[]) => void;
      const [ticket, holds] = [global("ticket"), global("holds")] as [Loaded["ticket"], Loaded["holds"]];
      programs.set(id, { run: () => step(...args), tickets, ticket, holds });
    }
    serve();
  };
  if (port.on !== undefined) port.on("message", receive);
  else port.onmessage = ({ data }) => receive(data);
}

/** The text that a worker starts with. Some bundlers wrap functions in a call that keeps their names. */
export const workerSource = `const __name = (f) => f;
(${serveThread.toString()})(typeof require === "function" ? require("node:worker_threads").parentPort : self);
`;
