/** A request inside the engine: what turns its logits into tokens and parts, when it ends, and its account of tokens and time. */

import type { LogitsScratch, TokenHistory } from "../sampling/logits.ts";
import { planSampling, type Sampling, sampleToken } from "../sampling/sampler.ts";
import { type ReasoningOptions, TextPipeline } from "../text/text-pipeline.ts";
import type { TokenText } from "../text/text-stream.ts";
import type { CheckedOptions, FinishReason, GenerationResult, Timings } from "./generate.ts";
import { Channel, Generation } from "./generation.ts";
import type { Sequence } from "./sequence.ts";

/** Why a request ends; a stop names what stopped it. */
export type Ending =
  | { readonly reason: "stop"; readonly stopString: string }
  | { readonly reason: "stop"; readonly stopToken: number }
  | { readonly reason: "length" | "abort" };

export interface RequestParts {
  readonly sequence: Sequence;
  readonly options: CheckedOptions;
  readonly eosTokenIds: readonly number[];
  readonly text: TokenText;
  readonly reasoning: ReasoningOptions | null;
  readonly now: () => number;
  readonly abort: () => void;
}

export class ActiveRequest {
  #sequence: Sequence;
  #abort: () => void;
  readonly generation: Generation;
  readonly #channel: Channel;
  readonly #sampling: Sampling;
  readonly #stopTokens: ReadonlySet<number>;
  readonly #pipeline: TextPipeline;
  readonly #promptTokens: Set<number>;
  readonly #outputCounts = new Map<number, number>();
  readonly #now: () => number;
  readonly #signal: AbortSignal | null;
  readonly #arrived: number;
  #started: number | null = null;
  #firstToken: number | null = null;
  #lastToken: number | null = null;

  constructor(parts: RequestParts) {
    const { sequence, options } = parts;
    this.#sequence = sequence;
    this.#abort = parts.abort;
    this.#channel = new Channel(() => this.#abort());
    this.generation = new Generation(this.#channel);
    this.#sampling = planSampling(options.sampling);
    this.#stopTokens = new Set([...options.stopTokenIds, ...(options.ignoreEos ? [] : parts.eosTokenIds)]);
    this.#pipeline = new TextPipeline(parts.text, options.stop, parts.reasoning);
    // Only the repetition penalty looks at the prompt, which can be long.
    this.#promptTokens = new Set(options.sampling.repetitionPenalty === 1 ? [] : sequence.tokens);
    this.#now = parts.now;
    this.#arrived = parts.now();
    this.#signal = options.signal;
    this.#signal?.addEventListener("abort", this.#channel.abort, { once: true });
  }

  get sequence(): Sequence {
    return this.#sequence;
  }

  /** Goes on as a sequence with the same tokens in another engine. */
  moveTo(sequence: Sequence, abort: () => void): void {
    this.#sequence = sequence;
    this.#abort = abort;
  }

  /** Notes that a step with tokens of this request begins. */
  start(): void {
    this.#started ??= this.#now();
  }

  /** The next token from its logits [vocab]; it becomes the sequence's last. Throws as `sampleToken`. */
  sample(logits: Float32Array, scratch: LogitsScratch): number {
    const { tokens } = this.sequence;
    const token = sampleToken(logits, this.#sampling, this.history, tokens.length, scratch);
    this.append(token);
    return token;
  }

  /** What it has seen so far. */
  get history(): TokenHistory {
    return { prompt: this.#promptTokens, output: this.#outputCounts };
  }

  /** How its tokens are chosen. */
  get sampling(): Sampling {
    return this.#sampling;
  }

  /** Makes a token that was chosen the sequence's last. */
  append(token: number): void {
    this.sequence.tokens.push(token);
    this.#outputCounts.set(token, (this.#outputCounts.get(token) ?? 0) + 1);
    this.#lastToken = this.#now();
    this.#firstToken ??= this.#lastToken;
  }

  /** Emits what the token completes; gives how the request ends if it ends here. */
  accept(token: number): Ending | null {
    if (this.#stopTokens.has(token)) return { reason: "stop", stopToken: token };
    const stopString = this.#pipeline.push(token, this.#channel.push);
    if (stopString !== null) return { reason: "stop", stopString };
    const { tokens, promptLength, maxTokens } = this.sequence;
    return tokens.length - promptLength >= maxTokens ? { reason: "length" } : null;
  }

  /** Emits the rest and settles the result. */
  finish(ending: Ending): void {
    this.#detach();
    const lastStop = this.#pipeline.end(this.#channel.push);
    // Bytes that end inside a character become U+FFFD only here, and a stop string may hold that.
    const stopped =
      lastStop === null || ending.reason !== "length" ? ending : ({ reason: "stop", stopString: lastStop } as const);
    this.#channel.finish(this.#result(stopped));
  }

  /** Ends the request with an error, which the reader gets after the parts before it. */
  fail(error: unknown): void {
    this.#detach();
    this.#channel.fail(error);
  }

  #detach(): void {
    this.#signal?.removeEventListener("abort", this.#channel.abort);
  }

  #result(ending: Ending): GenerationResult {
    const { tokens, promptLength, cachedTokens } = this.sequence;
    const finishReason: FinishReason = ending.reason;
    return {
      finishReason,
      ...("stopString" in ending ? { stopString: ending.stopString } : {}),
      ...("stopToken" in ending ? { stopToken: ending.stopToken } : {}),
      tokens: tokens.slice(promptLength),
      seed: this.#sampling.seed,
      usage: {
        promptTokens: promptLength,
        completionTokens: tokens.length - promptLength,
        reasoningTokens: this.#pipeline.reasoningTokens,
        cachedTokens: cachedTokens ?? 0,
      },
      timings: this.#timings(tokens.length - promptLength),
    };
  }

  #timings(completionTokens: number): Timings {
    const decodeMs = between(this.#firstToken, this.#lastToken);
    return {
      queueMs: between(this.#arrived, this.#started),
      prefillMs: between(this.#started, this.#firstToken),
      firstTokenMs: between(this.#arrived, this.#firstToken),
      decodeMs,
      tokensPerSecond:
        completionTokens < 2 || decodeMs === null || decodeMs === 0 ? null : ((completionTokens - 1) / decodeMs) * 1000,
    };
  }
}

function between(from: number | null, to: number | null): number | null {
  return from === null || to === null ? null : to - from;
}
