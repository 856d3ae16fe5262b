/**
 * What ranks take for values of steps, before there are any: the scheduler says which steps requests would need, each
 * rank's programs for these are compiled as the rank would (plan-rank.ts), and memory is counted as devices give it.
 */
import { type Compiled, type CompileOptions, Workspace } from "../../compile.ts";
import { type Mesh, rankCount } from "../../ir/mesh.ts";
import type { Target } from "../../ir/target.ts";
import { byteSize } from "../../ir/types.ts";
import { cacheSpecs } from "../../models/deepseek/bucket.ts";
import type { ModelConfig } from "../../models/deepseek/config.ts";
import { type BucketLimits, bucketFor, bucketKey, runnerSizes, type StepSize } from "../engine/bucket-ladder.ts";
import { Scheduler } from "../engine/scheduler.ts";
import { createSequence } from "../engine/sequence.ts";
import { entryOf, type PlannedRank, planRank, stepOfRank } from "./plan-rank.ts";

/** What a mesh is asked for, and how it is divided. */
export interface RankWork {
  /** Without `dp`: replicas are alike. */
  readonly mesh: Mesh;
  readonly target: Target;
  readonly compile: CompileOptions;
  /** Of each lane. */
  readonly limits: BucketLimits;
  readonly lanes: number;
  /** Requests that come together, tokens of their prompts and of their answers. */
  readonly requests: number;
  readonly prompt: number;
  readonly answer: number;
}

/** Bytes by rank. Programs that sample, of ranks that decode ahead, are not counted. */
export function rankValues(config: ModelConfig, work: RankWork): readonly number[] {
  const { mesh, target, compile, limits, lanes, requests, prompt, answer } = work;
  const sizes = runnerSizes(config.vocab_size, limits);
  const known = new Map<string, Compiled>();
  const busy = Math.min(lanes, requests);
  // A mesh is opened with a program for one token.
  const steps = [
    { tokens: 1, sequences: 1, blocks: 1, outputs: 1 },
    ...stepsOf(new Scheduler(sizes), Math.ceil(requests / busy), prompt, answer),
  ];
  const buckets = [
    ...new Map(steps.map((size) => bucketFor(size, limits)).map((each) => [bucketKey(each), each])).values(),
  ];
  const caches = new Set(cacheSpecs(config, limits).map(({ name }) => name));
  return Array.from({ length: rankCount(mesh) }, (_, rank) => {
    const count = new Count();
    for (const bucket of buckets) {
      const program = stepOfRank({ config, mesh, rank, build: {}, compile }, bucket);
      const planned = planRank(program, { target, compile, known });
      for (const piece of planned.pieces) if (piece !== null) known.set(piece.key, piece.compiled);
      count.add(planned, caches, busy);
    }
    return count.bytes;
  });
}

/** Sizes of the steps in which a scheduler has so many requests computed. */
function stepsOf(scheduler: Scheduler, requests: number, prompt: number, answer: number): StepSize[] {
  const steps: StepSize[] = [];
  // Prompts of different tokens, which share no blocks.
  for (let id = 0; id < requests; id++) scheduler.add(createSequence(id, new Int32Array(prompt).fill(id), answer));
  while (scheduler.hasWork) {
    const chunks = scheduler.schedule();
    const sampled = chunks.filter(({ sample }) => sample);
    steps.push({
      tokens: chunks.reduce((sum, { count }) => sum + count, 0),
      sequences: chunks.length,
      blocks: Math.max(...chunks.map(({ sequence }) => sequence.table.length)),
      outputs: Math.max(sampled.length, 1),
    });
    scheduler.commit(chunks);
    for (const { sequence } of sampled) {
      sequence.tokens.push(sequence.id);
      if (sequence.tokens.length >= prompt + answer) scheduler.remove(sequence);
    }
  }
  return steps;
}

/** Of one rank: programs have values of their own, in every lane, and arenas together. */
class Count {
  bytes = 0;
  readonly #arenas = new Workspace<number>(
    (bytes) => {
      this.bytes += bytes;
      return bytes;
    },
    () => {},
  );

  add({ program, pieces, places }: PlannedRank, caches: ReadonlySet<string>, lanes: number): void {
    const { params, values } = program.pieces;
    const total = (bytes: readonly number[]) => bytes.reduce((sum, each) => sum + each, 0);
    const held = params.filter(({ name }) => caches.has(name)).map(({ value }) => byteSize(values[value]!));
    this.bytes += lanes * (total(places.types.map(byteSize)) - total(held));
    for (const piece of pieces) if (piece !== null) this.#arenas.take(entryOf(piece.plan).arenaBytes);
  }
}
