/**
 * What the optimizer did with a model and what came of it, as plain data: the hardware, every pass and what it changed,
 * fusions made and those that nearly were, bytes before and after, the speed to expect and the speed measured.
 */
import {
  type Compiled,
  type Executable,
  type FuncHistory,
  quantizeSentences,
  type WeightForm,
  weightForms,
} from "../../compile.ts";
import { heldBytes } from "../../ir/plan.ts";
import { Model } from "../model.ts";
import { type ProgramSummary, summarizeProgram } from "./program-summary.ts";
import { tokenCost } from "./token-cost.ts";

export interface OptimizationSummary extends ProgramSummary {
  readonly hardware: {
    readonly backend: string;
    /** `device.summary`, or what it was compiled for. */
    readonly device: string;
    readonly why: string;
    /** Sentences with the numbers that rests on, and why not other backends. */
    readonly reasons: readonly string[];
  };
  /** What was changed on purpose and may change answers, such as formats of weights; empty where nothing was. */
  readonly lossy: readonly string[];
  readonly weights: {
    /** Bytes by dtype: as the model has them, and as the program holds them, those of all layers. */
    readonly stored: Readonly<Record<string, number>>;
    readonly held: Readonly<Record<string, number>>;
    /** Which are in which form and why, for a quantised model; else empty. */
    readonly forms: readonly WeightForm[];
  };
  readonly functions: readonly FuncHistory[];
  readonly totals: StepTotals;
  readonly speed: Speed;
}

/** Of one step, functions counted as often as they are called. */
export interface StepTotals {
  /** Launches and bytes if every op were a kernel of its own, after fusion, and in the end. */
  readonly unfused: { readonly launches: number; readonly bytes: number };
  readonly fused: { readonly launches: number; readonly bytes: number };
  readonly merged: { readonly launches: number; readonly bytes: number };
}

export interface Speed {
  /** Bytes of weights that a step reads, rows that are not used left out. */
  readonly readBytes: number;
  readonly launches: number;
  /** Scalar operations, loads and stores of a step, at most. */
  readonly operations: number;
  /** Bytes per second; null where nobody measured. */
  readonly bandwidth: number | null;
  readonly secondsPerLaunch: number;
  /** Steps per second if reading weights and launching were all: an upper bound. Null without a bandwidth. */
  readonly most: number | null;
  /** Tokens per second by the figures that were measured when the backend was chosen, arithmetic included. */
  readonly expected: number | null;
  /** Tokens per second of one sequence, greedy; null where it did not run. */
  readonly measured: number | null;
}

export interface SummaryOptions {
  /** Why this backend. */
  readonly why?: string;
  readonly reasons?: readonly string[];
  readonly lossy?: readonly string[];
  /** Bytes per second to expect reading to take; a loaded model measures it. */
  readonly bandwidth?: number;
  /** Tokens per second to expect; by default what the choice of the backend was made by. */
  readonly expected?: number;
  /** For a loaded model: generate some tokens to see how fast it is. Default true. */
  readonly measure?: boolean;
}

/** What starting a kernel costs, roughly: a barrier between threads, or a dispatch. */
const secondsPerLaunch: Readonly<Record<string, number>> = { webgpu: 2e-6 };
const oneMicrosecond = 1e-6;
const measuredTokens = 48;

/** The summary of a loaded model (of its step for one token), or of a compiled module. */
export async function optimizationSummary(
  subject: Model | Compiled,
  options: SummaryOptions = {},
): Promise<OptimizationSummary> {
  if (!(subject instanceof Model)) return summarize(subject, options, null);
  const { measure = true } = options;
  const measured = measure ? await tokensPerSecond(subject) : null;
  const bandwidth = options.bandwidth ?? (measure ? await subject.device?.measureReading?.() : undefined);
  const { lossy = subject.lossy, why = subject.choice?.why ?? "asked for" } = options;
  const reasons = options.reasons ?? subject.choice?.reasons ?? [];
  // A backend that refused the model was followed by another.
  const chosen = subject.choice?.backend === subject.device?.target.name ? subject.choice?.chosen : undefined;
  const expected = options.expected ?? chosen?.speed.decode;
  const found = { ...(bandwidth !== undefined && { bandwidth }), ...(expected !== undefined && { expected }) };
  return summarize(subject.program, { ...options, lossy, why, reasons, ...found }, measured);
}

/** Of the second of two runs: in the first the engine is still compiling what was emitted. */
async function tokensPerSecond(model: Model): Promise<number | null> {
  const maxTokens = Math.min(measuredTokens, model.runner.sizes.maxContext - 2);
  const run = () => model.generate([0, 0], { maxTokens, temperature: 0, ignoreEos: true }).result;
  await run();
  return (await run()).timings.tokensPerSecond;
}

function summarize(compiled: Compiled | Executable, options: SummaryOptions, measured: number | null) {
  const { plan, report, target } = compiled;
  const { built, funcs } = report.history;
  const device = "device" in compiled ? compiled.device.summary : `${target.name}, compiled without a device`;
  const { weightBytes: readBytes, launches, operations } = tokenCost(plan);
  const bandwidth = options.bandwidth ?? null;
  const perLaunch = secondsPerLaunch[target.name] ?? oneMicrosecond;
  const most = bandwidth === null ? null : 1 / (readBytes / bandwidth + launches * perLaunch);
  const { expected = null } = options;
  const cost = { readBytes, launches, operations, bandwidth, secondsPerLaunch: perLaunch };
  const summary: OptimizationSummary = {
    ...summarizeProgram(compiled),
    hardware: { backend: target.name, device, why: options.why ?? "asked for", reasons: options.reasons ?? [] },
    lossy: options.lossy ?? quantizeSentences(report.quantize ?? undefined),
    weights: {
      stored: built.storedBytes,
      held: heldBytes(plan),
      forms: report.quantize === null ? [] : weightForms(plan, report.quantize),
    },
    functions: funcs,
    totals: {
      unfused: total(funcs, ({ ops, opBytes }) => ({ launches: ops, bytes: opBytes })),
      fused: total(funcs, ({ kernels, kernelBytes }) => ({ launches: kernels, bytes: kernelBytes })),
      merged: { launches: report.launches, bytes: report.bytes },
    },
    speed: { ...cost, most, expected, measured },
  };
  return summary;
}

function total(
  funcs: readonly FuncHistory[],
  each: (func: FuncHistory) => { readonly launches: number; readonly bytes: number },
): { readonly launches: number; readonly bytes: number } {
  let [launches, bytes] = [0, 0];
  for (const func of funcs) {
    const own = each(func);
    launches += func.calls * own.launches;
    bytes += func.calls * own.bytes;
  }
  return { launches, bytes };
}
