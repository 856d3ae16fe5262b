/**
 * `ciuic bench`: how fast a loaded model is, what keeps it from being faster, and where a step's time goes. Rounds of a prompt
 * and an answer of one sequence, greedy, after rounds that do not count, in which the engine is still optimising.
 */
import { InputError, UnsupportedError } from "../../ir/errors.ts";
import type { GenerationResult } from "../engine/generate.ts";
import type { Model } from "../model.ts";
import type { BackendProbe } from "../probe/backend-probe.ts";
import { ModelRunner } from "../steps/model-runner.ts";
import { someTokens } from "../steps/single-batch.ts";
import { type Limits, limitsOfToken } from "./limits-of-token.ts";
import { profileAhead, profileStep, type StepProfile } from "./profile-step.ts";

export interface BenchOptions {
  /** Default 128. */
  readonly promptTokens?: number | undefined;
  /** Tokens of the answer, at least 2. Default 64. */
  readonly tokens?: number | undefined;
  /** Rounds that count. Default 5. */
  readonly rounds?: number | undefined;
  /** Seconds of rounds that do not count; one at least. Default 1. */
  readonly warmup?: number | undefined;
  /** Whether kernels are timed too. Default false. */
  readonly profile?: boolean | undefined;
  /** What was probed of this machine, for what limits the model; asked for at the end. Default: nothing. */
  readonly probes?: (() => Promise<readonly BackendProbe[]>) | undefined;
  /** Threads that were asked for, by which the row of `probes` is found. */
  readonly threads?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** What rounds gave. */
export interface Spread {
  readonly median: number;
  readonly least: number;
  readonly most: number;
  /** In the order in which they were run. */
  readonly rounds: readonly number[];
}

export interface BenchReport {
  readonly schema: "ciuic-bench-1";
  readonly model: string;
  readonly backend: string;
  /** `device.summary`. */
  readonly device: string;
  /** What was changed on purpose and may change answers. */
  readonly lossy: readonly string[];
  readonly request: { readonly promptTokens: number; readonly tokens: number; readonly rounds: number };
  /** Seconds from the request to its first token: of the first request of all, which compiles the prompt's steps, and then. */
  readonly firstToken: { readonly cold: number; readonly warm: Spread };
  /** Tokens per second: of the prompt, and of the answer after its first token. */
  readonly prompt: Spread;
  readonly decode: Spread;
  /** Bytes: weights as held, caches, values of the step of one token (null where nothing is compiled), and all that a device says it holds. */
  readonly memory: {
    readonly weights: number;
    readonly caches: number;
    readonly values: number | null;
    readonly device: number | null;
  };
  /** Null under the interpreter and over a mesh. */
  readonly limits: Limits | null;
  /** Null where it was not asked for. */
  readonly profile: ModelProfile | { readonly missing: string } | null;
}

export interface ModelProfile {
  readonly missing: null;
  readonly prompt: StepProfile;
  readonly decode: StepProfile;
}

const defaults = { promptTokens: 128, tokens: 64, rounds: 5, warmup: 1 } as const;

/** @throws InputError for sizes that make no sense */
export async function benchModel(model: Model, options: BenchOptions = {}): Promise<BenchReport> {
  const request = checkBench(options);
  const { device, memory, runner } = model;
  const compiled = runner instanceof ModelRunner ? runner : null;
  const { cold, results } = await runRounds(model, request, options);
  const spread = (value: (result: GenerationResult) => number) => spreadOf(results.map(value));
  const decode = spread(({ timings }) => timings.tokensPerSecond ?? 0);
  return {
    schema: "ciuic-bench-1",
    model: model.name,
    backend: backendOf(model),
    device: device?.summary ?? "op by op, the definition of every op",
    lossy: model.lossy,
    request,
    firstToken: { cold: firstToken(cold), warm: spread(firstToken) },
    prompt: spread(({ timings }) => request.promptTokens / ((timings.prefillMs ?? 0) / 1000)),
    decode,
    memory: {
      ...memory,
      values: compiled === null ? null : model.program.report.arenaBytes,
      device: device?.heldBytes?.() ?? null,
    },
    limits: await limitsOfToken(model, decode.median, (await options.probes?.()) ?? [], options.threads),
    profile: options.profile ? await profileModel(runner, request, options) : null,
  };
}

/** The first request of all, and the rounds that count. Each prompt begins with another token, so that none finds rows of another. */
async function runRounds(
  model: Model,
  { promptTokens, tokens, rounds }: BenchReport["request"],
  { warmup = defaults.warmup, signal }: BenchOptions,
): Promise<{ cold: GenerationResult; results: GenerationResult[] }> {
  let seed = 0;
  const round = async (): Promise<GenerationResult> => {
    const ids = someTokens(promptTokens, model.config.vocab_size, seed++);
    const { result } = model.generate(ids, { maxTokens: tokens, temperature: 0, ignoreEos: true, signal });
    const done = await result;
    signal?.throwIfAborted();
    return done;
  };
  const cold = await round();
  const until = performance.now() + 1000 * warmup;
  do await round();
  while (performance.now() < until);
  const results: GenerationResult[] = [];
  while (results.length < rounds) results.push(await round());
  return { cold, results };
}

/** A prompt's step and a token's, in the middle of the answer. */
async function profileModel(
  runner: Model["runner"],
  { promptTokens, tokens }: BenchReport["request"],
  { warmup }: BenchOptions,
): Promise<NonNullable<BenchReport["profile"]>> {
  if (!(runner instanceof ModelRunner)) return { missing: "nothing is compiled for one device: there are no kernels" };
  const after = promptTokens + (tokens >> 1);
  const chunk = Math.min(promptTokens, runner.sizes.maxBatchTokens);
  const time = warmup === undefined ? {} : { warmup };
  try {
    const prompt = await profileStep(runner, { tokens: chunk, after: promptTokens - chunk, ...time });
    const last = runner.sizes.maxContext - 1;
    const steps = Math.min(mostAhead, last);
    const ahead = await profileAhead(runner, Math.min(after, last - steps), { steps });
    return {
      missing: null,
      prompt,
      decode: ahead ?? (await profileStep(runner, { tokens: 1, after, steps: 16, ...time })),
    };
  } catch (error) {
    if (!(error instanceof UnsupportedError)) throw error;
    return { missing: error.message.replaceAll("\n", " ") };
  }
}

const mostAhead = 16;

function backendOf({ device, runner }: Model): string {
  return device?.target.name ?? ("lanes" in runner ? "mesh" : "interpreter");
}

function firstToken({ timings }: GenerationResult): number {
  return (timings.firstTokenMs ?? 0) / 1000;
}

function spreadOf(rounds: readonly number[]): Spread {
  const sorted = rounds.toSorted((a, b) => a - b);
  const [low, high] = [sorted[(sorted.length - 1) >> 1]!, sorted[sorted.length >> 1]!];
  return { median: (low + high) / 2, least: sorted[0]!, most: sorted.at(-1)!, rounds };
}

/** The sizes with their defaults. @throws InputError naming the option */
export function checkBench(options: BenchOptions): BenchReport["request"] {
  const checked = (name: "promptTokens" | "tokens" | "rounds", least: number, most: number): number => {
    const value = options[name] ?? defaults[name];
    if (Number.isInteger(value) && value >= least && value <= most) return value;
    throw new InputError(name, `expected a whole number from ${least} to ${most}, got ${value}`);
  };
  return {
    promptTokens: checked("promptTokens", 1, 2 ** 20),
    tokens: checked("tokens", 2, 2 ** 20),
    rounds: checked("rounds", 1, 1000),
  };
}
