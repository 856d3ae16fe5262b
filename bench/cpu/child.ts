/** A candidate's process: loads one engine, then answers the parent's requests, one at a time. */
import type { Runner, Spec } from "./candidates/candidate.ts";
import { delayBetween, peakMemory, runQueueMs } from "./run-queue.ts";

/** From the parent. */
export type Request =
  | { readonly do: "context"; readonly tokens: number }
  | { readonly do: "decode"; readonly context: number; readonly count: number }
  | { readonly do: "prefill"; readonly count: number }
  | { readonly do: "greedy"; readonly context: number; readonly count: number }
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

export async function serve(spec: Spec): Promise<void> {
  const send = (answer: Answer) => process.send?.(answer);
  const runner = await timed(() => open(spec), send);
  if (runner === null) return process.exit(1);
  process.on("disconnect", () => process.exit(0));
  process.on("message", async (request: Request) => {
    if (request.do === "close") {
      await runner.close();
      process.exit(0);
    }
    await timed(() => answer(runner, request), send);
  });
}

/** Engines are loaded when asked for, so that a process holds one only and a missing one harms no other. */
async function open(spec: Spec): Promise<Runner> {
  if (spec.engine === "ciuic") return (await import("./candidates/ciuic.ts")).openCiuic(spec);
  if (spec.engine === "llama") return (await import("./candidates/llama.ts")).openLlama(spec);
  return (await import("./candidates/wllama.ts")).openWllama(spec);
}

async function answer(runner: Runner, request: Exclude<Request, { do: "close" }>): Promise<unknown> {
  switch (request.do) {
    case "context":
      return runner.context(request.tokens);
    case "decode":
      return runner.decode(request.context, request.count);
    case "prefill":
      return runner.prefill(request.count);
    case "greedy":
      return runner.greedy?.(request.context, request.count) ?? null;
    case "memory":
      return peakMemory();
  }
}

/** Runs the task, tells the parent how long it took and what it gave; null if it threw. */
async function timed<T>(task: () => Promise<T>, send: (answer: Answer) => void): Promise<T | null> {
  const queue = runQueueMs();
  const start = performance.now();
  try {
    const result = await task();
    const ms = performance.now() - start;
    const delayMs = delayBetween(queue, runQueueMs());
    const info = (result as { info?: string } | undefined)?.info; // a runner has it
    send({ ok: true, ms, delayMs, value: info === undefined ? (result ?? null) : info });
    return result;
  } catch (error) {
    send({ ok: false, message: error instanceof Error ? `${error.message}` : String(error) });
    return null;
  }
}
