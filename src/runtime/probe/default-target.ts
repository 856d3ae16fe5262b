/**
 * What `loadModel` computes on when nobody says: what was probed before decides; else a large model is worth a second of
 * measuring, and a small one is not.
 */
import { missingWasm } from "../../compile.ts";
import type { ModelConfig } from "../../models/deepseek/config.ts";
import type { Precision } from "../../plan/model-memory.ts";
import { availableCores, defaultThreads, isSmall } from "../default-threads.ts";
import { type BackendProbe, missingProbe } from "./backend-probe.ts";
import { chooseTarget } from "./choose-target.ts";
import { isNode } from "./node-modules.ts";
import type { TargetChoice, WantedTarget } from "./target-choice.ts";

export interface DefaultTargetOptions extends Omit<WantedTarget, "precisions"> {
  /** How matrices are to be held, as `quantize` says. */
  readonly precision: Precision;
  /** Where packages of TensorFlow.js are, if not beside this one. */
  readonly packageFolder?: string | undefined;
}

/** @throws UnsupportedError where nothing that was asked for runs */
export async function defaultTarget(
  config: ModelConfig,
  { precision, packageFolder, ...wanted }: DefaultTargetOptions,
): Promise<TargetChoice> {
  const probes = await probesFor(config, packageFolder);
  return chooseTarget(config, probes, { ...wanted, precisions: [precision] });
}

async function probesFor(config: ModelConfig, packageFolder: string | undefined): Promise<readonly BackendProbe[]> {
  if (!isNode()) return unmeasured(config);
  // Imported where it can be used, so that a browser bundle can leave it out.
  const { cachedProbe, probe } = await import("./probe.ts");
  const kept = cachedProbe(undefined, packageFolder);
  if (kept !== null) return kept.probes;
  return isSmall(config) ? unmeasured(config) : (await probe({ quick: true, packageFolder })).probes;
}

/** What runs wherever JavaScript does, with as many threads as are good for a model of this size. */
function unmeasured(config: ModelConfig): BackendProbe[] {
  const row = {
    missing: null,
    device: null,
    software: false,
    memory: null,
    buffer: null,
    binding: null,
    features: [],
    figures: null,
  };
  const why = missingWasm();
  const threads = defaultThreads(config, availableCores());
  const wasm: BackendProbe =
    why === null
      ? { ...row, backend: "wasm", label: "WebAssembly", threads, unmeasured: "too small to measure for" }
      : missingProbe("wasm", "WebAssembly", { reason: why, mend: "" });
  return [
    wasm,
    { ...row, backend: "js", label: "JavaScript, one thread", threads: null, unmeasured: "WebAssembly is faster" },
  ];
}
