/** A model over a mesh of devices as a StepRunner: every step runs on all ranks, each with its part of weights and caches. */
import { InternalError } from "../../ir/errors.ts";
import type { SamplerKind } from "../../models/sampling/sample.ts";
import {
  type BucketLimits,
  bucketFor,
  bucketKey,
  runnerSizes,
  type StepSize,
  stepSizeOf,
} from "../engine/bucket-ladder.ts";
import { type AheadRunner, copyOf, type RaggedBatch, type RunnerSizes, type StepRunner } from "../steps/step.ts";
import { MeshAhead } from "./mesh-ahead.ts";
import type { MeshState } from "./mesh-state.ts";
import type { CacheSpace, RankMemory } from "./messages.ts";
import { limitsOfSpace } from "./space-limits.ts";

export class MeshRunner implements StepRunner {
  readonly sizes: RunnerSizes;
  readonly #mesh: MeshState;
  readonly #space: CacheSpace;
  readonly #limits: BucketLimits;
  readonly #prepared = new Set<string>();
  readonly ahead: AheadRunner | undefined;
  /** When all steps asked for so far have been handed to the ranks. */
  #turn: Promise<unknown> = Promise.resolve();
  #single: MeshRunner | null = null;
  #lanes: readonly MeshRunner[] | null = null;

  constructor(mesh: MeshState, space: CacheSpace = 0) {
    const limits = limitsOfSpace(mesh.limits, space);
    this.#mesh = mesh;
    this.#space = space;
    this.#limits = limits;
    this.sizes = runnerSizes(mesh.vocabSize, limits);
    this.ahead = mesh.stepsAhead === 0 ? undefined : new MeshAhead(mesh, space, (...wish) => this.prepare(...wish));
  }

  /** A step may begin before the one before is done: stages compute chunks of one prompt at the same time. */
  get overlap(): number {
    return this.#mesh.overlap;
  }

  /** False once a rank has failed or ended: then no step runs any more. */
  get alive(): boolean {
    return this.#mesh.ranks.alive;
  }

  /** What each rank holds, by its number. */
  get ranks(): readonly RankMemory[] {
    return this.#mesh.memory;
  }

  /** Milliseconds of the last step that each rank spent in exchanges, waiting for other ranks included. */
  get exchangeMs(): readonly number[] {
    return this.#mesh.times.map(({ exchangeMs }) => exchangeMs);
  }

  /** Milliseconds that the last step took on each rank, these included. */
  get rankMs(): readonly number[] {
    return this.#mesh.times.map(({ ms }) => ms);
  }

  /** What each rank computes with, for people. */
  get summaries(): readonly string[] {
    return this.#mesh.summaries;
  }

  /** Of all ranks together. */
  get weightBytes(): number {
    return this.ranks.reduce((sum, { weights }) => sum + weights, 0);
  }

  /** Of all ranks together. */
  get cacheBytes(): number {
    return this.ranks.reduce((sum, { caches }) => sum + caches, 0);
  }

  /**
   * This runner first, and others with caches of their own, one per stage of a pipeline: while one stage computes a step
   * of one lane, the next stage computes that of another. Steps of different lanes may overlap, those of a lane do not.
   */
  get lanes(): readonly MeshRunner[] {
    const others = Array.from({ length: this.#mesh.lanes - 1 }, (_, i) => i + 1);
    this.#lanes ??= [this, ...others.map((lane) => new MeshRunner(this.#mesh, lane))];
    return this.#lanes;
  }

  /** A runner of its own cache for one sequence on the same weights, to score tokens beside running requests. */
  single(): MeshRunner {
    this.#single ??= new MeshRunner(this.#mesh, "single");
    return this.#single;
  }

  /** Compiles the bucket of this size on all ranks and loads what it needs; with `sampler`, the program that samples. */
  async prepare(size: StepSize, sampler?: SamplerKind): Promise<void> {
    const key = `${bucketKey(bucketFor(size, this.#limits))} ${JSON.stringify(sampler)}`;
    if (this.#prepared.has(key)) return;
    const mesh = this.#mesh;
    const command = { kind: "prepare", space: this.#space, size, ...(sampler && { sampler }) } as const;
    const answers = await mesh.ranks.command(command, `compiling for ${size.tokens} tokens`, mesh.deadlines.loadMs);
    const prepared = answers.flatMap((answer) => (answer.kind === "prepared" ? [answer] : []));
    mesh.memory = prepared.map(({ memory }) => memory);
    mesh.summaries = prepared.map(({ summary }) => summary);
    const offers = prepared.map(({ offer }) => offer);
    if (offers.some((offer) => offer !== null)) {
      await mesh.ranks.command({ kind: "join", space: this.#space, offers }, "meeting", mesh.deadlines.loadMs);
    }
    this.#prepared.add(key);
  }

  /**
   * A step runs to its end even if the signal aborts: all ranks go the same way. Up to `overlap` steps may be under way;
   * they are computed in the order in which they are asked for.
   */
  async step(batch: RaggedBatch, signal?: AbortSignal): Promise<Float32Array> {
    signal?.throwIfAborted();
    // The batch's arrays are views of buffers that the next step overwrites.
    const own = copyOf(batch);
    const mesh = this.#mesh;
    const before = this.#turn;
    const posted = (async () => {
      await before;
      await this.prepare(stepSizeOf(own));
      const step = mesh.steps++;
      const command = { kind: "step", space: this.#space, step, batch: own } as const;
      return { step, answers: mesh.ranks.command(command, `step ${step}`, mesh.deadlines.stepMs) };
    })();
    this.#turn = posted.then(
      () => {},
      () => {},
    );
    const { step, answers: coming } = await posted;
    const answers = await coming;
    signal?.throwIfAborted();
    const ranks = answers.flatMap((answer) => (answer.kind === "stepped" ? [answer] : []));
    mesh.times = ranks;
    for (const { logits } of ranks) if (logits !== null) return logits;
    throw new InternalError(`step ${step}`, "no rank has logits");
  }

  /** Ends one rank at once, as a crash would: what runs and what comes fails with an error that names it. */
  endRank(rank: number): Promise<void> {
    return this.#mesh.ranks.endRank(rank);
  }

  close(): Promise<void> {
    return this.#mesh.ranks.close();
  }
}
