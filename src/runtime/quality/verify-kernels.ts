/**
 * A plan's kernels on a device against the executor, which defines what a kernel means: each is run alone on made-up
 * inputs, and what a few iterations of its grid wrote is compared. What the device can leave out (its *variants*, such as
 * subgroups) is switched off where a kernel is wrong with it and right without.
 */
import type { Device } from "../../compile.ts";
import type { Buf, Kernel } from "../../ir/kernel/kernel.ts";
import { runKernel } from "../../ir/kernel/run.ts";
import { globalBufs, gridLoop } from "../../ir/kernel/walk.ts";
import { workOf } from "../../ir/kernel/work.ts";
import type { FuncPlan, Plan } from "../../ir/plan.ts";
import { reader, type TensorData, tensorFrom, writer, zeros } from "../../ir/tensor.ts";
import { byteSize, type DType, isFloat, type TensorType, tensorType } from "../../ir/types.ts";

export interface KernelCheck {
  readonly kernel: string;
  /** Elements compared; 0 where the kernel was too large, or wrote nothing for these inputs. */
  readonly elements: number;
  /** The largest difference, relative to the largest value of that buffer; for codes and ids, the share that differs. */
  readonly error: number;
  readonly fine: boolean;
}

/** Rounding of sums in another order, relative to the largest value; for codes, the share of them that rounding may move by one. */
const tolerances = { float: 1e-4, half: 2e-3, codes: 0.02, ids: 0 } as const;
/** Bytes of a kernel's buffers beyond which it is left out. */
const mostBytes = 2 ** 30;
/** Different values in a buffer, after which they repeat. */
const period = 65521;

/** Checks each kernel of the plan once. */
export async function checkKernels(device: Device, plan: Plan): Promise<KernelCheck[]> {
  const checks: KernelCheck[] = [];
  for (const kernel of plan.kernels) checks.push(await checkKernel(device, kernel));
  return checks;
}

async function checkKernel(device: Device, kernel: Kernel): Promise<KernelCheck> {
  const bufs = globalBufs(kernel);
  const types = bufs.map(typeOf);
  if (types.reduce((sum, type) => sum + byteSize(type), 0) > mostBytes)
    return { kernel: kernel.name, elements: 0, error: 0, fine: true };
  const inputs = types.map((type, i) => madeUp(type, i));
  const program = device.load(planOf(kernel, types));
  const instance = program.instantiate({ weight: () => new Float32Array() });
  try {
    for (const [i, data] of inputs.entries()) instance.params[i]!.set(data);
    await instance.run();
    const expected = inputs.map((data) => data.slice());
    for (const begin of iterations(kernel)) runKernel(kernel, expected, begin);
    const found = bufs.flatMap((buf, i) =>
      buf.access === "read" ? [] : [compare(types[i]!, inputs[i]!, expected[i]!, instance.params[i]!)],
    );
    return {
      kernel: kernel.name,
      elements: found.reduce((sum, { elements }) => sum + elements, 0),
      error: Math.max(0, ...found.map(({ error }) => error)),
      fine: found.every(({ fine }) => fine),
    };
  } finally {
    instance.release();
  }
}

function typeOf({ dtype, size }: Buf): TensorType {
  return tensorType(dtype as DType, [size]); // f64 is for scratch alone
}

/** A plan of one launch: a parameter for each buffer, those that are written as results. */
function planOf(kernel: Kernel, types: readonly TensorType[]): Plan {
  const written = globalBufs(kernel).flatMap(({ access }, i) => (access === "read" ? [] : [i]));
  const func: FuncPlan = {
    name: "main",
    params: types.map((type, i) => ({ name: `p${i}`, type })),
    results: written.map((i) => ({ name: `r${i}`, type: types[i]! })),
    donated: written,
    weights: [],
    locations: types.map((type, index) => ({ place: "param", index, type })),
    steps: [{ step: "launch", kernel: 0, args: types.map((_, i) => i) }],
    arenaBytes: 0,
  };
  return { name: "check", entry: "main", funcs: new Map([["main", func]]), kernels: [kernel] };
}

/** Numbers between -1 and 1, small codes, indices of which no two near each other are the same. */
function madeUp(type: TensorType, seed: number): TensorData {
  const { data } = zeros(type.dtype, type.shape);
  const write = writer(tensorFrom(type, data));
  const [size] = type.shape as [number]; // of rank 1
  let state = seed + 1;
  for (let i = 0; i < Math.min(size, period); i++) {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    write(i, isFloat(type.dtype) ? state / 2 ** 31 : type.dtype === "i32" ? i % 61 : (state >>> 24) % 7);
  }
  // As many elements at a time as are there, up to whole bytes of small ones.
  const kept = data.length === size ? period : Math.floor((period * data.length) / size);
  for (let at = kept; at < data.length; at += kept) data.copyWithin(at, 0, Math.min(kept, data.length - at));
  return data;
}

/** Operations of the executor for each place that is looked at. */
const mostOperations = 20_000;

/** The first iterations of the grid, some in the middle and the last; all of it where there is no single one. */
function iterations(kernel: Kernel): ({ begin: number; end: number } | undefined)[] {
  const grid = gridLoop(kernel);
  if (grid === undefined) return [undefined];
  const { step } = grid.loop;
  const count = Math.ceil((grid.to - grid.from) / step);
  const each = Math.max(1, Math.min(64, Math.floor((mostOperations * count) / workOf(kernel).operations)));
  const places = new Set([0, count >> 1, Math.max(0, count - each)]);
  return [...places].map((i) => {
    const begin = grid.from + i * step;
    return { begin, end: Math.min(begin + each * step, grid.to) };
  });
}

/** Compares the elements that differ from what was there before. */
function compare(
  type: TensorType,
  before: TensorData,
  expected: TensorData,
  found: TensorData,
): Pick<KernelCheck, "elements" | "error" | "fine"> {
  const [old, want, got] = [before, expected, found].map((data) => reader(tensorFrom(type, data))) as [
    (i: number) => number,
    (i: number) => number,
    (i: number) => number,
  ];
  const codes = type.dtype === "i8" || type.dtype === "u8";
  let [elements, largest, most, moved, wrong] = [0, 0, 0, 0, 0];
  for (let i = 0; i < type.shape[0]!; i++) {
    const value = want(i);
    if (Object.is(value, old(i)) || !Number.isFinite(value)) continue;
    elements++;
    const difference = Math.abs(got(i) - value);
    largest = Math.max(largest, Math.abs(value));
    if (!(difference <= most)) most = difference;
    if (difference !== 0) moved++;
    if (!(difference <= (codes ? 1 : 0))) wrong++;
  }
  if (elements === 0) return { elements, error: 0, fine: true };
  if (codes) return { elements, error: moved / elements, fine: wrong === 0 && moved / elements <= tolerances.codes };
  if (!isFloat(type.dtype)) return { elements, error: wrong / elements, fine: wrong === 0 };
  const error = most / Math.max(largest, 1e-30);
  return { elements, error, fine: error <= (type.dtype === "f32" ? tolerances.float : tolerances.half) };
}
