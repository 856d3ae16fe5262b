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
  restoreGlobals(gpuDevice);
  let number = 1;
  while (open.has(`ciuic-webgpu-${number}`)) number++;
  const name = `ciuic-webgpu-${number}`;
  open.add(name);
  if (!known.has(name)) tf.copyRegisteredKernels("webgpu", name);
  known.add(name);
  const { adapterInfo } = gpuDevice;
  tf.registerBackend(name, () => withNavigator(() => new Made(gpuDevice, adapterInfo)), 0);
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

/** The package makes a backend only where it sees a browser's `navigator.gpu`, of which it then has no use. */
function withNavigator<R>(make: () => R): R {
  const owner: object = globalThis.navigator ?? globalThis; // not every runtime has a navigator
  const [name, value] = owner === globalThis ? ["navigator", { gpu: {} }] : ["gpu", {}];
  if (name in owner) return make();
  Object.defineProperty(owner, name, { value, configurable: true });
  try {
    return make();
  } finally {
    Reflect.deleteProperty(owner, name);
  }
}

/** What the package reads of the WebGPU specification's globals, which only browsers have. */
function restoreGlobals(device: GPUDevice): void {
  const buffer = device.createBuffer({ size: 4, usage: 0x80 });
  const globals = {
    GPUBuffer: buffer.constructor,
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
  for (const [name, value] of Object.entries(globals)) {
    if (!Object.hasOwn(globalThis, name)) Object.assign(globalThis, { [name]: value });
  }
  buffer.destroy();
}
