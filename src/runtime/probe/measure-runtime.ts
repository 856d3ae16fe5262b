/** What the runtime itself takes for a token: an engine on a runner that computes nothing. */
import { Engine } from "../engine/engine.ts";
import type { StepRunner } from "../steps/step.ts";
import type { Figures } from "./backend-probe.ts";

export type RuntimeFigures = Pick<Figures, "token" | "logit">;

const tokens = 32;
/** Vocabularies of two sizes: what differs goes with the logits that are looked at. */
const [smaller, larger] = [1024, 8192];
/** The first runs are those in which the JavaScript engine optimises. */
const [runs, counted] = [8, 5];

export async function measureRuntime(): Promise<RuntimeFigures> {
  const least = await tokenSeconds(smaller);
  const logit = Math.max(((await tokenSeconds(larger)) - least) / (larger - smaller), 1e-12);
  return { token: Math.max(least - smaller * logit, 1e-9), logit };
}

/** Seconds of a token in the middle of the counted runs. */
async function tokenSeconds(vocabSize: number): Promise<number> {
  const text = { tokenBytes: () => Uint8Array.of(97), isSpecial: () => false };
  const engine = new Engine(idleRunner(vocabSize), { text });
  const times: number[] = [];
  for (let run = 0; run < runs; run++) {
    const options = { maxTokens: tokens, temperature: 0 };
    const { timings } = await engine.add({ prompt: [run], options }).result;
    times.push((timings.decodeMs ?? 0) / (tokens - 1) / 1000);
  }
  await engine.close();
  return times.slice(-counted).toSorted((a, b) => a - b)[counted >> 1]!;
}

function idleRunner(vocabSize: number): StepRunner {
  const logits = new Float32Array(vocabSize);
  const sizes = { vocabSize, blockSize: 16, numBlocks: 8, maxContext: 128, maxBatchTokens: 128, maxSequences: 1 };
  return { sizes, step: async ({ outputs }) => logits.subarray(0, outputs.length * vocabSize) };
}
