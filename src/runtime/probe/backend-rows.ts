/**
 * One entry per backend: how it is probed. Another backend is another entry; one that comes as optional packages of
 * TensorFlow.js is a line of `engines`, with `explain` where its failures can be told apart.
 */
import { allBackendNames, type Device, type DeviceOptions, missingWasm, prepareDevice } from "../../compile.ts";
import { CompilerError } from "../../ir/errors.ts";
import { mostThreads } from "../default-threads.ts";
import { openNodeGpu, unitFlags } from "../node-gpu.ts";
import { type BackendProbe, type Missing, missingProbe, noTime } from "./backend-probe.ts";
import { type FoundGpu, findGpu } from "./find-gpu.ts";
import { packageVersion } from "./machine.ts";
import {
  gpuSizes,
  graphSizes,
  measureFigures,
  type ProbePlans,
  type ProbeSizes,
  processorSizes,
} from "./measure-figures.ts";
import type { RuntimeFigures } from "./measure-runtime.ts";

export interface ProbeContext {
  readonly cores: number;
  /** What it is called. */
  readonly processor: string;
  readonly memory: number;
  readonly plans: ProbePlans;
  readonly runtime: RuntimeFigures;
  /** `performance.now()` at which all should be measured. */
  readonly deadline: number;
  /** See `MeasureOptions`. */
  readonly patience: number;
  /** Only what a choice of a backend for a large model needs. */
  readonly quick: boolean;
  /** Whether there may be a driver for the package `webgpu`. */
  readonly vulkan: boolean;
  /** Null: the GPU of this process. */
  readonly gpu: GPU | null;
  /** Where optional packages are, if not beside this one. */
  readonly packageFolder: string | undefined;
}

export interface ProbeEntry {
  readonly backend: string;
  /** Rows, several where a backend has several ways to run. */
  readonly probe: (context: ProbeContext) => Promise<readonly BackendProbe[]>;
}

/** Fastest first, as far as one can tell before measuring. */
export const probeEntries: readonly ProbeEntry[] = [
  engineEntry({ backend: "tensorflow-gpu", label: "TensorFlow on a GPU (CUDA)", package: "@tensorflow/tfjs-node-gpu" }),
  { backend: "webgpu", probe: async (context) => [await probeWebgpu(context)] },
  { backend: "wasm", probe: probeWasm },
  { backend: "js", probe: probeJs },
  engineEntry({ backend: "tensorflow", label: "TensorFlow on the processor", package: "@tensorflow/tfjs-node" }),
  engineEntry({
    backend: "tensorflow-gpu-ops",
    label: "TensorFlow on a GPU, op by op",
    package: "@tensorflow/tfjs-node-gpu",
  }),
  engineEntry({
    backend: "tensorflow-ops",
    label: "TensorFlow on the processor, op by op",
    package: "@tensorflow/tfjs-node",
  }),
  engineEntry({
    backend: "tfjs-webgpu",
    label: "TensorFlow.js on WebGPU",
    package: "@tensorflow/tfjs-backend-webgpu",
    onGpu: true,
  }),
  engineEntry({
    backend: "tfjs-wasm",
    label: "TensorFlow.js in WebAssembly",
    package: "@tensorflow/tfjs-backend-wasm",
  }),
  engineEntry({ backend: "tfjs-cpu", label: "TensorFlow.js in JavaScript", package: "@tensorflow/tfjs-backend-cpu" }),
];

const base = { missing: null, software: false, memory: null, buffer: null, binding: null, features: [] } as const;

async function probeJs(context: ProbeContext): Promise<BackendProbe[]> {
  const row = { ...base, backend: "js", label: "JavaScript, one thread", threads: null, memory: context.memory };
  const why = context.quick && missingWasm() === null ? "WebAssembly runs, which is faster" : null;
  const figures = await measured(() => prepareDevice("js"), context, processorSizes, why);
  return [{ ...row, device: context.processor, ...figures }];
}

async function probeWasm(context: ProbeContext): Promise<BackendProbe[]> {
  const why = missingWasm();
  if (why !== null) {
    return [
      missingProbe("wasm", "WebAssembly", { reason: why, mend: "Use a newer engine: Node 22, or a browser of 2023." }),
    ];
  }
  // One thread first: what is compiled then serves the others.
  const counts = [...new Set([1, Math.min(context.cores, mostThreads)])];
  const rows: BackendProbe[] = [];
  for (const threads of counts) rows.push(await wasmRow(context, { threads }, null));
  return rows;
}

async function wasmRow(context: ProbeContext, options: DeviceOptions, why: string | null): Promise<BackendProbe> {
  let label = "";
  let features: readonly string[] = [];
  const open = async () => {
    const device = await prepareDevice("wasm", options);
    label = device.summary;
    const { byteDots } = device.target;
    features = [
      /relaxed/.test(label) ? "relaxed SIMD" : "SIMD",
      ...(byteDots === null ? [] : [`dot products by ${byteDots.small}`]),
    ];
    return device;
  };
  const figures = await measured(open, context, processorSizes, why);
  const { threads = 1 } = options;
  return {
    ...base,
    backend: "wasm",
    threads,
    memory: context.memory,
    device: context.processor,
    ...figures,
    label,
    features,
  };
}

/** Of the time: a driver that compiles shaders for the first time leaves some of it to the processor. */
const gpuShare = 0.7;

async function probeWebgpu(context: ProbeContext): Promise<BackendProbe> {
  const label = "WebGPU";
  try {
    const found = await findGpu(context);
    if ("reason" in found) return missingProbe("webgpu", label, found);
    const { gpu, software, name } = found;
    const why = software ? "the processor does its work" : null;
    const now = performance.now();
    const deadline = now + gpuShare * (context.deadline - now);
    const figures = await measured(() => prepareDevice("webgpu", { gpu }), { ...context, deadline }, gpuSizes, why);
    const units = software || context.quick ? [] : await unitsOf(context);
    const row = gpuRow(found);
    return {
      ...row,
      features: [...row.features, ...units],
      backend: "webgpu",
      label: `${label}, ${name}${software ? " (software)" : ""}`,
      ...figures,
    };
  } catch (error) {
    return missingProbe("webgpu", label, explainError(error));
  }
}

/** What a device that is asked for its matrix units says of them. */
async function unitsOf({ gpu: given, deadline }: ProbeContext): Promise<readonly string[]> {
  if (performance.now() > deadline) return [`matrix units unknown: ${noTime}`];
  const own = (globalThis.navigator as { readonly gpu?: GPU } | undefined)?.gpu; // not every runtime has a navigator
  try {
    const gpu = given ?? own ?? (await openNodeGpu(unitFlags));
    const device = await prepareDevice("webgpu", { gpu, matrixUnits: true });
    await device.close();
    return device.summary.split("; ").slice(1);
  } catch (error) {
    return [`no matrix units: ${explainError(error).reason}`];
  }
}

function gpuRow({ name, software, adapter }: FoundGpu) {
  const { limits } = adapter;
  return {
    ...base,
    threads: null,
    device: name,
    software,
    buffer: limits.maxBufferSize,
    binding: limits.maxStorageBufferBindingSize,
    features: [...adapter.features].map(String).sort(),
  };
}

export interface Engine {
  readonly backend: string;
  readonly label: string;
  /** Installed beside this package by who wants it. */
  readonly package: string;
  /** Whether it computes on the GPU of WebGPU. */
  readonly onGpu?: boolean;
  /** Tells the package's failures apart. Default: what the error and its hint say. */
  readonly explain?: (error: unknown) => Missing;
}

export const engineVersion = "4.22.0";

/** Importing an engine takes a second; once begun it cannot be given up. */
const importMs = 1200;

function engineEntry({ backend, label, package: name, onGpu = false, explain = explainError }: Engine): ProbeEntry {
  const probe = async (context: ProbeContext): Promise<BackendProbe> => {
    const { packageFolder } = context;
    const version = packageVersion(name, packageFolder);
    if (version === null) {
      const mend = `npm install ${name}@${engineVersion}`;
      return missingProbe(backend, label, { reason: `the package ${name} is not installed`, mend });
    }
    if (!allBackendNames.some((known) => known === backend)) {
      return missingProbe(backend, label, {
        reason: `${name} ${version} is installed, but this version of ciuic has no backend for it`,
        mend: "Use another backend.",
      });
    }
    const row = { ...base, backend, label, threads: null, memory: context.memory, device: context.processor };
    try {
      const found = onGpu ? await findGpu(context) : null;
      if (found !== null && "reason" in found) return missingProbe(backend, label, found);
      const untried = { ...row, label: `${label} (installed, not tried)`, figures: null };
      if (context.quick) return { ...untried, unmeasured: "not needed to choose" };
      if (performance.now() + importMs > context.deadline) return { ...untried, unmeasured: noTime };
      const open = (options: DeviceOptions) => () =>
        prepareDevice(backend, { ...options, ...(packageFolder !== undefined && { packageFolder }) });
      const sizes = backend === "tensorflow" ? graphSizes : processorSizes;
      if (found === null) return { ...row, ...(await measured(open({}), context, sizes, null)) };
      const why = found.software ? "the processor does its work" : null;
      const figures = await measured(open({ gpu: found.gpu }), context, gpuSizes, why);
      return { ...gpuRow(found), backend, label, ...figures };
    } catch (error) {
      return missingProbe(backend, label, explain(error));
    }
  };
  return { backend, probe: async (context) => [await probe(context)] };
}

/** Figures of a device that is opened and closed again, or why there are none. @throws what opening throws */
async function measured(
  open: () => Promise<Device>,
  { plans, runtime, deadline, patience }: ProbeContext,
  sizes: ProbeSizes,
  why: string | null,
): Promise<Pick<BackendProbe, "figures" | "unmeasured">> {
  const device = await open();
  try {
    if (why !== null) return { figures: null, unmeasured: why };
    if (performance.now() > deadline) return { figures: null, unmeasured: noTime };
    const figures = await measureFigures(device, { sizes, plans, deadline, patience });
    if (figures === null) return { figures, unmeasured: noTime };
    return { figures: { ...figures, ...runtime }, unmeasured: null };
  } catch (error) {
    return { figures: null, unmeasured: explainError(error).reason };
  } finally {
    await device.close();
  }
}

/** `where: what`, and the hint. */
export function explainError(error: unknown): Missing {
  if (!(error instanceof CompilerError)) {
    return { reason: error instanceof Error ? (error.message.split("\n")[0] ?? "") : String(error), mend: "" };
  }
  return { reason: error.message.split("\n")[0] ?? "", mend: error.hint ?? "" };
}
