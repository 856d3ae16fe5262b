/** What a backend is: a target record, and devices that hold memory and run plans. */
import { InputError, showValue } from "../ir/errors.ts";
import type { Node } from "../ir/graph.ts";
import type { Plan } from "../ir/plan.ts";
import type { Target } from "../ir/target.ts";
import type { TensorData } from "../ir/tensor.ts";
import type { TensorType } from "../ir/types.ts";
import type { StoredTensor } from "../ir/weight.ts";

export interface Backend {
  readonly target: Target;
  /** What is emitted for each kernel of the plan, as text: also for plans that are too large to run. */
  readonly emit: (plan: Plan) => readonly string[];
  readonly open: (options?: DeviceOptions) => Device;
  /** Adds to options what `open` needs and only waiting can get, where there is such a thing. */
  readonly prepare?: (options: DeviceOptions) => Promise<DeviceOptions>;
}

const mostThreads = 64;

/** @throws InputError for what is no number of threads */
export function checkThreads(threads: unknown, where: string): void {
  if (Number.isInteger(threads) && Number(threads) >= 1 && Number(threads) <= mostThreads) return;
  throw new InputError(where, `expected a whole number from 1 to ${mostThreads}, got ${showValue(threads)}`);
}

export interface DeviceOptions {
  /** Threads that compute together, where the backend has threads. Default: 1. */
  readonly threads?: number;
  /** In a browser: the address of a module that calls `serveThread`, where threads may not start from a blob. */
  readonly threadUrl?: string;
  /** The instruction set to use, where the backend has several; by default the best that the engine has. */
  readonly tier?: string;
  /** How many threads may help with programs of a device of one thread, see `Device.offer`. Default: 0. */
  readonly guests?: number;
  /** Where a WebGPU device is asked for. Default: the browser's `navigator.gpu`. */
  readonly gpu?: GPU;
  /** The WebGPU device to use; it belongs to the device opened on it. */
  readonly gpuDevice?: GPUDevice;
  /**
   * Whether a GPU's matrix units may multiply codes of several tokens, where it has such units and they compute rightly: an
   * experiment, off by default, that needs the WebGPU feature chromium-experimental-subgroup-matrix.
   */
  readonly matrixUnits?: boolean;
  /** How optional packages are imported, by name. Default: `import(name)`. */
  readonly importPackage?: (name: string) => Promise<unknown>;
  /** The folder in whose node_modules optional packages are. Default: they are found like other packages. */
  readonly packageFolder?: string;
  /** What `prepare` of the backend made ready for `open`. */
  readonly prepared?: object;
}

/** Memory that programs share, and what runs on it. */
export interface Device {
  readonly target: Target;
  /** One line for people: what runs, on how many threads, and why not more. */
  readonly summary: string;
  /**
   * Memory of zeros for a tensor, at home on this device. Only programs read and write `resident` memory (caches): where
   * the device has memory of its own, the array is not kept equal to it.
   */
  readonly allocate: (type: TensorType, use?: "shared" | "resident") => TensorData;
  /** Memory with this content: the array itself where the device can use it, else a copy. */
  readonly hold: (type: TensorType, data: TensorData) => TensorData;
  /** Memory for a weight, where the device has memory of its own: filled as parts become known, and held there alone. */
  readonly fill?: (type: TensorType) => WeightFill;
  /**
   * Stands for a weight expression that the device computes from files by itself, when a program first needs it. `stored`
   * gives the tensors of a weight that is a leaf of it, in order, or null where they are not as such in files. Null where
   * the device cannot. The array has no elements.
   */
  readonly fromFiles?: (
    expr: Node,
    stored: (weight: Node<"weight">) => readonly StoredTensor[] | null,
  ) => TensorData | null;
  /** Gives memory back; no program may use it any more. */
  readonly free: (data: TensorData) => void;
  /**
   * Says how many bytes all programs to come need together, where the first says too little to choose memory by.
   * @throws UnsupportedError when that cannot be had
   */
  readonly expect?: (bytes: number) => void;
  /** Emits and compiles the plan's kernels. @throws UnsupportedError when they cannot run here. */
  readonly load: (plan: Plan) => Program;
  /** Bytes per second at which all threads together read this device's memory; takes some ten milliseconds. */
  readonly measureReading?: () => Promise<number>;
  /** What guests need to help with programs bound since this was asked for last; null where the device has no guests. */
  readonly offer?: () => GuestOffer | null;
  /** Bytes that are in use of memory that the device manages itself. */
  readonly heldBytes?: () => number;
  /** Whether its programs run on by themselves (`Instance.queue`). */
  readonly queues?: boolean;
  /** What programs loaded from now on may use, where a device can do without: see `model.verify`. */
  readonly variants?: {
    readonly names: () => readonly string[];
    readonly use: (name: string, on: boolean) => void;
  };
  /** Ends threads. Nothing may run afterwards. */
  readonly close: () => void | Promise<void>;
}

/** Programs of a device and the memory they work on, which can be posted to other threads of the process. */
export interface GuestOffer {
  readonly memory: WebAssembly.Memory;
  readonly programs: readonly GuestProgram[];
}

export interface GuestProgram {
  readonly id: number;
  readonly module: WebAssembly.Module;
  readonly entry: string;
  readonly args: readonly (number | bigint)[];
  /** Addresses of the scratch of each guest. */
  readonly scratches: readonly (number | bigint)[];
  /** Chunks of a step. */
  readonly tickets: number;
}

/** A weight that is being filled. */
export interface WeightFill {
  /** Stands for the weight, and has no elements. */
  readonly data: TensorData;
  /** Takes `count` elements of the row-major weight, from element `at` on; whoever waits bounds what is under way. */
  readonly put: (at: number, part: TensorData, count: number) => void | Promise<void>;
}

/** A plan made executable, without memory. */
export interface Program {
  /** What was emitted for each kernel of the plan, as text. */
  readonly sources: readonly string[];
  /** Binds memory. Programs of several buckets share weights and caches by being given the same arrays. */
  readonly instantiate: (memory: ProgramMemory) => Instance;
}

/** Arrays given here come from the device's `allocate` or `hold`. */
export interface ProgramMemory {
  /** The value of weight expression `index` of a function, for the `layer` of a call (null outside layers). */
  readonly weight: (func: string, index: number, layer: number | null) => TensorData;
  /** Memory for entry parameters by name, such as caches; others are allocated. */
  readonly params?: ReadonlyMap<string, TensorData>;
  /** Called after each launch with the kernel's number in the plan and its milliseconds; slows running down, on one thread. */
  readonly onLaunch?: (kernel: number, ms: number) => void;
  /** Memory for results by number; others are allocated. */
  readonly results?: ReadonlyMap<number, TensorData>;
}

export interface Instance {
  /** Memory of the entry's parameters; write inputs here before `run`. */
  readonly params: readonly TensorData[];
  /** Memory of the results, valid after `run` until the next. A result left in a parameter's memory is that memory. */
  readonly results: readonly TensorData[];
  /** Computes the results. Where it runs elsewhere, `signal` ends it in the middle. */
  readonly run: (signal?: AbortSignal) => void | Promise<void>;
  /** The same where only results count that are left in parameters' memory: what others need may be left out. */
  readonly runKept?: (signal?: AbortSignal) => void | Promise<void>;
  /**
   * Starts runs one after another, each on what the one before left in the parameters' memory, where the device can do so
   * without being waited for. More may be queued before the first is done. Gives a copy of what is to be read.
   */
  readonly queue?: (runs: QueuedRuns) => Promise<TensorData>;
  /** Where the time of so many runs one after another goes. What they leave in memory means nothing. */
  readonly measure?: (times: number) => Promise<RunTimes>;
  /** Gives back the memory that was allocated for it; it cannot run any more. */
  readonly release: () => void;
}

export interface QueuedRuns {
  readonly times: number;
  /** Parameters that get what their arrays hold now before the first run; the others stay as they are on the device. */
  readonly write: readonly TensorData[];
  /** Memory of a parameter or result, whose content after the last run is wanted. */
  readonly read: TensorData;
}

/** Milliseconds of a run among others. */
export interface RunTimes {
  /** Of this side: recording the run's launches, checking them, handing them over. */
  readonly recordMs: number;
  readonly finishMs: number;
  readonly submitMs: number;
  /** Of the device. */
  readonly deviceMs: number;
  /** Of a kernel's launches of a run, replayed one after another. */
  readonly kernels: readonly { readonly kernel: number; readonly launches: number; readonly ms: number }[];
}
