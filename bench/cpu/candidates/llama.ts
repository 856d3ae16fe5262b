/**
 * llama.cpp through the native addon of node-llama-cpp, called directly: a step is one `llama_decode` on a thread of its
 * own, with none of the JavaScript that the package adds (which costs a tenth).
 */
import { mkdtempSync, readdirSync, symlinkSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promptIds, type Runner, type Spec } from "./candidate.ts";

/** What is used of the addon. */
interface Addon {
  setLogger(log: (level: number, text: string) => void): void;
  setLoggerLogLevel(level: number): void;
  loadBackends(folder?: string): void;
  init(): Promise<void>;
  systemInfo(): string;
  readonly AddonModel: new (path: string, options: object) => AddonModel;
  readonly AddonContext: new (model: AddonModel, options: object) => AddonContext;
  readonly AddonSampler: new (model: AddonModel) => AddonSampler;
}
interface AddonModel {
  init(): Promise<boolean>;
}
interface AddonSampler {
  applyConfig(config: object): void;
}
interface AddonContext {
  init(): Promise<boolean>;
  initBatch(size: number): void;
  addToBatch(sequence: number, start: number, tokens: Uint32Array, wanted: Uint32Array): Uint32Array;
  decodeBatch(): Promise<void>;
  removeTokenCellsFromSequence(sequence: number, start: number, end: number): boolean;
  sampleToken(index: number, sampler: AddonSampler): Promise<number>;
}

type LlamaSpec = Extract<Spec, { engine: "llama" }>;

/** Where the addon and its libraries lie; the bundles have the same place. */
function llamaFolder(variant = "linux-x64"): string {
  return fileURLToPath(new URL(`../node_modules/@node-llama-cpp/${variant}/bins/${variant}`, import.meta.url));
}

/** The builds of the CPU kernels that are there, e.g. `zen4`. */
export function llamaBuilds(): string[] {
  return readdirSync(llamaFolder()).flatMap((file) => /^libggml-cpu-(\w+)\.so$/.exec(file)?.[1] ?? []);
}

export async function openLlama({ file, threads, build, batch, gpu }: LlamaSpec): Promise<Runner> {
  const folder = llamaFolder(gpu ? "linux-x64-vulkan" : undefined);
  // The addon has no types of its own; `Addon` is what its registration exports.
  const addon = createRequire(import.meta.url)(join(folder, "llama-addon.node")) as Addon;
  const lines: string[] = [];
  addon.setLogger((_, text) => lines.push(text));
  addon.setLoggerLogLevel(6);
  addon.loadBackends();
  addon.loadBackends(build === null ? folder : onlyBuild(folder, build));
  await addon.init();
  const model = new addon.AddonModel(file, { gpuLayers: gpu ? 999 : 0, useMmap: true });
  if (!(await model.init())) throw new Error(`llama.cpp does not load ${file}:\n${lines.slice(-20).join("")}`);
  const context = new addon.AddonContext(model, { contextSize: 2048, batchSize: batch, sequences: 1, threads });
  if (!(await context.init())) throw new Error(`llama.cpp makes no context:\n${lines.slice(-20).join("")}`);
  const cut = (from: number) => context.removeTokenCellsFromSequence(0, from, -1);

  const run = async (start: number, ids: Int32Array): Promise<number> => {
    let last = 0;
    for (let at = 0; at < ids.length; at += batch) {
      const part = Uint32Array.from(ids.subarray(at, at + batch));
      context.initBatch(part.length);
      const wanted = at + part.length === ids.length ? Uint32Array.of(part.length - 1) : new Uint32Array();
      last = context.addToBatch(0, start + at, part, wanted)[0] ?? last;
      await context.decodeBatch();
    }
    return last;
  };
  const decode = async (at: number, count: number): Promise<number> => {
    cut(at);
    const ids = promptIds(at + count);
    for (let i = 0; i < count; i++) await run(at + i, ids.subarray(at + i, at + i + 1));
    return count;
  };
  const prefill = async (count: number): Promise<number> => {
    cut(0);
    return run(0, promptIds(count));
  };
  const greedy = async (tokens: number, count: number): Promise<number[]> => {
    const sampler = new addon.AddonSampler(model);
    sampler.applyConfig({ temperature: 0 });
    let last = await prefill(tokens);
    const ids: number[] = [];
    for (let i = 0; i < count; i++) {
      const id = await context.sampleToken(last, sampler);
      ids.push(id);
      last = await run(tokens + i, Int32Array.of(id));
    }
    return ids;
  };
  return {
    info: addon.systemInfo().replaceAll(/\s+/g, " ").trim() + chosenBuild(lines),
    context: async (tokens) => void (await prefill(tokens)),
    decode,
    prefill,
    greedy,
    // The process ends; freeing gigabytes first would only take time.
    close: async () => {},
  };
}

/** A folder in which llama.cpp finds one build of its CPU kernels. */
function onlyBuild(folder: string, build: string): string {
  const own = mkdtempSync(join(tmpdir(), "bench-llama-"));
  const name = `libggml-cpu-${build}.so`;
  symlinkSync(join(folder, name), join(own, name));
  return own;
}

/** The build that the log says was loaded, and which buffers hold the weights. */
function chosenBuild(lines: readonly string[]): string {
  const text = lines.join("");
  const build = /libggml-cpu-(\w+)\.so/.exec(text)?.[1] ?? "?";
  const buffers = [...text.matchAll(/(\w+) model buffer size/g)].map((match) => match[1]);
  return ` build ${build}, buffers ${[...new Set(buffers)].join(" ")}`;
}
