/**
 * The same shape under llama.cpp's Vulkan backend, from node-llama-cpp's package in bench/cpu: what to compare with. Every
 * token is sampled greedily, since only that waits for the GPU.
 */
import { mkdirSync } from "node:fs";
import { openLlama } from "../cpu/candidates/llama.ts";
import { type GgufFormat, makeGguf } from "../cpu/make/make-models.ts";
import { recordFigures } from "./figures.ts";
import { gpuFlags, type Mode, openBenchGpu, type ShapeOptions, shapeFlags, shapeOptions } from "./mode.ts";

interface LlamaOptions extends ShapeOptions {
  readonly formats: readonly GgufFormat[];
}

export const llamaMode: Mode = {
  name: "llama",
  does: "the same shape under llama.cpp with Vulkan",
  flags: [...shapeFlags, ...gpuFlags],
  run: async (flags) => {
    await openBenchGpu(flags); // says what it is
    await measureLlama({ ...shapeOptions(flags), formats: ["q4_0", "q8_0"] });
    return true;
  },
};

const repetitions = 3;

async function measureLlama(options: LlamaOptions): Promise<void> {
  const { shape, formats, tokens, prefill, context, cache, figures } = options;
  mkdirSync(cache, { recursive: true });
  for (const format of formats) {
    const file = makeGguf(shape, format, cache, console.log);
    const llama = await openLlama({ engine: "llama", file, threads: 8, batch: 512, build: null, gpu: true });
    console.log(`llama.cpp, ${shape.title}, ${format}: ${llama.info}`);
    const seconds = async (prompt: number, count: number) => {
      const start = performance.now();
      await llama.greedy?.(prompt, count);
      return (performance.now() - start) / 1000;
    };
    await seconds(prefill, 2);
    let [decode, prompt] = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY];
    for (let i = 0; i < repetitions; i++) {
      const one = await seconds(context, 1);
      decode = Math.min(decode, ((await seconds(context, 1 + tokens)) - one) / tokens);
      prompt = Math.min(prompt, await seconds(prefill, 1));
    }
    console.log(
      `llama.cpp ${format}: decode ${(1 / decode).toFixed(1)} tokens/s, ${(decode * 1000).toFixed(3)} ms a token`,
    );
    const prefilled = prefill / (prompt - decode);
    console.log(`llama.cpp ${format}: prefill of ${prefill}: ${prefilled.toFixed(1)} tokens/s`);
    recordFigures(figures, { engine: `llama.cpp ${format}`, ours: false, decode: 1 / decode, prefill: prefilled });
  }
}
