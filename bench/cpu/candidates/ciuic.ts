/** ciuic on WebAssembly, loaded from a Hugging Face folder in bf16 as a user loads it, driven step by step. */
import { loadModel } from "../../../src/runtime/load-model.ts";
import type { ModelRunner } from "../../../src/runtime/steps/model-runner.ts";
import { promptIds, type Runner, type Spec } from "./candidate.ts";

const contextLength = 2048;

export async function openCiuic(spec: Extract<Spec, { engine: "ciuic" }>): Promise<Runner> {
  const { folder, threads, batch, quantize, disabledPasses } = spec;
  const model = await loadModel(folder, {
    backend: "wasm",
    threads,
    contextLength,
    maxSequences: 1,
    maxBatchTokens: batch,
    compile: { disabledPasses },
    // The parent's table of variants holds only options of `loadModel`, which checks them.
    ...(quantize !== null && {
      quantize: quantize as unknown as NonNullable<Parameters<typeof loadModel>[1]>["quantize"],
    }),
  });
  const runner = model.runner as ModelRunner; // what every backend but the interpreter has
  const blockTable = Int32Array.from({ length: contextLength / runner.sizes.blockSize }, (_, i) => i);

  const run = async (start: number, ids: Int32Array): Promise<Float32Array> => {
    let logits: Float32Array = new Float32Array();
    for (let at = 0; at < ids.length; at += batch) {
      const tokens = ids.subarray(at, at + batch);
      const positions = Int32Array.from(tokens, (_, i) => start + at + i);
      logits = await runner.step({
        tokens,
        positions,
        sequence: new Int32Array(tokens.length),
        slots: positions,
        // As the scheduler does: blocks as the sequence needs them.
        blockTables: [blockTable.subarray(0, Math.ceil((positions.at(-1)! + 1) / runner.sizes.blockSize))],
        outputs: at + tokens.length === ids.length ? Int32Array.of(tokens.length - 1) : new Int32Array(),
      });
    }
    return logits;
  };
  const decode = async (at: number, count: number): Promise<number> => {
    const ids = promptIds(at + count);
    let sum = 0;
    for (let i = 0; i < count; i++) sum += (await run(at + i, ids.subarray(at + i, at + i + 1)))[0]!;
    return sum;
  };
  const prefill = async (count: number): Promise<number> => (await run(0, promptIds(count)))[0]!;
  const greedy = async (tokens: number, count: number): Promise<number[]> => {
    let logits = await run(0, promptIds(tokens));
    const ids: number[] = [];
    for (let i = 0; i < count; i++) {
      ids.push(mostLikely(logits));
      logits = await run(tokens + i, Int32Array.of(ids[i]!));
    }
    return ids;
  };
  return {
    info: `${model.device?.summary}; weights ${megabytes(model.memory.weights)}, caches ${megabytes(model.memory.caches)}`,
    context: async (tokens) => void (await prefill(tokens)),
    decode,
    prefill,
    greedy,
    close: () => model.close(),
  };
}

function mostLikely(logits: Float32Array): number {
  let best = 0;
  for (let i = 1; i < logits.length; i++) if (logits[i]! > logits[best]!) best = i;
  return best;
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(0)} MB`;
}
