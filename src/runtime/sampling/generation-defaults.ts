/** Sampling as a model's makers advise it, in `generation_config.json`. */
import type { ModelFolder } from "../weights/byte-source.ts";
import { type JsonValue, parseJsonObject } from "../weights/json.ts";
import type { SamplingOptions } from "./sampling-options.ts";

/** Used where a request does not say. */
export type GenerationDefaults = Pick<SamplingOptions, "temperature" | "topP" | "topK" | "repetitionPenalty">;

const file = "generation_config.json";
const maxBytes = 1_000_000;

/** As Hugging Face: greedy unless `do_sample` is true. Values out of range are left out, since the file is advice. */
export async function readGenerationDefaults(folder: ModelFolder): Promise<GenerationDefaults> {
  if (!(await folder.has(file))) return { temperature: 0 };
  const config = parseJsonObject(await folder.readText(file, maxBytes), file);
  if (config.get("do_sample") !== true) return { temperature: 0 };
  const read = (name: string, fits: (x: number) => boolean) => numberIf(config.get(name), fits);
  return {
    temperature: read("temperature", (x) => x >= 0) ?? 1,
    topP: read("top_p", (x) => x > 0 && x <= 1),
    topK: read("top_k", (x) => Number.isInteger(x) && x >= 1),
    repetitionPenalty: read("repetition_penalty", (x) => x > 0),
  };
}

function numberIf(value: JsonValue | undefined, fits: (x: number) => boolean): number | undefined {
  return typeof value === "number" && Number.isFinite(value) && fits(value) ? value : undefined;
}
