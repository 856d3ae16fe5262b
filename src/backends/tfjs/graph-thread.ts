/** TensorFlow sessions in a thread of their own, under Node. */
import { UnsupportedError } from "../../ir/errors.ts";
import { type GraphHost, once } from "./graph-host.ts";
import type { FromGraphThread, GraphReplies, GraphRequest, GraphThreadStart } from "./graph-messages.ts";

interface Pending {
  readonly resolve: (reply: never) => void;
  readonly reject: (error: unknown) => void;
}

/** Starts the thread and imports the package there. @throws UnsupportedError that says what is missing and how to get it */
export async function startGraphThread(start: GraphThreadStart): Promise<Omit<GraphHost, "summary" | "moves">> {
  if (typeof process === "undefined" || typeof process.getBuiltinModule !== "function") {
    throw new UnsupportedError(start.kind, "TensorFlow graphs need Node");
  }
  const threads = process.getBuiltinModule("node:worker_threads");
  // Run from its source or as it was built.
  const file = import.meta.url.endsWith(".ts") ? "./graph-worker.ts" : "./graph-worker.js";
  const worker = new threads.Worker(new URL(file, import.meta.url), {
    workerData: start,
    name: "ciuic tensorflow",
    // What the thread sets, TensorFlow must see.
    env: threads.SHARE_ENV,
  });
  const pending = new Map<number, Pending>();
  let asked = 0;
  let gone: UnsupportedError | null = null;
  /** Nothing waits for a thread that is idle. */
  const settle = (id: number): Pending | undefined => {
    const each = pending.get(id);
    pending.delete(id);
    if (pending.size === 0) worker.unref();
    return each;
  };
  const lose = (why: string) => {
    gone ??= new UnsupportedError(start.kind, `the thread of TensorFlow has ended: ${why}`);
    for (const id of [...pending.keys()]) settle(id)?.reject(gone);
  };
  worker.on("message", (message: FromGraphThread) => {
    const each = settle(message.id);
    if ("failed" in message) each?.reject(errorOf(start.kind, message.failed));
    else each?.resolve(message.reply as never); // of the kind that was asked for
  });
  worker.on("error", (error) => lose(error instanceof Error ? error.message : String(error)));
  worker.on("exit", (code) => lose(`exit code ${code}`));
  const ask = <A extends GraphRequest["ask"]>(request: Extract<GraphRequest, { ask: A }>): Promise<GraphReplies[A]> => {
    if (gone !== null) return Promise.reject(gone);
    const id = ++asked;
    worker.ref();
    return new Promise((resolve, reject) => {
      pending.set(id, { resolve, reject });
      worker.postMessage({ ...request, id });
    });
  };
  try {
    await ask({ ask: "start" });
  } catch (error) {
    await worker.terminate();
    throw error;
  }
  return {
    open: (model, signatures) => ask({ ask: "open", model, signatures }),
    run: (session, signature, inputs, repeat = once) => ask({ ask: "run", session, signature, inputs, repeat }),
    move: async (from, save, to, restore, names) => void (await ask({ ask: "move", from, save, to, restore, names })),
    drop: async (session) => void (await ask({ ask: "drop", session })),
    close: async () => {
      if (gone !== null) return;
      await ask({ ask: "close" });
      await worker.terminate();
    },
  };
}

function errorOf(kind: string, { where, what, hint }: Extract<FromGraphThread, { failed: object }>["failed"]): Error {
  if (where === null) return new UnsupportedError(kind, `a graph cannot run: ${what}`);
  return new UnsupportedError(where, what, hint === null ? {} : { hint });
}
