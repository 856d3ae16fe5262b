/** The golden models on this GPU: logits against transformers' (in one prefill, in chunks, token by token) and greedy tokens. */

import { loadModel } from "../../src/runtime/load-model.ts";
import { scoreTokens } from "../../src/runtime/quality/score.ts";
import { goldenNames, readSafetensors } from "../../test/models/read-golden.ts";
import { beside, gpuFlags, type Mode, openBenchGpu } from "./mode.ts";

export const goldensMode: Mode = {
  name: "goldens",
  does: "every golden model's logits and greedy tokens",
  flags: ["goldens", "only", ...gpuFlags],
  run: async (flags) => {
    const { gpu } = await openBenchGpu(flags);
    return (await compareGoldens(gpu, flags.goldens ?? `${beside}goldens`, flags.only?.split(",") ?? null)) === 0;
  },
};

/** As in the tests of the other backends: room for other orders of addition in f32. */
const tolerance = 1e-4;

/** Prints a line for each; how many are wrong. */
async function compareGoldens(gpu: GPU, folder: string, only: readonly string[] | null): Promise<number> {
  let wrong = 0;
  for (const name of goldenNames) {
    if (only !== null && !only.includes(name)) continue;
    const start = performance.now();
    let line: string;
    try {
      const problems = await compareGolden(gpu, `${folder}/${name}`);
      if (problems.wrong) wrong++;
      line = `${problems.wrong ? "WRONG" : "right"}  ${problems.text}`;
    } catch (error) {
      wrong++;
      line = `FAILED  ${error instanceof Error ? error.message : String(error)}`;
    }
    console.log(`${name.padEnd(14)} ${line}  (${((performance.now() - start) / 1000).toFixed(1)} s)`);
  }
  console.log(wrong === 0 ? "all goldens are right" : `${wrong} goldens are wrong`);
  return wrong;
}

async function compareGolden(gpu: GPU, folder: string): Promise<{ wrong: boolean; text: string }> {
  const golden = readSafetensors(`${folder}/golden.safetensors`);
  const numbers = (tensor: string) => golden.get(tensor)!.data; // every golden has these
  const ids = [...numbers("input_ids")];
  const [first, second] = [ids.slice(0, 40), ids.slice(40)];
  const logits = numbers("logits");
  const model = await loadModel(folder, { backend: "webgpu", gpu, contextLength: 128 });
  try {
    const size = 40 * model.config.vocab_size;
    const runs = [
      largestDifference(await model.logits(first), logits.subarray(0, size)),
      largestDifference(await model.logits(second), logits.subarray(size, 2 * size)),
    ];
    for (const chunk of [7, 1]) {
      runs.push(largestDifference(await scoreTokens(model.runner.single(), first, chunk), logits.subarray(0, size)));
    }
    const options = { maxTokens: 28, temperature: 0, ignoreEos: true };
    const { result } = await model.generate(first.slice(0, 12), options).collect();
    const greedy = [...first.slice(0, 12), ...result.tokens];
    const same = [...numbers("greedy")].every((id, i) => id === greedy[i]);
    const quantized = await compareQuantized(gpu, folder, first);
    const differences = runs.map((most) => most.toExponential(1)).join(" ");
    return {
      // Written so that NaN is wrong.
      wrong: !(same && runs.every((most) => most < tolerance) && quantized < mostOfQuantized),
      text: `logits differ by ${differences}; greedy tokens ${same ? "equal" : "DIFFER"}; at int4 ${quantized.toExponential(1)} of the largest beside WebAssembly's`,
    };
  } finally {
    await model.close();
  }
}

/** An input that lies between two codes may get either of them, here and there. */
const mostOfQuantized = 0.02;

/** How far logits at int4 are from WebAssembly's, token by token, as a part of the largest. */
async function compareQuantized(gpu: GPU, folder: string, ids: readonly number[]): Promise<number> {
  const quantize = { weights: "int4", activations: "int8" } as const;
  const found: Float32Array[] = [];
  for (const options of [{ backend: "webgpu", gpu } as const, { backend: "wasm" } as const]) {
    const model = await loadModel(folder, { ...options, quantize, contextLength: 128 });
    try {
      found.push(await scoreTokens(model.runner.single(), ids.slice(0, 16), 1));
    } finally {
      await model.close();
    }
  }
  const [ours, theirs] = found as [Float32Array, Float32Array]; // of two
  return largestDifference(ours, theirs) / theirs.reduce((most, each) => Math.max(most, Math.abs(each)), 0);
}

function largestDifference(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (actual.length !== expected.length) return Number.NaN;
  let most = 0;
  for (let i = 0; i < actual.length; i++) {
    const difference = Math.abs(actual[i]! - expected[i]!);
    if (!(difference <= most)) most = difference;
  }
  return most;
}
