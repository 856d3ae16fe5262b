/** Where a step's time goes: its kernels, timed launch by launch, or replayed by a GPU, whose launches overlap otherwise. */
import type { RunTimes } from "../../compile.ts";
import { UnsupportedError } from "../../ir/errors.ts";
import { bucketKey, stepSizeOf } from "../engine/bucket-ladder.ts";
import { planSampling } from "../sampling/sampler.ts";
import { checkSampling, type SamplingOptions } from "../sampling/sampling-options.ts";
import type { ModelRunner } from "../steps/model-runner.ts";
import { singleBatch, someTokens } from "../steps/single-batch.ts";
import type { AheadRow, RaggedBatch } from "../steps/step.ts";
import { KernelProfile, type KernelTime, timesOfRun } from "./kernel-profile.ts";

export interface StepProfile {
  /** Tokens that the step computes, and tokens in the cache before them. */
  readonly tokens: number;
  readonly after: number;
  /** How kernels were timed, for people. */
  readonly how: string;
  /** Of one step, slowest first; all launches of a kernel together. */
  readonly kernels: readonly KernelShare[];
  /** Milliseconds of both sides of a GPU, for a step among others; null elsewhere. */
  readonly sides: Omit<RunTimes, "kernels"> | null;
}

export interface KernelShare extends KernelTime {
  /** Of the time of all kernels, from 0 to 1. */
  readonly share: number;
}

export interface ProfiledStep {
  readonly tokens: number;
  /** Tokens in the cache. Default 0. */
  readonly after?: number;
  /** Steps that are counted. Default 4. */
  readonly steps?: number;
  /** Seconds of steps before them, while the engine optimises; three steps at least. Default 0.5. */
  readonly warmup?: number;
}

/**
 * Every launch by itself, by the clock of its device; `batch` goes before `step.tokens`.
 * @throws UnsupportedError where the device does not time its kernels
 */
export async function profileStep(
  runner: ModelRunner,
  { tokens, after = 0, steps = 4, warmup = 0.5 }: ProfiledStep,
  batch: RaggedBatch = singleBatch(runner.sizes, someTokens(tokens, runner.sizes.vocabSize), { start: after }),
): Promise<StepProfile> {
  const profile = new KernelProfile();
  const profiled = runner.profiled(profile, batch.blockTables.length);
  try {
    const { bucket } = profiled.compile(stepSizeOf(batch));
    const until = performance.now() + 1000 * warmup;
    for (let i = 0; i < 3 || performance.now() < until; i++) await profiled.step(batch);
    profile.reset();
    for (let i = 0; i < steps; i++) await profiled.step(batch);
    const kernels = profile.times(bucketKey(bucket)).map((time) => ({
      ...time,
      launches: time.launches / steps,
      ms: time.ms / steps,
      bytes: time.bytes / steps,
    }));
    if (kernels.length === 0) throw untimed(runner);
    const how = `${steps} steps, every launch timed by itself`;
    return { tokens, after, how, kernels: withShares(kernels), sides: null };
  } finally {
    profiled.release();
  }
}

/** Of decoding on the device: its kernels replayed, and both sides of a step. Null where it does not decode by itself. */
export async function profileAhead(
  { ahead, sizes }: ModelRunner,
  after: number,
  { steps, sampling = { temperature: 0 } }: { readonly steps?: number; readonly sampling?: SamplingOptions } = {},
): Promise<StepProfile | null> {
  if (ahead === undefined) return null;
  const times = Math.min(steps ?? ahead.maxSteps, ahead.maxSteps);
  const rows: AheadRow[] = [{ sampling: planSampling(checkSampling(sampling, sizes.vocabSize)), position: after + 1 }];
  const batch = singleBatch(sizes, someTokens(1, sizes.vocabSize), { start: after, more: times });
  const found = await ahead.measure(batch, rows, times);
  if (found === undefined) return null;
  const { kernels: _, ...sides } = found.times;
  const kernels = withShares(timesOfRun(found.plan, found.times));
  return {
    tokens: 1,
    after,
    how: `kernels replayed one after another, ${times} steps in a submission`,
    kernels,
    sides,
  };
}

function withShares(kernels: readonly KernelTime[]): KernelShare[] {
  const total = kernels.reduce((sum, { ms }) => sum + ms, 0);
  return kernels.map((time) => ({ ...time, share: total === 0 ? 0 : time.ms / total }));
}

/** Where the time of a step among others goes on a GPU and on this side of it. */
export function showSides({ recordMs, finishMs, submitMs, deviceMs }: Omit<RunTimes, "kernels">): string {
  const us = (ms: number) => (1000 * ms).toFixed(1);
  const host = recordMs + finishMs + submitMs;
  return `a step among others: device ${us(deviceMs)} us; this side ${us(host)} us: recording ${us(recordMs)}, finishing ${us(finishMs)}, submitting ${us(submitMs)}`;
}

function untimed({ target: { name } }: ModelRunner): UnsupportedError {
  const why = name === "webgpu" ? "this GPU gives no timestamps" : "launches are not timed one by one";
  return new UnsupportedError(name, why, { hint: "Whole steps are timed by the clock." });
}
