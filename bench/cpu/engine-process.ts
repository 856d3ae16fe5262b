/** The parent's side of a candidate's process. */
import { type ChildProcess, fork } from "node:child_process";
import type { Spec } from "./candidates/candidate.ts";
import type { Answer, Request } from "./child.ts";
import type { OpSpec } from "./ops/op-runner.ts";

export interface Sample {
  readonly ms: number;
  /** The longest wait of one of its threads for a processor. */
  readonly delayMs: number;
  readonly value: unknown;
}

export interface EngineProcess {
  readonly loaded: Sample;
  readonly ask: (request: Exclude<Request, { do: "close" }>) => Promise<Sample>;
  readonly close: () => Promise<void>;
}

/** Starts a process of this same program that loads the candidate. Rejects with its message if it cannot. */
export async function startEngine(spec: Spec | OpSpec): Promise<EngineProcess> {
  const child = fork(process.argv[1]!, ["--child", JSON.stringify(spec)], {
    stdio: ["ignore", "ignore", "pipe", "ipc"],
  });
  const errors: Buffer[] = [];
  child.stderr?.on("data", (data: Buffer) => {
    errors.push(data);
    if (errors.length > 100) errors.shift();
  });
  const ended = new Promise<number | null>((resolve) => child.once("exit", resolve));
  const next = () => nextAnswer(child, ended, errors);
  const loaded = await next();
  const ask = (request: Request): Promise<Sample> => {
    child.send(request);
    return next();
  };
  const close = async () => {
    child.send({ do: "close" } satisfies Request);
    const timer = setTimeout(() => child.kill("SIGKILL"), 5000);
    await ended;
    clearTimeout(timer);
  };
  return { loaded, ask, close };
}

async function nextAnswer(
  child: ChildProcess,
  ended: Promise<number | null>,
  errors: readonly Buffer[],
): Promise<Sample> {
  // What `serve` sends.
  const answer = await Promise.race([
    new Promise<Answer>((resolve) => child.once("message", (message) => resolve(message as Answer))),
    ended.then(
      (code): Answer => ({
        ok: false,
        message: `ended with ${code}: ${Buffer.concat(errors).toString().slice(-2000)}`,
      }),
    ),
  ]);
  if (!answer.ok) throw new Error(answer.message);
  return answer;
}
