/** How the next token is chosen from logits: the options, their ranges, and the checks that name a bad one. */

import { didYouMean, InputError, showValue } from "../../ir/errors.ts";

/** Every option may be left out, which turns it off. `undefined` counts as left out. */
export interface SamplingOptions {
  /** Divides the logits; 0 means greedy: the largest logit, the lowest id among equals. Default 1. */
  readonly temperature?: number | undefined;
  /** Keep exactly the k most likely tokens (lowest ids among equals); k >= 1. */
  readonly topK?: number | undefined;
  /** Keep the smallest set of most likely tokens whose probability reaches p; 0 < p <= 1. */
  readonly topP?: number | undefined;
  /** Keep tokens at least `minP` times as likely as the likeliest; 0 <= minP <= 1. */
  readonly minP?: number | undefined;
  /** Divides positive and multiplies negative logits of tokens seen in prompt or output; > 0, 1 is neutral. */
  readonly repetitionPenalty?: number | undefined;
  /** Subtracted from logits of tokens seen in the output; -2 to 2. */
  readonly presencePenalty?: number | undefined;
  /** Subtracted from logits once per occurrence in the output; -2 to 2. */
  readonly frequencyPenalty?: number | undefined;
  /** Token id to a number, -100 to 100, added to its logit. */
  readonly logitBias?: Readonly<Record<string, number>> | ReadonlyMap<number, number> | undefined;
  /** Safe integer. The same seed, prompt, options and model give the same tokens; left out, one is drawn and reported. */
  readonly seed?: number | undefined;
}

/** Options with every value present; null means off. */
export interface CheckedSampling {
  readonly temperature: number;
  readonly topK: number | null;
  readonly topP: number | null;
  readonly minP: number | null;
  readonly repetitionPenalty: number;
  readonly presencePenalty: number;
  readonly frequencyPenalty: number;
  readonly logitBias: ReadonlyMap<number, number>;
  readonly seed: number | null;
}

export const samplingOptionNames = [
  "temperature",
  "topK",
  "topP",
  "minP",
  "repetitionPenalty",
  "presencePenalty",
  "frequencyPenalty",
  "logitBias",
  "seed",
] as const satisfies readonly (keyof SamplingOptions)[];

/** Checks values and ranges. Throws InputError naming field, range and what was found. */
export function checkSampling(options: SamplingOptions, vocabSize: number): CheckedSampling {
  return {
    temperature: checkNumber(options.temperature, "temperature", { least: 0 }) ?? 1,
    topK: checkInteger(options.topK, "topK", { least: 1, hint: "Leave topK out to keep every token." }),
    topP: checkNumber(options.topP, "topP", { above: 0, most: 1, hint: "Leave topP out to keep every token." }),
    minP: checkNumber(options.minP, "minP", { least: 0, most: 1 }),
    repetitionPenalty: checkNumber(options.repetitionPenalty, "repetitionPenalty", { above: 0 }) ?? 1,
    presencePenalty: checkNumber(options.presencePenalty, "presencePenalty", { least: -2, most: 2 }) ?? 0,
    frequencyPenalty: checkNumber(options.frequencyPenalty, "frequencyPenalty", { least: -2, most: 2 }) ?? 0,
    logitBias: checkLogitBias(options.logitBias, vocabSize),
    seed: checkInteger(options.seed, "seed", { least: Number.MIN_SAFE_INTEGER }),
  };
}

/** Bounds of a numeric option; `above` excludes the bound, `least` and `most` include it. */
export interface NumberRange {
  readonly least?: number;
  readonly above?: number;
  readonly most?: number;
  readonly hint?: string;
}

/** A finite number in range, or null when left out. Throws InputError. */
export function checkNumber(value: unknown, field: string, range: NumberRange): number | null {
  if (value === undefined) return null;
  const details = range.hint === undefined ? {} : { hint: range.hint };
  if (typeof value !== "number" || !Number.isFinite(value) || !inRange(value, range))
    throw new InputError(
      field,
      `out of range: expected a number ${showRange(range)}, got ${showNumber(value)}`,
      details,
    );
  return value;
}

/** A safe integer in range, or null when left out. Throws InputError. */
export function checkInteger(value: unknown, field: string, range: NumberRange): number | null {
  if (value === undefined) return null;
  const details = range.hint === undefined ? {} : { hint: range.hint };
  if (typeof value !== "number" || !Number.isSafeInteger(value) || !inRange(value, range))
    throw new InputError(
      field,
      `out of range: expected an integer ${showRange(range)}, got ${showNumber(value)}`,
      details,
    );
  return value;
}

/** Refuses names that are not options, with the nearest that is: a misspelt option silently ignored is worse than an error. */
export function checkOptionNames(options: object, names: readonly string[], where: string): void {
  for (const name of Object.keys(options)) {
    if (names.includes(name)) continue;
    const hint = didYouMean(name, names) ?? `Options are ${names.join(", ")}.`;
    throw new InputError(where, `unknown option: expected a known name, got ${showValue(name)}`, { hint });
  }
}

function checkLogitBias(bias: SamplingOptions["logitBias"], vocabSize: number): ReadonlyMap<number, number> {
  if (bias === undefined) return new Map();
  if (typeof bias !== "object" || bias === null || Array.isArray(bias))
    throw new InputError("logitBias", `wrong type: expected an object of token id to number, got ${showValue(bias)}`);
  const checked = new Map<number, number>();
  for (const [key, value] of bias instanceof Map ? bias : Object.entries(bias)) {
    const id = typeof key === "string" && /^(0|[1-9]\d{0,9})$/.test(key) ? Number(key) : key;
    if (typeof id !== "number" || !Number.isInteger(id) || id < 0 || id >= vocabSize)
      throw new InputError("logitBias", `no such token: expected ids 0 to ${vocabSize - 1}, got ${showValue(key)}`);
    checked.set(id, checkNumber(value ?? null, `logitBias.${id}`, { least: -100, most: 100 }) ?? 0);
  }
  return checked;
}

function inRange(value: number, { least = -Infinity, above = -Infinity, most = Infinity }: NumberRange): boolean {
  return value >= least && value > above && value <= most;
}

function showRange({ least, above, most }: NumberRange): string {
  const low = above !== undefined ? `above ${above}` : `of at least ${least}`;
  return most === undefined ? low : `${low} and at most ${most}`;
}

/** JSON shows NaN and infinities as null; a message must not. */
function showNumber(value: unknown): string {
  return typeof value === "number" ? String(value) : showValue(value);
}
