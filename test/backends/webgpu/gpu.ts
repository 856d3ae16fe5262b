/** The GPU that tests run on: whatever Vulkan finds, or the software driver that Debian's Chromium brings. */
import { existsSync } from "node:fs";
import { type Device, prepareDevice } from "../../../src/compile.ts";
import { openNodeGpu } from "../../../src/runtime/node-gpu.ts";

const softwareDriver = "/usr/lib/chromium/vk_swiftshader_icd.json";
if (process.env.VK_DRIVER_FILES === undefined && existsSync(softwareDriver)) {
  process.env.VK_DRIVER_FILES = softwareDriver;
}

/** Compiles shaders and checks bindings as every Dawn does, and computes nothing. */
export const nullGpu = await openNodeGpu(["backend=null"]);
export const gpu = await openNodeGpu();
const adapter = await gpu.requestAdapter();
export const hasGpu = adapter !== null;
export const isSoftware = adapter?.info.isFallbackAdapter === true;
if (!hasGpu) {
  console.error(
    "\nNO VULKAN DRIVER: WebGPU's tests of results are skipped. Run scripts/install-gpu-tests.sh as root.\n",
  );
}

export function openGpu(): Promise<Device> {
  return prepareDevice("webgpu", { gpu });
}
