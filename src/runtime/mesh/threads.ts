/** Threads of ranks under Node, whose modules are reached through the process, so that a browser bundle imports none. */
import { UnsupportedError } from "../../ir/errors.ts";
import type { FromRank, RankStart, ToRank } from "./messages.ts";

export interface RankThread {
  readonly post: (message: ToRank) => void;
  /** Whether the thread keeps the process alive. */
  readonly hold: (alive: boolean) => void;
  /** Ends it, in the middle of whatever it does. */
  readonly end: () => Promise<unknown>;
  /** When it has ended. */
  readonly gone: Promise<unknown>;
}

/** What a thread tells: its messages, and that it is gone. */
export interface RankEvents {
  readonly message: (message: FromRank) => void;
  readonly gone: (why: string) => void;
}

export function startRankThread(start: RankStart, { message, gone }: RankEvents): RankThread {
  const { Worker } = workerThreads();
  // Run from its source or as it was built.
  const file = import.meta.url.endsWith(".ts") ? "./rank-thread.ts" : "./rank-thread.js";
  const worker = new Worker(new URL(file, import.meta.url), { workerData: start, name: `ciuic rank ${start.rank}` });
  worker.on("message", message);
  worker.on("error", (error) => gone(error instanceof Error ? error.message : String(error)));
  worker.on("exit", (code) => gone(`exit code ${code}`));
  return {
    post: (each) => worker.postMessage(each),
    hold: (alive) => (alive ? worker.ref() : worker.unref()),
    end: () => worker.terminate(),
    gone: new Promise((resolve) => worker.once("exit", resolve)),
  };
}

/** In a rank's thread: what it was started with, and the way back. */
export interface RankPort {
  readonly start: RankStart;
  readonly listen: (hear: (message: ToRank) => void) => void;
  readonly post: (message: FromRank, transfer?: readonly ArrayBuffer[]) => void;
  readonly close: () => void;
}

export function rankPort(): RankPort {
  const { parentPort, workerData } = workerThreads();
  if (parentPort === null) throw new UnsupportedError("rank thread", "expected to run in a thread of a mesh");
  return {
    start: workerData as RankStart, // what `startRankThread` gave
    listen: (hear) => parentPort.on("message", hear),
    post: (message, transfer = []) => parentPort.postMessage(message, transfer),
    close: () => parentPort.close(),
  };
}

function workerThreads() {
  if (typeof process === "undefined" || typeof process.getBuiltinModule !== "function") {
    throw new UnsupportedError("mesh", "devices that are threads need Node");
  }
  return process.getBuiltinModule("node:worker_threads");
}
