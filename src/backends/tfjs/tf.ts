/**
 * What is used of TensorFlow.js, as types of our own: the packages are optional, so the compiler's types must not need
 * theirs. A type test holds the interface against the real package.
 */

export type TfDType = "float32" | "int32" | "bool";
export type TfData = Float32Array | Int32Array | Uint8Array;

export interface TfTensor {
  readonly shape: readonly number[];
  readonly dtype: string;
  readonly dispose: () => void;
  readonly isDisposed: boolean;
  readonly dataSync: () => TfData;
  readonly data: () => Promise<TfData>;
}

type Unary = (x: TfTensor) => TfTensor;
type Binary = (a: TfTensor, b: TfTensor) => TfTensor;
type Shape = number[];

export interface Tf {
  readonly tensor: (values: TfData, shape: Shape, dtype: TfDType) => TfTensor;
  readonly scalar: (value: number, dtype: TfDType) => TfTensor;
  readonly range: (start: number, stop: number, step: number, dtype: "int32") => TfTensor;
  readonly keep: (x: TfTensor) => TfTensor;
  readonly tidy: <R extends TfTensor | TfTensor[]>(make: () => R) => R;

  readonly neg: Unary;
  readonly abs: Unary;
  readonly exp: Unary;
  readonly log: Unary;
  readonly sqrt: Unary;
  readonly rsqrt: Unary;
  readonly sin: Unary;
  readonly cos: Unary;
  readonly tanh: Unary;
  readonly sigmoid: Unary;
  readonly floor: Unary;
  readonly round: Unary;
  readonly logicalNot: Unary;
  readonly add: Binary;
  readonly sub: Binary;
  readonly mul: Binary;
  readonly div: Binary;
  readonly floorDiv: Binary;
  readonly mod: Binary;
  readonly pow: Binary;
  readonly minimum: Binary;
  readonly maximum: Binary;
  readonly logicalAnd: Binary;
  readonly logicalOr: Binary;
  readonly equal: Binary;
  readonly notEqual: Binary;
  readonly less: Binary;
  readonly lessEqual: Binary;
  readonly greater: Binary;
  readonly greaterEqual: Binary;
  readonly where: (condition: TfTensor, a: TfTensor, b: TfTensor) => TfTensor;
  readonly cast: (x: TfTensor, dtype: TfDType) => TfTensor;

  readonly matMul: (a: TfTensor, b: TfTensor, transposeA: boolean, transposeB: boolean) => TfTensor;
  readonly sum: (x: TfTensor, axis: number) => TfTensor;
  readonly max: (x: TfTensor, axis: number) => TfTensor;
  readonly argMax: (x: TfTensor, axis: number) => TfTensor;
  readonly topk: (x: TfTensor, k: number, sorted: boolean) => { readonly values: TfTensor; readonly indices: TfTensor };

  readonly reshape: (x: TfTensor, shape: Shape) => TfTensor;
  readonly transpose: (x: TfTensor, perm: number[]) => TfTensor;
  readonly slice: (x: TfTensor, begin: number[], size: number[]) => TfTensor;
  readonly concat: (xs: TfTensor[], axis: number) => TfTensor;
  readonly broadcastTo: (x: TfTensor, shape: Shape) => TfTensor;
  readonly gather: (x: TfTensor, index: TfTensor, axis: number, batchDims: number) => TfTensor;
  readonly tensorScatterUpdate: (x: TfTensor, indices: TfTensor, updates: TfTensor) => TfTensor;

  readonly memory: () => { readonly numTensors: number };
  readonly engine: () => TfEngine;
  readonly setBackend: (name: string) => Promise<boolean>;
  readonly findBackendFactory: (name: string) => (() => TfBackend | Promise<TfBackend>) | null;
  readonly registerBackend: (name: string, factory: () => TfBackend, priority: number) => boolean;
  readonly removeBackend: (name: string) => void;
  readonly copyRegisteredKernels: (from: string, to: string) => void;
}

/** A backend of TensorFlow.js, which only it looks into. */
export type TfBackend = object;

/**
 * The engine, of which there is one in a process: ops go to whichever backend is its current one. The two fields are
 * those that `setBackend` sets.
 */
export interface TfEngine {
  backendName: string | null | undefined;
  backendInstance: TfBackend | null | undefined;
  readonly registry: Record<string, TfBackend>;
}
