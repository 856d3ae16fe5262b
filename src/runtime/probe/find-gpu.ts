/** The GPU of a probe: given, the browser's, or that of the package `webgpu`. */
import { openNodeGpu } from "../node-gpu.ts";
import type { Missing } from "./backend-probe.ts";
import { gpuName, isSoftwareGpu } from "./gpu-adapter.ts";
import { packageVersion } from "./machine.ts";

export interface FoundGpu {
  readonly gpu: GPU;
  readonly adapter: GPUAdapter;
  readonly name: string;
  readonly software: boolean;
}

const mend = "Install a graphics driver with Vulkan, Metal or Direct3D 12; on Linux libvulkan.so.1 too.";

/** @param where `vulkan`: whether there may be a driver for the package, which complains on stderr where there is none */
export async function findGpu(where: {
  readonly gpu: GPU | null;
  readonly vulkan: boolean;
}): Promise<FoundGpu | Missing> {
  const own = (globalThis.navigator as { readonly gpu?: GPU } | undefined)?.gpu; // not every runtime has a navigator
  const given = where.gpu ?? own;
  if (given === undefined && packageVersion("webgpu") === null) {
    return { reason: "the package webgpu is not installed", mend: "npm install webgpu@0.6.2" };
  }
  if (given === undefined && !where.vulkan) return { reason: "no Vulkan driver is installed", mend };
  const gpu = given ?? (await openNodeGpu());
  const adapter = await gpu.requestAdapter({ powerPreference: "high-performance" });
  if (adapter === null) return { reason: "no GPU adapter was found", mend };
  return { gpu, adapter, name: gpuName(adapter.info), software: isSoftwareGpu(adapter.info) };
}
