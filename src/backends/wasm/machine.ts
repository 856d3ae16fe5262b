/** What the device takes from the system it runs on: workers, and how much memory there is. Under Node or in a browser. */
import type { Thread, ThreadEvents } from "./pool.ts";
import { type FromThread, threadName, workerSource } from "./worker.ts";

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

/** Bytes of memory that this process may have, where that is known: not in browsers. */
export function machineMemory(): number | undefined {
  if (typeof process === "undefined" || typeof process.getBuiltinModule !== "function") return undefined;
  const total = process.getBuiltinModule("node:os").totalmem();
  // A limit of the container; 0 or absurdly large where there is none.
  const limit = process.constrainedMemory();
  return limit > 0 && limit < total ? limit : total;
}
