/** Takes short samples of all candidates of a group in turns, and says which were disturbed. */
import type { Request } from "./child.ts";
import type { EngineProcess, Sample } from "./engine-process.ts";

export interface Task {
  readonly name: string;
  readonly request: Extract<Request, { do: "decode" | "prefill" | "op" }>;
  /** Tokens of a sample, or ops. */
  readonly tokens: number;
  /** Tokens in the cache before the first sample; null where the sample begins with none. */
  readonly context: number | null;
  readonly rounds: number;
  /** Samples before those that count: so many, and until so many milliseconds have passed. */
  readonly warmUps: number;
  readonly warmUpMs?: number;
}

export interface Measured {
  /** Tokens per second: the median and the best of clean samples, or of all where fewer than two are clean. */
  readonly median: number;
  readonly best: number;
  readonly clean: number;
  readonly samples: number;
}

/** A sample is clean if none of its threads waited longer than this part of it for a processor. */
const mostDelay = 0.03;
const attempts = 3;

/** Warm-ups, then rounds in which every candidate is sampled once, the order turned by one each round. */
export async function measure(engines: readonly EngineProcess[], task: Task): Promise<Measured[]> {
  const samples: Sample[][] = engines.map(() => []);
  for (const engine of engines) {
    if (task.context !== null) await engine.ask({ do: "context", tokens: task.context });
    const start = performance.now();
    for (let i = 0; i < task.warmUps || performance.now() - start < (task.warmUpMs ?? 0); i++) {
      await engine.ask(task.request);
    }
  }
  for (let round = 0; round < task.rounds; round++) {
    for (let turn = 0; turn < engines.length; turn++) {
      const i = (turn + round) % engines.length;
      for (let attempt = 0; attempt < attempts; attempt++) {
        const sample = await engines[i]!.ask(task.request);
        samples[i]!.push(sample);
        if (isClean(sample)) break;
      }
    }
  }
  return samples.map((all) => summary(all, task.tokens));
}

export function isClean({ ms, delayMs }: Sample): boolean {
  return delayMs <= mostDelay * ms;
}

function summary(all: readonly Sample[], tokens: number): Measured {
  const clean = all.filter(isClean);
  const rates = (clean.length < 2 ? all : clean).map(({ ms }) => (1000 * tokens) / ms).sort((a, b) => a - b);
  const middle = rates.length >> 1;
  const median = rates.length % 2 === 1 ? rates[middle]! : (rates[middle - 1]! + rates[middle]!) / 2;
  return { median, best: rates.at(-1)!, clean: clean.length, samples: all.length };
}
