/** Ranks that are threads under Node, whose modules are reached through the process, so that a browser bundle imports none. */
import { UnsupportedError } from "../../ir/errors.ts";
import type { RankEvents, RankHandle } from "./mesh-ranks.ts";
import type { RankStart } from "./messages.ts";
import type { RankPort } from "./serve-rank.ts";
import { type MeshMemory, postedCell } from "./shared-memory.ts";

/** What the links of threads need. */
export interface SharedStart {
  readonly memory: MeshMemory;
  /** How long a rank looks for what it waits for before it sleeps: in an exchange, and for the next command. */
  readonly spinMs: number;
  readonly idleMs: number;
}

export function startRankThread(shared: SharedStart, start: RankStart, { message, gone }: RankEvents): RankHandle {
  const { Worker } = workerThreads();
  // Run from its source or as it was built.
  const file = import.meta.url.endsWith(".ts") ? "./rank-thread.ts" : "./rank-thread.js";
  const worker = new Worker(new URL(file, import.meta.url), {
    workerData: { start, shared },
    name: `ciuic rank ${start.rank}`,
  });
  const [cells, posted] = [new Int32Array(shared.memory.cells), postedCell(shared.memory, start.rank)];
  worker.on("message", message);
  worker.on("error", (error) => gone(`the thread ended: ${error instanceof Error ? error.message : String(error)}`));
  worker.on("exit", (code) => gone(`the thread ended: exit code ${code}`));
  return {
    post: (each) => {
      worker.postMessage(each);
      Atomics.add(cells, posted, 1);
    },
    hold: (alive) => (alive ? worker.ref() : worker.unref()),
    end: () => worker.terminate(),
    gone: new Promise((resolve) => worker.once("exit", resolve)),
  };
}

/** In a rank's thread: what it was started with, and the way back. */
export function rankPort(): { readonly port: RankPort; readonly start: RankStart; readonly shared: SharedStart } {
  const { parentPort, workerData } = workerThreads();
  if (parentPort === null) throw new UnsupportedError("rank thread", "expected to run in a thread of a mesh");
  const { start, shared } = workerData as { start: RankStart; shared: SharedStart }; // what `startRankThread` gave
  const port: RankPort = {
    listen: (hear) => parentPort.on("message", hear),
    post: (message, transfer = []) => parentPort.postMessage(message, transfer),
    close: () => parentPort.close(),
  };
  return { port, start, shared };
}

function workerThreads() {
  if (typeof process === "undefined" || typeof process.getBuiltinModule !== "function") {
    throw new UnsupportedError("mesh", "devices that are threads need Node");
  }
  return process.getBuiltinModule("node:worker_threads");
}
