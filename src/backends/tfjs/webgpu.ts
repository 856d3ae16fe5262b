/** TensorFlow.js's WebGPU backend on a GPU device of ours: a backend instance of its own under a name of its own. */
import { UnsupportedError } from "../../ir/errors.ts";
import { initializeBackend } from "./current.ts";
import type { Tf, TfBackend } from "./tf.ts";

type WebGpuBackend = new (device: GPUDevice, info?: GPUAdapterInfo) => TfBackend;

export interface OpenedWebGpu {
  /** The name under which the backend is registered. */
  readonly name: string;
  readonly summary: string;
  readonly close: () => void;
}

/** Names in use, and those whose kernels are registered, which lasts as long as the process. */
const open = new Set<string>();
const known = new Set<string>();

export async function openWebGpu(
  tf: Tf,
  exported: Readonly<Record<string, unknown>>,
  gpuDevice: GPUDevice | undefined,
): Promise<OpenedWebGpu> {
  if (gpuDevice === undefined) throw new UnsupportedError("tfjs-webgpu", "there is no GPU device");
  const Made = exported.WebGPUBackend as WebGpuBackend; // a class of the package
  restoreFlags();
  let number = 1;
  while (open.has(`ciuic-webgpu-${number}`)) number++;
  const name = `ciuic-webgpu-${number}`;
  open.add(name);
  if (!known.has(name)) tf.copyRegisteredKernels("webgpu", name);
  known.add(name);
  const { adapterInfo } = gpuDevice;
  tf.registerBackend(name, () => new Made(gpuDevice, adapterInfo), 0);
  await initializeBackend(tf, name);
  return {
    name,
    summary: adapterInfo.description || adapterInfo.vendor || "a GPU without a name",
    close: () => {
      tf.removeBackend(name);
      open.delete(name);
      gpuDevice.destroy();
    },
  };
}

/** The package reads these numbers of the WebGPU specification as globals, which only browsers have. */
function restoreFlags(): void {
  const flags = {
    GPUBufferUsage: {
      MAP_READ: 0x1,
      MAP_WRITE: 0x2,
      COPY_SRC: 0x4,
      COPY_DST: 0x8,
      INDEX: 0x10,
      VERTEX: 0x20,
      UNIFORM: 0x40,
      STORAGE: 0x80,
      INDIRECT: 0x100,
      QUERY_RESOLVE: 0x200,
    },
    GPUMapMode: { READ: 0x1, WRITE: 0x2 },
    GPUShaderStage: { VERTEX: 0x1, FRAGMENT: 0x2, COMPUTE: 0x4 },
    GPUTextureUsage: {
      COPY_SRC: 0x1,
      COPY_DST: 0x2,
      TEXTURE_BINDING: 0x4,
      STORAGE_BINDING: 0x8,
      RENDER_ATTACHMENT: 0x10,
    },
  };
  for (const [name, value] of Object.entries(flags)) {
    if (!Object.hasOwn(globalThis, name)) Object.assign(globalThis, { [name]: value });
  }
}
