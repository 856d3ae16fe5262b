/** What each backend may use on this machine: as it was probed, or as far as it is known without measuring. */
import { didYouMean, InputError } from "../../ir/errors.ts";
import type { BackendLimits } from "../../plan/memory-table.ts";
import type { BackendProbe } from "./backend-probe.ts";
import { usableMemory } from "./machine.ts";
import { cachedProbe } from "./probe.ts";

/** TensorFlow and TensorFlow.js, in the order of the table. */
const engines = [
  "tensorflow-gpu",
  "tensorflow",
  "tensorflow-gpu-ops",
  "tensorflow-ops",
  "tfjs-webgpu",
  "tfjs-wasm",
  "tfjs-cpu",
] as const;

/** Those that run whole steps: op by op nothing is fast. */
const graphs: readonly string[] = ["tensorflow-gpu", "tensorflow"];

/** WebGPU guarantees so much for one binding. */
const leastBinding = 128 * 2 ** 20;

export interface GivenLimits {
  /** Limits of a machine that need not exist. */
  readonly memory?: number;
  readonly binding?: number;
  /** Names of backends, or `all`. Default: webgpu, wasm, and what whole steps run on here by what was probed. */
  readonly backends?: readonly string[];
  /** Where packages of TensorFlow.js were, if not beside this one, when backends were probed. */
  readonly packageFolder?: string | undefined;
}

/** @throws InputError for a backend that there is not */
export async function memoryLimits(options: GivenLimits = {}): Promise<BackendLimits[]> {
  const { backends, packageFolder, ...given } = options;
  const probed = cachedProbe(undefined, packageFolder)?.probes.filter(({ missing }) => missing === null) ?? [];
  const all = limitsOfAll(given, probed);
  const names = all.map(({ backend }) => backend);
  for (const name of backends ?? []) {
    if (name === "all" || names.includes(name)) continue;
    const hint = didYouMean(name, ["all", ...names]) ?? `Backends: ${names.join(", ")}, or all.`;
    throw new InputError("plan-memory --backends", `there is no backend ${JSON.stringify(name)}`, { hint });
  }
  if (backends?.includes("all")) return all;
  const likely = ["webgpu", "wasm", ...probed.map(({ backend }) => backend).filter((name) => graphs.includes(name))];
  const shown = backends ?? likely;
  return all.filter(({ backend }) => shown.includes(backend));
}

function limitsOfAll(given: Pick<GivenLimits, "memory" | "binding">, probed: readonly BackendProbe[]): BackendLimits[] {
  const gpu = probed.find(({ backend }) => backend === "webgpu");
  const memory = given.memory ?? usableMemory();
  const webgpu = {
    backend: "webgpu",
    memory: given.memory ?? gpu?.memory ?? null,
    binding: given.binding ?? gpu?.binding ?? leastBinding,
  };
  return [
    webgpu,
    { backend: "wasm", memory, binding: null },
    { backend: "js", memory, binding: null },
    ...engines.map((backend) => {
      const onGpu = backend.startsWith("tensorflow-gpu");
      if (backend === "tfjs-webgpu") return { ...webgpu, backend };
      return { backend, memory: onGpu ? (given.memory ?? null) : memory, binding: null };
    }),
  ];
}
