/** One product of a matrix and a few rows in many copies, so that weights come from memory and not from caches. */

export interface OpSpec {
  readonly engine: "op";
  readonly library: "ciuic" | "ort" | "ort-dynamic" | "ort-web" | "tfjs";
  readonly weights: "f32" | "int8" | "int4";
  /** Length of the sums, results per row, and rows. */
  readonly k: number;
  readonly n: number;
  readonly m: number;
  /** Matrices, each multiplied once per run. */
  readonly copies: number;
  readonly threads: number;
}

export interface OpRunner {
  readonly info: string;
  /** Multiplies every matrix once; a number that depends on a result. */
  run(): Promise<number>;
  /** Most resident memory of what runs it, where that is not this process. */
  peakMemory?(): Promise<number>;
  close(): Promise<void>;
}

export async function openOp(spec: OpSpec): Promise<OpRunner> {
  if (spec.library === "ciuic") return (await import("./own-op.ts")).openOwnOp(spec);
  if (spec.library === "tfjs") return (await import("./tfjs-op.ts")).openTfjsOp(spec);
  return (await import("./onnx-op.ts")).openOnnxOp(spec);
}

/** Numbers that are the same every time, between -1 and 1, none of them tiny. */
export function someNumbers(count: number): Float32Array {
  let state = 1;
  return Float32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return ((state >> 8) | 1) / 2 ** 23;
  });
}
