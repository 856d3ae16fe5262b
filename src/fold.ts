/**
 * Folding at load time: weight expressions (what the passes made of the checkpoint's tensors: casts, codes and scales,
 * concatenations) are compiled to kernels like anything else and evaluated once, block by block (passes/blocks.ts), on
 * the model's device where that runs faster than plain JavaScript. Values have the same bits wherever they are computed,
 * but for sums of floats, which a device adds up in its own order.
 */
import type { Device, DeviceOptions, Instance, Program } from "./backends/backend.ts";
import { jsBackend } from "./backends/js/device.ts";
import { wasmBackend } from "./backends/wasm/device.ts";
import { missingWasm } from "./backends/wasm/probe.ts";
import { invariant } from "./ir/errors.ts";
import { type Func, isOp, makeModule, type Node } from "./ir/graph.ts";
import { interpret } from "./ir/interpret.ts";
import type { Plan } from "./ir/plan.ts";
import { printFunc } from "./ir/print.ts";
import { type Target, wasmTarget } from "./ir/target.ts";
import { type TensorData, tensorFrom, zeros } from "./ir/tensor.ts";
import { sizeOf, type TensorType } from "./ir/types.ts";
import { putElements, readWeight, type WeightSource } from "./ir/weight.ts";
import { blocksOf, groupsOf, piecesOf, type WeightPart } from "./passes/blocks.ts";
import { lowerFunc } from "./passes/lower/lower.ts";
import { planMemory } from "./passes/memory.ts";
import { runPasses } from "./passes/pass.ts";
import { kernelPasses } from "./passes/pipeline.ts";
import { simplify } from "./passes/simplify.ts";

export { blocksOf, type FoldBlock, groupsOf, offsetsOf, piecesOf, type WeightPart } from "./passes/blocks.ts";
export type { Box } from "./passes/section.ts";

const keys = new WeakMap<Node, string>();

/** The same text for expressions that compute the same from weights of the same name. */
export function foldKey(expr: Node): string {
  let key = keys.get(expr);
  if (key === undefined) {
    key = printFunc({ name: "fold", params: [], outs: [expr] }, { canonical: true });
    keys.set(expr, key);
  }
  return key;
}

/** Where a device's weights are evaluated. */
export interface FoldDevice {
  readonly device: Device;
  /** Ends what was opened for it. */
  readonly close: () => void | Promise<void>;
}

/** Of the threads that evaluate the weights of devices which leave this to the processor. */
export type FoldOptions = Pick<DeviceOptions, "threads" | "threadUrl">;

/**
 * A device evaluates its weights itself if its memory is the host's and it has vectors; for a GPU WebAssembly does, on
 * threads if so asked, where the engine has it; for plain JavaScript that does.
 */
export function foldDevice(device: Device, options: FoldOptions = {}): FoldDevice {
  if (device.target.name === wasmTarget.name) return { device, close: () => {} };
  const faster = device.target.workgroup !== null && missingWasm() === null;
  const own = faster ? wasmBackend.open(options) : jsBackend.open();
  return { device: own, close: own.close };
}

/** Whether a fold only copies: there is nothing to compute. */
function isCopy({ outs }: Func): boolean {
  return outs.length === 1 && isOp(outs[0]!, "param");
}

/** The program of a fold. */
export function planFold(func: Func, target: Target): Plan {
  const simplified = runPasses(makeModule("fold", [func], func.name), [simplify()], target).funcs.get(func.name)!;
  const passes = kernelPasses(target, { optimize: true });
  const kernels = lowerFunc(simplified, target, { enabled: true, weights: new Set() }).map((each) => ({
    ...each,
    kernel: passes.reduce((kernel, pass) => pass.run(kernel), each.kernel),
  }));
  return planMemory(makeModule("fold", [simplified], func.name), [{ func: simplified, kernels, weights: [] }]);
}

/** Functions of fewer elements take longer to compile than to interpret. */
export const smallFold = 8192;

/** Programs of folds on one device. One is ready to run at a time; its memory is given back for the next. */
export class FoldPrograms {
  readonly #device: Device;
  readonly #small: number;
  readonly #programs = new Map<string, Program>();
  #ready: { readonly key: string; readonly instance: Instance } | undefined;

  /** Functions of parameters with fewer elements than `small` in all are interpreted. */
  constructor(device: Device, small = smallFold) {
    this.#device = device;
    this.#small = small;
  }

  /** Programs compiled so far: one for all functions that are equal. */
  get count(): number {
    return this.#programs.size;
  }

  /** The results for these parameters, valid until the next run. On one thread they are there when this returns. */
  run(func: Func, inputs: readonly TensorData[]): readonly TensorData[] | Promise<readonly TensorData[]> {
    if (isCopy(func)) return inputs;
    const size = func.params.reduce((sum, { type }) => sum + sizeOf(type.shape), 0);
    if (size < this.#small) {
      const tensors = func.params.map(({ type }, i) => tensorFrom(type, inputs[i]!));
      return interpret(makeModule(func.name, [func], func.name), tensors).map(({ data }) => data);
    }
    const instance = this.ready(func);
    for (const [i, data] of inputs.entries()) instance.params[i]!.set(data);
    const running = instance.run();
    return running === undefined ? instance.results : running.then(() => instance.results);
  }

  /** The function with memory for its parameters and results, valid until the next is asked for. */
  ready(func: Func): Instance {
    const key = printFunc(func, { canonical: true });
    if (this.#ready?.key === key) return this.#ready.instance;
    let program = this.#programs.get(key);
    if (program === undefined) {
      program = this.#device.load(planFold(func, this.#device.target));
      this.#programs.set(key, program);
    }
    this.release();
    const weight = () => invariant(false, () => "a fold has no weights of its own") as never;
    const instance = program.instantiate({ weight });
    this.#ready = { key, instance };
    return instance;
  }

  /** Gives the memory of the last program back. */
  release(): void {
    this.#ready?.instance.release();
    this.#ready = undefined;
  }
}

/** The weights of a plan from a source in memory, each evaluated when first asked for and held by the device. */
export function evaluateWeights(
  plan: Plan,
  source: WeightSource | undefined,
  hold: (type: TensorType, data: TensorData) => TensorData,
): (func: string, index: number, layer: number | null) => TensorData {
  const values = new Map<string, TensorData>();
  const programs = new FoldPrograms(jsBackend.open());
  return (name, index, layer) => {
    const { weights } = plan.funcs.get(name)!;
    const wanted = weights[index]!;
    const keyOf = (expr: Node) => `${layer} ${foldKey(expr)}`;
    const known = values.get(keyOf(wanted));
    if (known !== undefined) return known;
    invariant(source !== undefined, () => "weights are needed, but no source was given");
    const group = groupsOf(weights).find((each) => each.includes(wanted))!;
    const made = evaluateFold(group, source, programs, layer ?? undefined);
    for (const [i, expr] of group.entries()) {
      if (!values.has(keyOf(expr))) values.set(keyOf(expr), hold(expr.type, made[i]!));
    }
    return values.get(keyOf(wanted))!;
  };
}

/** The values of expressions of the same weights, all at once, on plain JavaScript. */
export function evaluateFold(
  exprs: readonly Node[],
  source: WeightSource,
  programs: FoldPrograms = new FoldPrograms(jsBackend.open()),
  layer?: number,
): TensorData[] {
  const [block] = blocksOf(exprs, Number.POSITIVE_INFINITY);
  invariant(block !== undefined, () => "expressions without a block");
  const { func, reads } = block;
  const inputs = reads.map((part) => readPart(part, source, layer));
  const results = programs.run(func, inputs);
  invariant(!(results instanceof Promise), () => "plain JavaScript has run when this returns");
  return results.map((data) => data.slice());
}

function readPart(part: WeightPart, source: WeightSource, layer: number | undefined): TensorData {
  const { names, own, range, type } = piecesOf(part, layer);
  const out = zeros(type.dtype, type.shape);
  const count = range.to - range.from;
  for (const [i, name] of names.entries()) {
    const { data } = readWeight(name, own, source);
    // Tensors of 4-bit elements are read whole.
    putElements(out, i * count, count === sizeOf(own.shape) ? data : data.subarray(range.from, range.to), count);
  }
  return out.data;
}
