/** A candidate's process: loads one engine, then answers the parent's requests, one at a time. */
import type { Runner, Spec } from "./candidates/candidate.ts";
import { type OpRunner, type OpSpec, openOp } from "./ops/op-runner.ts";
import { delayBetween, peakMemory, runQueueMs } from "./run-queue.ts";

/** From the parent. */
export type Request =
  | { readonly do: "context"; readonly tokens: number }
  | { readonly do: "decode"; readonly context: number; readonly count: number }
  | { readonly do: "prefill"; readonly count: number }
  | { readonly do: "greedy"; readonly context: number; readonly count: number }
  | { readonly do: "op" }
  | { readonly do: "memory" }
  | { readonly do: "close" };

/** To the parent. */
export type Answer =
  | { readonly ok: true; readonly ms: number; readonly delayMs: number; readonly value: unknown }
  | { readonly ok: false; readonly message: string };

/** What loading tells. */
export interface Loaded {
  readonly info: string;
}

export async function serve(spec: Spec | OpSpec): Promise<void> {
  const send = (answer: Answer) => process.send?.(answer);
  // Before loading, which takes long: a parent that is stopped leaves no process behind.
  process.on("disconnect", () => process.exit(0));
  const runner = await timed(() => open(spec), send);
  if (runner === null) return process.exit(1);
  process.on("message", async (request: Request) => {
    if (request.do === "close") {
      await runner.close();
      process.exit(0);
    }
    await timed(() => answer(runner, request), send);
  });
}

/** Engines are loaded when asked for, so that a process holds one only and a missing one harms no other. */
async function open(spec: Spec | OpSpec): Promise<Runner | OpRunner> {
  if (spec.engine === "ciuic") return (await import("./candidates/ciuic.ts")).openCiuic(spec);
  if (spec.engine === "op") return openOp(spec);
  if (spec.engine === "llama") return (await import("./candidates/llama.ts")).openLlama(spec);
  return (await import("./candidates/wllama.ts")).openWllama(spec);
}

async function answer(runner: Runner | OpRunner, request: Exclude<Request, { do: "close" }>): Promise<unknown> {
  if (request.do === "memory") return runner.peakMemory?.() ?? peakMemory();
  if ("run" in runner) return repeated(runner);
  switch (request.do) {
    case "context":
      return runner.context(request.tokens);
    case "decode":
      return runner.decode(request.context, request.count);
    case "prefill":
      return runner.prefill(request.count);
    case "greedy":
      return runner.greedy?.(request.context, request.count) ?? null;
    case "op":
      throw new Error("a model has no single op");
  }
}

/**
 * As steps of an answer follow each other, so do the runs of a sample: after a pause the system may put both threads that
 * wake up on one core for tens of milliseconds, which a single run is too short to get over.
 */
const leastMs = 100;

async function repeated(runner: OpRunner): Promise<{ ms: number; runs: number }> {
  const start = performance.now();
  let runs = 0;
  do {
    await runner.run();
    runs++;
  } while (performance.now() - start < leastMs);
  return { ms: (performance.now() - start) / runs, runs };
}

/** Runs the task, tells the parent how long it took and what it gave; null if it threw. */
async function timed<T>(task: () => Promise<T>, send: (answer: Answer) => void): Promise<T | null> {
  const queue = runQueueMs();
  const start = performance.now();
  try {
    const result = await task();
    const ms = performance.now() - start;
    const delayMs = delayBetween(queue, runQueueMs());
    // A runner has `info`; some know their own time.
    const known = (result ?? {}) as { info?: string; ms?: number; runs?: number };
    const value = known.info ?? result ?? null;
    send({ ok: true, ms: known.ms ?? ms, delayMs: delayMs / (known.runs ?? 1), value });
    return result;
  } catch (error) {
    send({ ok: false, message: error instanceof Error ? `${error.message}` : String(error) });
    return null;
  }
}
