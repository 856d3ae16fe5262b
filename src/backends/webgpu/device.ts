/** The WebGPU backend: kernels as WGSL on a device of `navigator.gpu`, or of the `webgpu` package under Node. */
import { UnsupportedError } from "../../ir/errors.ts";
import { checkRunnable } from "../../ir/kernel/runnable.ts";
import { webgpuTarget, webgpuTargetOf } from "../../ir/target.ts";
import { showType } from "../../ir/types.ts";
import type { Backend, Device, DeviceOptions } from "../backend.ts";
import { makeContext, requestGpuDevice } from "./context.ts";
import { emitKernel } from "./emit.ts";
import { matrixUnitsOf } from "./matrix-units.ts";
import { GpuMemory } from "./memory.ts";
import { Shaders } from "./pipelines.ts";
import { loadProgram } from "./program.ts";

export const webgpuBackend: Backend = {
  target: webgpuTarget,
  emit: ({ kernels }) => kernels.map((kernel) => emitKernel(kernel).source),
  prepare: async (options) => ({
    ...options,
    gpuDevice: options.gpuDevice ?? (await requestGpuDevice(gpuOf(options), options.matrixUnits)),
  }),
  open: openDevice,
};

function gpuOf({ gpu }: DeviceOptions): GPU | undefined {
  // Not every runtime has a navigator, and not every navigator a GPU.
  return gpu ?? (globalThis.navigator as { readonly gpu?: GPU } | undefined)?.gpu;
}

function openDevice({ gpuDevice }: DeviceOptions = {}): Device {
  if (gpuDevice === undefined) {
    throw new UnsupportedError("webgpu", "a GPU device is asked for asynchronously", {
      hint: 'Use: const device = await prepareDevice("webgpu"); compile(module, device).',
    });
  }
  const context = makeContext(gpuDevice);
  const memory = new GpuMemory(context);
  const units = matrixUnitsOf(gpuDevice);
  const shaders = new Shaders(gpuDevice, context.watch);
  return {
    // Changes with its variants.
    get target() {
      return webgpuTargetOf(context.limits);
    },
    queues: true,
    variants: context.variants,
    summary: `WebGPU, ${adapterName(gpuDevice)}${units === null ? "" : `; ${units.text}`}`,
    allocate: (type, use = "shared") => memory.tensor(type, use === "resident"),
    hold: (_, data) => memory.hold(data),
    fill: (type) => memory.fill(type, () => `a weight ${showType(type)}`),
    free: (data) => memory.free(data),
    load: (plan) => {
      plan.kernels.forEach(checkRunnable);
      return loadProgram(context, memory, shaders, plan);
    },
    heldBytes: () => memory.bytes,
    close: () => {
      memory.close();
      gpuDevice.destroy();
    },
  };
}

function adapterName({ adapterInfo }: GPUDevice): string {
  const { description, vendor, architecture } = adapterInfo;
  return description || [vendor, architecture].filter((part) => part !== "").join(" ") || "a GPU without a name";
}
