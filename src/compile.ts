/**
 * `compile(module, target)`: runs the tensor passes, fuses and lowers to kernels, runs the kernel passes, plans memory,
 * and hands the plan to the backend. The only file that sees all of the compiler.
 */
import type { Backend, Device, DeviceOptions, Instance, Program, ProgramMemory } from "./backends/backend.ts";
import { jsBackend } from "./backends/js/device.ts";
import { tfjsBackend } from "./backends/tfjs/device.ts";
import { graphBackend } from "./backends/tfjs/graph-backend.ts";
import { wasmBackend } from "./backends/wasm/device.ts";
import { missingWasm } from "./backends/wasm/probe.ts";
import { webgpuBackend } from "./backends/webgpu/device.ts";
import { evaluateWeights } from "./fold.ts";
import { didYouMean, InputError, IrError, UnsupportedError } from "./ir/errors.ts";
import { type Func, isOp, type Module, type Node, topoOrder } from "./ir/graph.ts";
import { verifyKernel } from "./ir/kernel/verify.ts";
import { type Plan, planTotals } from "./ir/plan.ts";
import { verifyPlan } from "./ir/plan-verify.ts";
import type { Target } from "./ir/target.ts";
import { type Tensor, tensorFrom } from "./ir/tensor.ts";
import { sameType, showType } from "./ir/types.ts";
import type { WeightSource } from "./ir/weight.ts";
import { type CompileHistory, type HistoryRecorder, recordHistory } from "./passes/compile-history.ts";
import { weightExpressions } from "./passes/constant.ts";
import { heldAsStored, holdPass } from "./passes/hold-narrow.ts";
import { lowerFunc } from "./passes/lower/lower.ts";
import { type LoweredFunc, planMemory } from "./passes/memory.ts";
import { mergeLaunches } from "./passes/merge/merge-launches.ts";
import { type PassOptions, runPasses } from "./passes/pass.ts";
import { fusePass, type KernelPass, kernelPasses, mergePass, tensorPasses } from "./passes/pipeline.ts";
import { planTensors } from "./passes/plan-tensors.ts";
import type { QuantizeOptions } from "./passes/quantize/policy.ts";

export type {
  Device,
  DeviceOptions,
  GuestOffer,
  Instance,
  Program,
  ProgramMemory,
  RunTimes,
  WeightFill,
} from "./backends/backend.ts";
export { checkThreads } from "./backends/backend.ts";
export { Guest } from "./backends/wasm/guests.ts";
export { missingWasm } from "./backends/wasm/probe.ts";
export { serveThread, threadName } from "./backends/wasm/worker.ts";
export { Workspace } from "./backends/workspace.ts";
export type { CompileHistory, FuncHistory } from "./passes/compile-history.ts";
export { chooseExperts, type ExpertChoice, type ExpertUse, type ExpertWish } from "./passes/prune/experts.ts";
export {
  checkKeptExperts,
  checkPruneOptions,
  type KeptExperts,
  type PruneOptions,
  pruneSentences,
} from "./passes/prune/policy.ts";
export {
  arePairs,
  canBeSparse,
  groupLength,
  keepLargest,
  parseSparsity,
  type Sparsity,
} from "./passes/prune/sparsity.ts";
export { type PackedWeight, packedWeights } from "./passes/quantize/packed.ts";
export type { QuantizeOptions, WeightFormat } from "./passes/quantize/policy.ts";
export {
  checkOverrides,
  checkQuantizeOptions,
  isMatrixOfLayers,
  overridesFor,
  quantizeSentences,
  scaleGroup,
} from "./passes/quantize/policy.ts";
export { isInputScale } from "./passes/quantize/quantize.ts";
export { type WeightForm, weightForms } from "./passes/quantize/weight-forms.ts";

/** Backends that run wherever JavaScript does. */
const everywhere = { js: jsBackend, wasm: wasmBackend } as const satisfies Record<string, Backend>;
/** Engines of TensorFlow.js, whose packages are imported when one is asked for. */
const engines = {
  "tfjs-cpu": tfjsBackend("tfjs-cpu", "cpu"),
  "tfjs-wasm": tfjsBackend("tfjs-wasm", "wasm"),
  "tfjs-webgpu": tfjsBackend("tfjs-webgpu", "webgpu", webgpuBackend.prepare),
  /** Whole steps as graphs. */
  tensorflow: graphBackend("tensorflow"),
  "tensorflow-gpu": graphBackend("tensorflow-gpu"),
  /** The same engines op by op. */
  "tensorflow-ops": tfjsBackend("tensorflow-ops", "tensorflow"),
  "tensorflow-gpu-ops": tfjsBackend("tensorflow-gpu-ops", "tensorflow-gpu"),
} as const satisfies Record<string, Backend>;
const backends = { ...everywhere, webgpu: webgpuBackend, ...engines } as const satisfies Record<string, Backend>;
export type BackendName = keyof typeof backends;
export const backendNames = Object.keys(everywhere) as readonly (keyof typeof everywhere)[]; // the keys of the table above
/** Those that need a device, such as a GPU, too. */
export const allBackendNames = Object.keys(backends) as readonly BackendName[]; // the keys of the table above

export interface CompileOptions extends PassOptions {
  /** False runs only what is needed to run at all: the baseline that must always work. Default true. */
  readonly optimize?: boolean;
  /** False gives every op a kernel of its own, none of them merged. Default: `optimize`. */
  readonly fuse?: boolean;
  /** Also takes names of kernel passes, `fuse` and `merge-launches` (see `passNames`). */
  readonly disabledPasses?: readonly string[];
  /** Quantisation of weights and activations. Default: none. */
  readonly quantize?: QuantizeOptions;
  /** Weights are as `prune` with sparsity 2:4 makes them: see `PipelineOptions`. Default: false. */
  readonly pairs?: boolean;
  /** For calibration: instead of quantising, return how large inputs are; see `observe`. */
  readonly observe?: boolean;
  /** Called with what was compiled, for reports. */
  readonly onCompiled?: (executable: Executable) => void;
}

/** What came of each phase, for inspection and reports. */
export interface CompileReport {
  /** Milliseconds of each phase. */
  readonly ms: { readonly passes: number; readonly lower: number; readonly plan: number };
  readonly kernels: number;
  readonly launches: number;
  /** Bytes of all buffers of all launches of a step, weights included. */
  readonly bytes: number;
  readonly arenaBytes: number;
  /** The quantisation asked for, which may change results. */
  readonly quantize: QuantizeOptions | null;
  /** What each pass, fusion and merging did. */
  readonly history: CompileHistory;
}

/** A module compiled as far as its plan: nothing device-specific but the target record, no memory, no weights. */
export interface Compiled {
  readonly target: Target;
  /** The module after the tensor passes. */
  readonly module: Module;
  readonly plan: Plan;
  readonly report: CompileReport;
}

export interface Executable extends Compiled {
  readonly device: Device;
  readonly program: Program;
  /** Binds memory and weights for repeated runs. */
  readonly instantiate: (memory: ProgramMemory) => Instance;
  /** Runs once on copies of `inputs`. Weights are evaluated at the first run and kept. */
  readonly run: (inputs: readonly Tensor[], weights?: WeightSource) => Promise<Tensor[]>;
}

export function findBackend(name: string): Backend {
  if (!Object.hasOwn(backends, name)) {
    throw new UnsupportedError("backend", `there is no backend ${JSON.stringify(name)}`, {
      hint: didYouMean(name, allBackendNames) ?? `Backends: ${allBackendNames.join(", ")}.`,
    });
  }
  return backends[name as BackendName]; // checked above
}

/** Opens a device of the backend of that name. */
export function openDevice(backendName: string, options?: DeviceOptions): Device {
  return findBackend(backendName).open(options);
}

/** The same for backends that must ask for their device, such as a GPU, first. */
export async function prepareDevice(backendName: string, options: DeviceOptions = {}): Promise<Device> {
  const backend = findBackend(backendName);
  return backend.open((await backend.prepare?.(options)) ?? options);
}

/** What computes unless told otherwise, wherever the engine can. */
export const defaultBackend: BackendName = "wasm";

/** A device of the default backend, or of plain JavaScript, which says why, where the engine lacks what that needs. */
export function openDefaultDevice(options?: DeviceOptions, missing: string | null = missingWasm()): Device {
  if (missing === null) return wasmBackend.open(options);
  const device = jsBackend.open();
  return { ...device, summary: `${device.summary} (${missing})` };
}

/** Compiles for a device, or for one of its own of the backend of that name. */
export function compile(module: Module, on: string | Device, options: CompileOptions = {}): Executable {
  const device = typeof on === "string" ? openDevice(on) : on;
  return loadCompiled(compileToPlan(module, device.target, options), device, options);
}

/** The rest of `compile`, for what was compiled for the device's target with the same options. */
export function loadCompiled(compiled: Compiled, device: Device, options: CompileOptions = {}): Executable {
  const program = device.load(compiled.plan);
  let kept: { source: WeightSource | undefined; instance: Instance } | undefined;
  const run = async (inputs: readonly Tensor[], source?: WeightSource): Promise<Tensor[]> => {
    if (kept === undefined || kept.source !== source) {
      const weight = evaluateWeights(compiled.plan, source, device.hold);
      kept = { source, instance: program.instantiate({ weight }) };
    }
    return runInstance(compiled.plan, kept.instance, inputs);
  };
  const instantiate = (memory: ProgramMemory) => program.instantiate(memory);
  const executable: Executable = { ...compiled, device, program, instantiate, run };
  options.onCompiled?.(executable);
  return executable;
}

/** Everything up to the plan, for a target whose backend may not exist here. */
export function compileToPlan(module: Module, target: Target, options: CompileOptions = {}): Compiled {
  const { optimize = true, verify = 1, quantize, pairs = false, observe = false } = options;
  const enabled = ({ name }: { readonly name: string }) => !options.disabledPasses?.includes(name);
  const fuse = (options.fuse ?? optimize) && enabled({ name: fusePass });
  // A kernel of its own for each widening would write the weights in f32 in every step.
  const widens = (fuse || target.level === "tensor") && enabled({ name: holdPass });
  const narrow = (widens ? target.narrowWeights : undefined) ?? null;
  const start = performance.now();
  const pipeline = tensorPasses(target, { optimize, ...(quantize && { quantize }), pairs, observe, narrow });
  const held = (weights: readonly Node[]) => heldAsStored(weights, narrow, quantize);
  const recorder = recordHistory(held);
  const weightsOf = (func: Func) =>
    optimize ? held(weightExpressions(func)) : topoOrder(func.outs).filter((node) => isOp(node, "weight")); // the weights as they are stored
  const instruments = [recorder.instrument, ...(options.instruments ?? [])];
  const tensors = runPasses(module, pipeline, target, { ...options, instruments });
  const passed = performance.now();
  // Ops are run as they are, or become kernels first.
  const lowered =
    target.level === "tensor"
      ? null
      : [...tensors.funcs.values()].map((func) =>
          lower(func, target, {
            weights: weightsOf(func),
            fuse,
            merge: fuse && enabled({ name: mergePass }),
            passes: kernelPasses(target, { optimize }).filter(enabled),
            verify: verify >= 1,
            recorder,
          }),
        );
  const lowering = performance.now();
  const plan = lowered === null ? planTensors(tensors, weightsOf) : planMemory(tensors, lowered);
  if (verify >= 1 && lowered !== null) verifyPlan(plan);
  const ms = { passes: passed - start, lower: lowering - passed, plan: performance.now() - lowering };
  const counts = { kernels: plan.kernels.length, ...totals(plan) };
  const report = { ms, ...counts, quantize: quantize ?? null, history: recorder.history(tensors) };
  return { target, module: tensors, plan, report };
}

function totals(plan: Plan): Pick<CompileReport, "launches" | "bytes" | "arenaBytes"> {
  const { launches, bytes, arenaBytes } = planTotals(plan);
  return { launches, bytes, arenaBytes };
}

interface LowerOptions {
  /** What the loader evaluates. */
  readonly weights: readonly Node[];
  readonly fuse: boolean;
  readonly merge: boolean;
  readonly passes: readonly KernelPass[];
  readonly verify: boolean;
  readonly recorder: HistoryRecorder;
}

function lower(func: Func, target: Target, options: LowerOptions): LoweredFunc {
  const { weights, fuse, merge, passes, verify, recorder } = options;
  const single = lowerFunc(func, target, { enabled: fuse, weights: new Set(weights) }, (fusion) =>
    recorder.fused(func, fusion),
  );
  const merged = merge ? mergeLaunches(func, single, target, (report) => recorder.merged(func, report)) : single;
  recorder.lowered(func, single, merged);
  const kernels = merged.map((each) => {
    const kernel = passes.reduce((current, pass) => pass.run(current), each.kernel);
    if (verify) verifyKernel(kernel, { scratchBytes: target.scratchBytes });
    return { ...each, kernel };
  });
  return { func, kernels, weights };
}

async function runInstance(plan: Plan, instance: Instance, inputs: readonly Tensor[]): Promise<Tensor[]> {
  const entry = plan.funcs.get(plan.entry)!;
  if (inputs.length !== entry.params.length)
    throw new InputError(`@${entry.name}`, `expected ${entry.params.length} inputs, got ${inputs.length}`);
  for (const [i, { name, type }] of entry.params.entries()) {
    const input = inputs[i]!;
    if (!sameType(input.type, type))
      throw new IrError(`@${entry.name}`, `input ${name}: expected ${showType(type)}, got ${showType(input.type)}`);
    instance.params[i]!.set(input.data);
  }
  await instance.run();
  return entry.results.map(({ type }, i) => tensorFrom(type, instance.results[i]!.slice()));
}
