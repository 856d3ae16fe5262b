/**
 * What a thread runs. `serveThread` is turned into text and started in a Node worker or a Web Worker, so it uses nothing
 * from outside itself. A thread waits in its loop for commands in shared memory, spinning while steps follow each other
 * closely and sleeping otherwise; to read messages it returns to its event loop.
 */

/** Indices of 32-bit cells, and how long to spin. */
export interface ThreadCells {
  readonly command: number;
  readonly program: number;
  readonly stop: number;
  readonly generation: number;
  readonly finished: number;
}

/** From the pool to a thread. `seen` is the last command that is not for it. */
export type ToThread =
  | {
      readonly kind: "start";
      readonly memory: WebAssembly.Memory;
      readonly thread: number;
      readonly threads: number;
      readonly cells: ThreadCells;
      readonly spinMs: number;
      readonly seen: number;
    }
  | {
      readonly kind: "load";
      readonly id: number;
      readonly module: WebAssembly.Module;
      readonly entry: string;
      readonly args: readonly number[];
      readonly scratch: number;
      readonly seen: number;
    }
  | { readonly kind: "forget"; readonly id: number; readonly seen: number };

/** From a thread: the step with this command is over on all threads, or this thread has failed. */
export type FromThread =
  | { readonly kind: "finished"; readonly command: number }
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
  const programs = new Map<number, () => void>();
  let start: Extract<ToThread, { kind: "start" }> | undefined;
  let cells = new Int32Array(0);

  const waitForCommand = (seen: number): number => {
    const { cells: at, spinMs } = start!;
    const end = performance.now() + spinMs;
    for (let turn = 1; ; turn++) {
      const now = Atomics.load(cells, at.command);
      if (now !== seen) return now;
      if (turn % 1024 === 0 && performance.now() > end) Atomics.wait(cells, at.command, seen);
    }
  };

  /** Runs commands until there are messages to read. */
  const serve = (from: number): void => {
    const { cells: at, thread, threads } = start!;
    for (let seen = from; ; ) {
      seen = waitForCommand(seen);
      const id = Atomics.load(cells, at.program);
      const run = programs.get(id);
      // Its message is still to be read, and comes with a number before this command's.
      if (run === undefined) return;
      try {
        run();
      } catch (error) {
        // The first to fail stops the others, which then trap at a barrier.
        if (Atomics.compareExchange(cells, at.stop, 0, 1) === 0) {
          port.postMessage({ kind: "failed", thread, message: error instanceof Error ? error.message : String(error) });
        }
        Atomics.notify(cells, at.generation);
      }
      if (Atomics.add(cells, at.finished, 1) + 1 === threads) port.postMessage({ kind: "finished", command: seen });
    }
  };

  const receive = (message: ToThread): void => {
    if (message.kind === "start") {
      start = message;
      cells = new Int32Array(message.memory.buffer, 0, 256);
    } else if (message.kind === "forget") programs.delete(message.id);
    else {
      const { id, module, entry, args, scratch } = message;
      const { memory, thread, threads } = start!;
      const { exports } = new WebAssembly.Instance(module, { env: { memory } });
      const set = (name: string, value: number) => {
        (exports[name] as WebAssembly.Global).value = value; // exported by every program
      };
      set("thread", thread);
      set("threads", threads);
      set("scratch", scratch | 0);
      const step = exports[entry] as (...addresses: number[]) => void; // as above
      programs.set(id, () => step(...args));
    }
    serve(message.seen);
  };
  if (port.on !== undefined) port.on("message", receive);
  else port.onmessage = ({ data }) => receive(data);
}

/** The text that a worker starts with. Some bundlers wrap functions in a call that keeps their names. */
export const workerSource = `const __name = (f) => f;
(${serveThread.toString()})(typeof require === "function" ? require("node:worker_threads").parentPort : self);
`;
