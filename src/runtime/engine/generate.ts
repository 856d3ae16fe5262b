/** Options and results of generation, as the library shows them, and the check of the options. */

import { InputError, showValue } from "../../ir/errors.ts";
import {
  type CheckedSampling,
  checkInteger,
  checkOptionNames,
  checkSampling,
  type SamplingOptions,
  samplingOptionNames,
} from "../sampling/sampling-options.ts";
import type { TextKind } from "../text/reasoning.ts";
import { checkStops } from "../text/stop.ts";

/** Every option may be left out. The sampling options are documented in `SamplingOptions`. */
export interface GenerateOptions extends SamplingOptions {
  /** Most tokens to generate, at least 1. Default: as many as the context and the cache have room for. */
  readonly maxTokens?: number | undefined;
  /** The text ends before the first of these. */
  readonly stop?: string | readonly string[] | undefined;
  /** Generation ends at any of these tokens, which are not shown; besides the model's own end tokens. */
  readonly stopTokenIds?: readonly number[] | undefined;
  /** Go on after the model's end tokens, which are sampled like others. Default false. */
  readonly ignoreEos?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** A piece of streamed text, never empty. */
export interface GeneratedPart {
  readonly text: string;
  readonly kind: TextKind;
  /** The tokens that came since the part before; several when characters or tags were incomplete. */
  readonly tokens: readonly number[];
}

export type FinishReason = "stop" | "length" | "abort";

export interface Usage {
  readonly promptTokens: number;
  /** Tokens sampled, a stop token included. */
  readonly completionTokens: number;
  /** Of those, the ones inside reasoning, tags included. */
  readonly reasoningTokens: number;
  /** Prompt tokens whose cache rows were shared and not computed again. */
  readonly cachedTokens: number;
}

/** Milliseconds; null where it did not get that far. */
export interface Timings {
  /** From the request to its first step. */
  readonly queueMs: number | null;
  /** From its first step to its first token. */
  readonly prefillMs: number | null;
  /** From the request to its first token. */
  readonly firstTokenMs: number | null;
  /** From its first token to its last. */
  readonly decodeMs: number | null;
  /** Tokens after the first per second of decodeMs; null with fewer than two tokens. */
  readonly tokensPerSecond: number | null;
}

export interface GenerationResult {
  /** `stop`: a stop string or token came; `length`: maxTokens were generated; `abort`: the request was given up. */
  readonly finishReason: FinishReason;
  /** The stop string that ended the text, if one did. */
  readonly stopString?: string;
  /** The stop token that ended the generation, if one did. */
  readonly stopToken?: number;
  /** Every token sampled, in order, a stop token and tokens of a stop string included. */
  readonly tokens: readonly number[];
  /** The seed used, drawn or given: with it the same request gives the same tokens. */
  readonly seed: number;
  readonly usage: Usage;
  readonly timings: Timings;
}

/** Options checked; null means left out. */
export interface CheckedOptions {
  readonly maxTokens: number | null;
  readonly sampling: CheckedSampling;
  readonly stop: readonly string[];
  readonly stopTokenIds: readonly number[];
  readonly ignoreEos: boolean;
  readonly signal: AbortSignal | null;
}

const optionNames = [...samplingOptionNames, "maxTokens", "stop", "stopTokenIds", "ignoreEos", "signal"];

/** Checks every option. Throws InputError naming the field, what was expected and what was found. */
export function checkGenerateOptions(options: GenerateOptions, vocabSize: number): CheckedOptions {
  if (typeof options !== "object" || options === null)
    throw new InputError("options", `wrong type: expected an object, got ${showValue(options)}`);
  checkOptionNames(options, optionNames, "options");
  return {
    maxTokens: checkInteger(options.maxTokens, "maxTokens", { least: 1 }),
    sampling: checkSampling(options, vocabSize),
    stop: checkStops(options.stop),
    stopTokenIds: checkStopTokens(options.stopTokenIds, vocabSize),
    ignoreEos: checkBoolean(options.ignoreEos, "ignoreEos") ?? false,
    signal: checkSignal(options.signal),
  };
}

function checkStopTokens(ids: unknown, vocabSize: number): readonly number[] {
  if (ids === undefined) return [];
  if (!Array.isArray(ids))
    throw new InputError("stopTokenIds", `wrong type: expected a list of token ids, got ${showValue(ids)}`);
  return ids.map((id: unknown, i) => {
    const checked = checkInteger(id, `stopTokenIds[${i}]`, { least: 0, most: vocabSize - 1 });
    if (checked === null) throw new InputError(`stopTokenIds[${i}]`, "missing: expected a token id, got undefined");
    return checked;
  });
}

function checkBoolean(value: unknown, field: string): boolean | null {
  if (value === undefined) return null;
  if (typeof value !== "boolean")
    throw new InputError(field, `wrong type: expected true or false, got ${showValue(value)}`);
  return value;
}

function checkSignal(value: unknown): AbortSignal | null {
  if (value === undefined) return null;
  if (!(value instanceof AbortSignal))
    throw new InputError("signal", `wrong type: expected an AbortSignal, got ${showValue(value)}`);
  return value;
}
