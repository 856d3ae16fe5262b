/**
 * Continuous batching: requests come and go while steps run; each step advances every running sequence.
 * A request's tokens depend on its own prompt, options and seed, never on what else is in the batch.
 */

import { InputError, invariant } from "../../ir/errors.ts";
import { createScratch, type LogitsScratch } from "../sampling/logits.ts";
import { checkLogits, type RunnerSizes, type StepRunner } from "../steps/step.ts";
import type { ReasoningOptions } from "../text/text-pipeline.ts";
import type { TokenText } from "../text/text-stream.ts";
import { samplesAhead } from "./ahead.ts";
import { ChunkSize, decodeAhead, longestAhead, oneToken } from "./ahead-session.ts";
import { BatchBuilder } from "./batch.ts";
import { BegunSteps } from "./begun-steps.ts";
import { checkGenerateOptions, type GenerateOptions } from "./generate.ts";
import type { Generation } from "./generation.ts";
import { nextTask } from "./next-task.ts";
import { ActiveRequest, type Ending } from "./request.ts";
import { type ScheduledChunk, Scheduler } from "./scheduler.ts";
import { checkLength, checkPrompt, createSequence, restarted, type Sequence } from "./sequence.ts";

export interface EngineOptions {
  readonly text: TokenText;
  /** Tokens with which the model ends its answer. */
  readonly eosTokenIds?: readonly number[];
  /** Whether sequences share the cache blocks of equal prefixes. Default true. */
  readonly prefixSharing?: boolean;
  /** Takes a request that a failure of the runner would end, to go on with it elsewhere; whether it did. */
  readonly handOver?: (request: ActiveRequest) => boolean;
  /** Clock in milliseconds, for the timings. */
  readonly now?: () => number;
}

export interface EngineRequest {
  /** Token ids, at least one. */
  readonly prompt: ArrayLike<number>;
  readonly options?: GenerateOptions;
  /** How to separate reasoning; left out, all text is answer. */
  readonly reasoning?: ReasoningOptions;
}

export interface EngineStats {
  readonly running: number;
  readonly waiting: number;
  readonly freeBlocks: number;
  readonly usedBlocks: number;
  readonly preemptions: number;
  readonly steps: number;
}

/**
 * Lives from construction to `close()`. Between steps it holds nothing but the requests and the cache bookkeeping; with no requests it is idle:
 * no timers, no pending promises. Memory: buffers for one step, plus prompt, tokens and unread parts of each request.
 */
export class Engine {
  readonly #runner: StepRunner;
  readonly #options: EngineOptions;
  readonly #scheduler: Scheduler;
  readonly #batch: BatchBuilder;
  readonly #scratch: LogitsScratch;
  readonly #requests = new Map<number, ActiveRequest>();
  #nextId = 0;
  #steps = 0;
  #closed = false;
  /** The step under way: its requests, and what ends it when all of them have been given up. */
  #current: { readonly ids: readonly number[]; readonly controller: AbortController } | null = null;
  #chunkSize: ChunkSize | null = null;
  readonly #begun = new BegunSteps();
  /** The step loop while there is work. */
  #loop: Promise<void> | null = null;

  constructor(runner: StepRunner, options: EngineOptions) {
    checkSizes(runner.sizes);
    this.#runner = runner;
    this.#options = options;
    this.#scheduler = new Scheduler(runner.sizes, { prefixSharing: options.prefixSharing ?? true });
    this.#batch = new BatchBuilder(runner.sizes);
    this.#scratch = createScratch(runner.sizes.vocabSize);
  }

  get stats(): EngineStats {
    const { running, waiting, blocks, preemptions } = this.#scheduler;
    return {
      running: running.length,
      waiting: waiting.length,
      freeBlocks: blocks.freeBlocks,
      usedBlocks: blocks.usedBlocks,
      preemptions,
      steps: this.#steps,
    };
  }

  /**
   * Queues a request; its first step can begin before the next line of the caller's asynchronous code, never before this returns.
   * Throws InputError for bad options, unknown token ids, and prompts or lengths that can never fit.
   */
  add(request: EngineRequest): Generation {
    if (this.#closed) throw new InputError("engine", "closed: expected an open engine, got a request after close()");
    const options = checkGenerateOptions(request.options ?? {}, this.#runner.sizes.vocabSize);
    checkPrompt(request.prompt, this.#runner.sizes.vocabSize);
    const maxTokens = checkLength(request.prompt.length, options.maxTokens, this.#runner.sizes);
    const sequence = createSequence(this.#nextId++, request.prompt, maxTokens);
    const active = new ActiveRequest({
      sequence,
      options,
      eosTokenIds: this.#options.eosTokenIds ?? [],
      text: this.#options.text,
      reasoning: request.reasoning ?? null,
      now: this.#options.now ?? (() => performance.now()),
      abort: () => this.#finish(sequence.id, { reason: "abort" }),
    });
    this.#requests.set(sequence.id, active);
    this.#scheduler.add(sequence);
    if (options.signal?.aborted) this.#finish(sequence.id, { reason: "abort" });
    else this.#loop ??= this.#run();
    return active.generation;
  }

  /** Goes on with a request of an engine of an equal model: its tokens are computed again. False after `close()`. */
  adopt(active: ActiveRequest): boolean {
    if (this.#closed) return false;
    const sequence = restarted(active.sequence, this.#nextId++);
    active.moveTo(sequence, () => this.#finish(sequence.id, { reason: "abort" }));
    this.#requests.set(sequence.id, active);
    this.#scheduler.add(sequence);
    this.#loop ??= this.#run();
    return true;
  }

  /** Refuses new requests, aborts those there are and the step under way. May be called again. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const id of [...this.#requests.keys()]) this.#finish(id, { reason: "abort" });
    await this.#loop;
  }

  /** Steps until there is no work. Lets other tasks run before each step, so that aborts and readers get their turn. */
  async #run(): Promise<void> {
    try {
      for (;;) {
        await nextTask();
        if (this.#scheduler.hasWork) {
          if (!(await this.#ahead())) await this.#step();
        } else if (this.#begun.count > 0) await this.#settle(0);
        else return;
      }
    } finally {
      this.#loop = null;
    }
  }

  /** Waits until at most so many of the steps begun are under way. Their failure is that of a step. */
  async #settle(most: number): Promise<void> {
    try {
      await this.#begun.settle(most);
    } catch (error) {
      this.#failRunning(error);
    }
  }

  /** Schedule, run, sample, append. A failure of the step fails all running requests; what waits is tried in the next step. */
  async #step(): Promise<void> {
    const controller = new AbortController();
    const { overlap = 1 } = this.#runner;
    await this.#settle(overlap - 1);
    if (!this.#scheduler.hasWork) return;
    try {
      const plan = this.#scheduler.schedule();
      this.#current = { ids: plan.map(({ sequence }) => sequence.id), controller };
      for (const { sequence } of plan) this.#requests.get(sequence.id)?.start();
      const batch = this.#batch.build(plan);
      const outputs = batch.outputs.length;
      this.#steps++;
      if (overlap > 1 && outputs === 0) {
        this.#begun.add(this.#runner.step(batch));
        // What it writes counts as computed: whatever reads it is computed later.
        this.#scheduler.commit(plan);
        return;
      }
      const logits = await this.#begun.before(this.#runner.step(batch, controller.signal));
      checkLogits(logits, outputs, this.#runner.sizes.vocabSize);
      this.#scheduler.commit(plan);
      this.#sampleAll(plan, logits);
    } catch (error) {
      // What it was to write belonged to requests that are gone, and nothing of it counts as computed.
      if (!controller.signal.aborted) this.#failRunning(error);
    } finally {
      this.#current = null;
    }
  }

  /** Decodes several steps on the device where nothing speaks against it; whether it did. */
  async #ahead(): Promise<boolean> {
    const { ahead } = this.#runner;
    const { running } = this.#scheduler;
    const actives = running.flatMap(({ id }) => this.#requests.get(id) ?? []);
    if (ahead === undefined || !actives.every(({ sampling }) => samplesAhead(sampling))) return false;
    const steps = this.#scheduler.planAhead(longestAhead);
    if (steps === 0) return false;
    this.#chunkSize ??= new ChunkSize(ahead.maxSteps);
    const controller = new AbortController();
    const sequences = [...running];
    this.#current = { ids: sequences.map(({ id }) => id), controller };
    const take = (sequence: Sequence, token: number) => this.#takeAhead(sequence, token);
    const fail = (sequence: Sequence, error: unknown) => this.#fail(sequence.id, error);
    // One that has ended is not asked for more steps.
    const ended = () => sequences.some(({ status }) => status !== "running");
    const ends = () => ended() || controller.signal.aborted || this.#scheduler.waiting.length > 0;
    try {
      const rows = actives.map(({ sampling, sequence, history }) => {
        return { sampling, position: sequence.tokens.length, history };
      });
      const run = await ahead.start(this.#batch.build(sequences.map(oneToken)), rows);
      const now = this.#options.now ?? (() => performance.now());
      this.#steps += await decodeAhead({ run, sequences, steps, take, fail, ends }, this.#chunkSize, now);
    } catch (error) {
      if (!controller.signal.aborted) this.#failRunning(error);
    } finally {
      this.#current = null;
    }
    return true;
  }

  /** A token that the device has chosen for a sequence. */
  #takeAhead(sequence: Sequence, token: number): void {
    const active = this.#requests.get(sequence.id);
    if (active === undefined) return;
    this.#scheduler.commitAhead(sequence);
    try {
      active.append(token);
      const ending = active.accept(token);
      if (ending !== null) this.#finish(sequence.id, ending);
    } catch (error) {
      this.#fail(sequence.id, error);
    }
  }

  #sampleAll(plan: readonly ScheduledChunk[], logits: Float32Array): void {
    const { vocabSize } = this.#runner.sizes;
    let row = 0;
    for (const { sequence, sample } of plan) {
      if (!sample) continue;
      const start = row++ * vocabSize;
      // A request that was aborted during the step is gone, but its row is still there.
      const active = this.#requests.get(sequence.id);
      if (active !== undefined) this.#advance(active, logits.subarray(start, start + vocabSize));
    }
  }

  /** One request's next token. What goes wrong here is this request's alone. */
  #advance(active: ActiveRequest, logits: Float32Array): void {
    try {
      const ending = active.accept(active.sample(logits, this.#scratch));
      if (ending !== null) this.#finish(active.sequence.id, ending);
    } catch (error) {
      this.#fail(active.sequence.id, error);
    }
  }

  #finish(id: number, ending: Ending): void {
    this.#take(id)?.finish(ending);
  }

  #fail(id: number, error: unknown): void {
    this.#take(id)?.fail(error);
  }

  /** Removes a request and frees its blocks; undefined when it has already ended. */
  #take(id: number): ActiveRequest | undefined {
    const active = this.#requests.get(id);
    if (active === undefined) return undefined;
    this.#requests.delete(id);
    this.#scheduler.remove(active.sequence);
    if (this.#current?.ids.every((each) => !this.#requests.has(each))) this.#current.controller.abort();
    return active;
  }

  #failRunning(error: unknown): void {
    const { running, waiting } = this.#scheduler;
    // With nothing running the error came from scheduling itself and would come again.
    for (const { id } of [...(running.length > 0 ? running : waiting)]) {
      const active = this.#take(id);
      if (active !== undefined && !this.#options.handOver?.(active)) active.fail(error);
    }
    // Nobody knows what a failed step has left in the cache.
    this.#scheduler.blocks.forgetContents();
  }
}

function checkSizes(sizes: RunnerSizes): void {
  for (const [name, size] of Object.entries(sizes))
    invariant(Number.isSafeInteger(size) && size > 0, () => `${name} is ${size}`, "step runner");
}
