/** The page of browser.ts: loads the model at `/model/` in each format, times generations, and sends what to print. */
import { loadModel, type RemoteModel } from "../../src/browser.ts";
import type { QuantizeOptions } from "../../src/compile.ts";
import type { GenerateOptions } from "../../src/runtime/engine/generate.ts";
import { someTokens } from "../../src/runtime/steps/single-batch.ts";
import type { Figures } from "./figures.ts";

const given = new URLSearchParams(location.search);
const [tokens, prefill, context] = [number("tokens"), number("prefill"), number("context")];
/** The first run of a kind compiles its shaders. */
const repetitions = 4;
let runs = 0;

const samplers = {
  greedy: { temperature: 0 },
  "temperature 0.6, top-p 0.95": { temperature: 0.6, topP: 0.95, seed: 1 },
} as const satisfies Record<string, GenerateOptions>;

try {
  for (const format of list("formats")) await measure(format);
  await send("/done");
} catch (error) {
  await print(`FAILED ${error instanceof Error ? error.stack : error}`);
  await send("/failed");
}

async function measure(format: string): Promise<void> {
  const quantize = { weights: format, activations: "int8" } as QuantizeOptions; // its formats are checked by the loader
  const model = await loadModel("/model/", {
    backend: "webgpu",
    storage: "none",
    files: list("files"),
    contextLength: Math.max(prefill, context) + tokens + 16,
    maxBatchTokens: prefill,
    maxSequences: 1,
    ...((format === "int8" || format === "int4") && { quantize }),
  });
  await print(model.backend.summary);
  await print(`${format}: loaded in ${(model.loadMs / 1000).toFixed(1)} s, weights ${model.memory.weights / 1e6} MB`);
  let decode = 0;
  for (const [name, options] of Object.entries(samplers)) {
    const found = await fastest(model, context, 1 + tokens, options, "tokensPerSecond");
    decode ||= found;
    await print(`${format} ${name}: ${found.toFixed(1)} tokens/s, ${(1000 / found).toFixed(3)} ms a token`);
  }
  const read = await fastest(model, prefill, 1, samplers.greedy, "prefillMs");
  await print(`${format}: prefill of ${prefill}, with its first token: ${read.toFixed(1)} tokens/s`);
  const figures: Figures = { engine: `ciuic ${format}, browser`, ours: true, decode, prefill: read };
  await send("/figures", JSON.stringify(figures));
  await model.close();
}

/** Tokens a second, of the prompt or of what follows it. */
async function fastest(
  model: RemoteModel,
  prompt: number,
  maxTokens: number,
  options: GenerateOptions,
  what: "prefillMs" | "tokensPerSecond",
): Promise<number> {
  let most = 0;
  for (let run = 0; run < repetitions; run++) {
    // No prompt begins as another: nothing is shared.
    const ids = someTokens(prompt, model.config.vocab_size).map((id, i) => (i === 0 ? 100 + ++runs : id));
    const { result } = await model.generate(ids, { ...options, maxTokens, ignoreEos: true }).collect();
    const { prefillMs, tokensPerSecond } = result.timings;
    most = Math.max(most, what === "prefillMs" ? (1000 * prompt) / prefillMs! : tokensPerSecond!);
  }
  return most;
}

function list(name: string): string[] {
  return (given.get(name) ?? "").split(",");
}

function number(name: string): number {
  return Number(given.get(name));
}

function print(line: string): Promise<unknown> {
  return send("/line", line);
}

function send(path: string, body = ""): Promise<unknown> {
  return fetch(path, { method: "POST", body });
}
