/** What each backend may use on this machine: as it was probed, or as far as it is known without measuring. */
import type { BackendLimits } from "../../plan/memory-table.ts";
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

/** WebGPU guarantees so much for one binding. */
const leastBinding = 128 * 2 ** 20;

/** @param given limits of a machine that need not exist */
export async function memoryLimits(
  given: { readonly memory?: number; readonly binding?: number } = {},
): Promise<BackendLimits[]> {
  const gpu = cachedProbe()?.probes.find(({ backend, missing }) => backend === "webgpu" && missing === null);
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
