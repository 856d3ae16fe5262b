/** Devices that run tensor ops one by one on an engine of TensorFlow.js: the processor, WebAssembly, WebGPU, TensorFlow. */
import { UnsupportedError } from "../../ir/errors.ts";
import { tensorTargetOf } from "../../ir/target.ts";
import type { Backend, Device, DeviceOptions } from "../backend.ts";
import { initializeBackend, withBackend } from "./current.ts";
import type { EagerOptions } from "./eager.ts";
import { TfMemory } from "./memory.ts";
import { importFrom } from "./package-folder.ts";
import { checkGpu, type EngineKind, type ImportPackage, importTensorFlow, tfVersion } from "./packages.ts";
import { loadProgram, type TfRuntime } from "./program.ts";
import type { Tf, TfData, TfTensor } from "./tf.ts";
import { openWebGpu } from "./webgpu.ts";

/** What `prepare` gives to `open`. */
class Prepared {
  readonly runtime: TfRuntime;
  readonly summary: string;
  readonly close: () => void;

  constructor(runtime: TfRuntime, summary: string, close: () => void) {
    this.runtime = runtime;
    this.summary = summary;
    this.close = close;
  }
}

/** `gpuOptions` asks for a GPU device, for the engine that needs one. */
export function tfjsBackend(
  name: string,
  kind: EngineKind,
  gpuOptions?: (options: DeviceOptions) => Promise<DeviceOptions>,
): Backend {
  return {
    target: tensorTargetOf(name),
    emit: () => [],
    prepare: async (options) => {
      const { tf, backend } = await importTensorFlow(kind, importerOf(options));
      if (kind === "webgpu") {
        const { gpuDevice } = (await gpuOptions?.(options)) ?? options;
        const gpu = await openWebGpu(tf, backend, gpuDevice);
        const runtime = { tf, backend: gpu.name, waits: true, eager: { namesOnly: true, remote: true } };
        return { ...options, prepared: new Prepared(runtime, `WebGPU, ${gpu.summary}`, gpu.close) };
      }
      const registered = kind.startsWith("tensorflow") ? "tensorflow" : kind;
      await initializeBackend(tf, registered);
      // It would advise people to install tfjs-node when it is first used.
      if (kind === "cpu") Object.assign(tf.engine().registry[registered]!, { firstUse: false });
      if (kind === "tensorflow-gpu") checkGpu(tf.engine().registry[registered]!);
      const runtime = { tf, backend: registered, waits: false, eager: { namesOnly: false, ...elementsOf(kind, tf) } };
      return { ...options, prepared: new Prepared(runtime, labels[kind], () => {}) };
    },
    open: ({ prepared } = {}) => {
      if (!(prepared instanceof Prepared)) {
        throw new UnsupportedError(name, "TensorFlow.js is imported when asked for, which takes waiting", {
          hint: `Use: const device = await prepareDevice(${JSON.stringify(name)}); compile(module, device).`,
        });
      }
      return openDevice(name, prepared);
    },
  };
}

/** How the tensors of an engine that keeps them in this process' memory are reached. */
export function elementsOf(kind: EngineKind, tf: Tf): Pick<EagerOptions, "elements"> {
  if (kind === "cpu") return { elements: (x) => x.dataSync() }; // gives its own array
  const wasm = tf.engine().registry.wasm;
  if (kind !== "wasm" || wasm === undefined || !("typedArrayFromHeap" in wasm)) return {};
  const heap = wasm as { readonly typedArrayFromHeap: (x: TfTensor) => TfData }; // a method of its class
  return { elements: (x) => heap.typedArrayFromHeap(x) };
}

function importerOf({ importPackage, packageFolder }: DeviceOptions): ImportPackage | undefined {
  return importPackage ?? (packageFolder === undefined ? undefined : importFrom(packageFolder));
}

const labels: Record<Exclude<EngineKind, "webgpu">, string> = {
  cpu: "JavaScript",
  wasm: "WebAssembly",
  tensorflow: "TensorFlow on the CPU",
  "tensorflow-gpu": "TensorFlow on the GPU",
};

function openDevice(name: string, { runtime, summary, close }: Prepared): Device {
  const memory = new TfMemory();
  return {
    target: tensorTargetOf(name),
    summary: `TensorFlow.js ${tfVersion}, ${summary}, op by op`,
    allocate: (type, use = "shared") => memory.allocate(type, use === "resident"),
    hold: (_, data) => memory.hold(data),
    free: (data) => memory.free(data),
    load: (plan) => loadProgram(runtime, memory, plan),
    close: () => {
      withBackend(runtime.tf, runtime.backend, () => memory.close());
      close();
    },
  };
}
