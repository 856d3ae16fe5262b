/** What passes and lowerings may know about a device: plain data, the same record for every backend. */
import type { ProductSize } from "./kernel/multiply.ts";
import type { CompositeOp } from "./ops/all.ts";
import type { DType } from "./types.ts";

export interface Target {
  /** The backend's name: js, wasm, webgpu, tfjs-cpu .. */
  readonly name: string;
  /** Whether the backend takes kernels or tensor ops. */
  readonly level: "tensor" | "kernel";
  /** Composite ops that the lowering takes whole where programs are optimised; others are expanded. */
  readonly keeps: readonly CompositeOp[];
  /** Storage types a buffer may have; others are rewritten by `legalize`. */
  readonly storage: readonly DType[];
  /** Lanes of a vector register for f32; 1 means scalars only. */
  readonly lanes: number;
  /** The type sums are kept in. JavaScript's numbers are doubles: rounding each addition would only cost time. */
  readonly accumulator: "f32" | "f64";
  /** How it multiplies vectors of bytes. Null where it does not; elsewhere contractions of codes become `dotGroups`. */
  readonly byteDots: ByteDots | null;
  /** Whether programs may hold collectives: then whoever drives several devices runs these. Default: no. */
  readonly collectives?: boolean;
  /** Whether matrix products are faster on weights [in, out] than on [out, in], as models store them. Default: no. */
  readonly inputMajor?: boolean;
  /** Weights that stay as they are stored. Default: all are made f32 once. */
  readonly narrowWeights?: NarrowWeights;
  /** Largest private array of a kernel, in bytes. */
  readonly scratchBytes: number;
  /** Invocations that meet at barriers, for devices of thousands of threads; null where a grid iteration runs alone. */
  readonly workgroup: Workgroup | null;
  /** What multiplies matrices of signed bytes, for products of several tokens. Default: nothing does. */
  readonly matrices?: MatrixUnits | null;
  /** Most bindings of buffers that a kernel may have: a buffer each, but for those that are larger than a binding. */
  readonly buffers: number;
  /** How much of a buffer a binding shows. Null: all of it, whatever its size. */
  readonly binding: BindingSizes | null;
}

/** Weights of contractions that are read as they are stored, and widened by each step. */
export interface NarrowWeights {
  /** Those that cost less to widen than to read in f32. */
  readonly dtypes: readonly DType[];
  /** Fewer elements are widened when they are loaded: they lie in caches. */
  readonly least: number;
}

/** Buffers larger than `most` bytes are seen in several bindings, each of `part` bytes (a power of two) but the last. */
export interface BindingSizes {
  readonly most: number;
  readonly part: number;
}

/** Bindings that a buffer of so many bytes takes. */
export function bindingsOf(bytes: number, sizes: BindingSizes | null): number {
  return sizes === null || bytes <= sizes.most ? 1 : Math.ceil(bytes / sizes.part);
}

/** What the iterations of a `workgroup` loop have together. */
export interface Workgroup {
  /** Most iterations that are of use to all kernels, a power of two. */
  readonly invocations: number;
  /** Most iterations, a power of two, where long rows are shared by many. Default: `invocations`. */
  readonly most?: number;
  /** Memory that they share. */
  readonly bytes: number;
}

/** Units that multiply matrices of signed bytes, adding up in 32 bits. */
export interface MatrixUnits {
  /** Neighbours in a workgroup that use one together. */
  readonly subgroup: number;
  /** What they multiply at once, the best first. */
  readonly sizes: readonly ProductSize[];
}

/** Products of bytes that a device has. All are exact, so that a choice among them changes no bit of a result. */
export interface ByteDots {
  /** Of signed bytes and bytes in 0 .. 127: four products added at once, two, or both sides widened to 16 bits. */
  readonly small: "quads" | "pairs" | "words";
  /**
   * Of signed bytes and any bytes: four products added at once, the other byte unsigned or signed; two, with magnitudes of the
   * signed bytes; or both sides widened.
   */
  readonly any: "unsigned" | "signed" | "pairs" | "words";
}

/** Plain JavaScript: scalar code over typed arrays, doubles for sums. */
export const jsTarget: Target = {
  name: "js",
  level: "kernel",
  keeps: ["attention"],
  storage: ["f32", "f16", "bf16", "f8e4m3", "f8e8m0", "i32", "u32", "i8", "u8", "i4", "u4", "bool"],
  lanes: 1,
  accumulator: "f64",
  byteDots: null,
  scratchBytes: 1 << 22,
  workgroup: null,
  buffers: Number.POSITIVE_INFINITY,
  binding: null,
};

/** WebAssembly with 128-bit vectors: four f32 lanes, sums in f32. */
export const wasmTarget: Target = {
  name: "wasm",
  level: "kernel",
  keeps: ["attention"],
  storage: ["f32", "f16", "bf16", "f8e4m3", "f8e8m0", "i32", "u32", "i8", "u8", "i4", "u4", "bool"],
  lanes: 4,
  accumulator: "f32",
  byteDots: { small: "quads", any: "unsigned" }, // a device says what its engine has
  narrowWeights: { dtypes: ["bf16"], least: 1 },
  scratchBytes: 1 << 23,
  workgroup: null,
  buffers: Number.POSITIVE_INFINITY,
  binding: null,
};

/** What a WebGPU device needs to say about itself; every device has at least `leastWebGpu`. */
export interface WebGpuLimits {
  readonly invocations: number;
  readonly sharedBytes: number;
  readonly buffers: number;
  readonly binding: BindingSizes;
  readonly matrices?: MatrixUnits | null;
}

/** The limits that the WebGPU specification guarantees ("Limits", default values). */
export const leastWebGpu: WebGpuLimits = {
  invocations: 256,
  sharedBytes: 16384,
  buffers: 8,
  binding: { most: 2 ** 27, part: 2 ** 27 },
};

/** WGSL: packed storage is unpacked by kernels, sums in f32. */
export function webgpuTargetOf({ invocations, sharedBytes, buffers, binding, matrices = null }: WebGpuLimits): Target {
  return {
    ...jsTarget,
    name: "webgpu",
    keeps: ["attention", "attentionParts", "mergeParts"],
    accumulator: "f32",
    byteDots: { small: "quads", any: "signed" }, // of WGSL, on every device
    narrowWeights: { dtypes: ["bf16"], least: 1 },
    // WGSL allows 8192 bytes of private variables ("Limits"); the emitter needs a few.
    scratchBytes: 8064,
    workgroup: { invocations: Math.min(invocations, 256), most: Math.min(invocations, 512), bytes: sharedBytes },
    matrices,
    buffers,
    binding,
  };
}

export const webgpuTarget: Target = webgpuTargetOf(leastWebGpu);

/**
 * A TensorFlow engine: runs tensor ops, so what is said of kernels means nothing. It has hardly a kernel for u32; all
 * other dtypes are carried as one that the engine has (docs/decisions/0017), so that they can be stored.
 */
export function tensorTargetOf(name: string): Target {
  return {
    ...jsTarget,
    name,
    level: "tensor",
    keeps: [],
    storage: jsTarget.storage.filter((dtype) => dtype !== "u32"),
    accumulator: "f32",
  };
}

/** Of TensorFlow's graphs, where widening what lies in caches takes longer than reading it twice as wide. */
export const graphNarrowWeights: NarrowWeights = { dtypes: ["bf16", "f16"], least: 2 ** 20 };

/** Most bytes of f32 that a graph widens such a matrix to at a time. */
export const widestGraphBlock = 2 ** 27;
