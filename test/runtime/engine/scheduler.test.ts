/** The scheduler as a state machine: whatever arrives, leaves and runs out, its promises hold and all work ends. */

import fc from "fast-check";
import { expect, test } from "vitest";
import { type ScheduledChunk, Scheduler, type SchedulerLimits } from "../../../src/runtime/engine/scheduler.ts";
import { createSequence, roomFor, type Sequence } from "../../../src/runtime/engine/sequence.ts";

/** The naive side: the sequences not yet ended, in order of arrival. */
interface Model {
  readonly alive: Sequence[];
  arrived: number;
}

class System {
  readonly limits: SchedulerLimits;
  readonly scheduler: Scheduler;
  constructor(limits: SchedulerLimits) {
    this.limits = limits;
    this.scheduler = new Scheduler(limits);
  }
}

type Command = fc.Command<Model, System>;

function checkState({ alive }: Model, { scheduler, limits }: System): void {
  const { running, waiting, blocks } = scheduler;
  // S1: running, then waiting, is the order of arrival.
  expect([...running, ...waiting].map(({ id }) => id)).toEqual(alive.map(({ id }) => id));
  expect(running.length).toBeLessThanOrEqual(limits.maxSequences);
  for (const sequence of running) {
    expect(sequence.status).toBe("running");
    expect(sequence.table.length * limits.blockSize).toBeGreaterThanOrEqual(sequence.computed);
  }
  for (const { status, table, computed } of waiting)
    expect([status, table.length, computed]).toEqual(["waiting", 0, 0]);
  expect(blocks.usedBlocks).toBe(new Set(running.flatMap(({ table }) => [...table.ids])).size);
}

function checkPlan(plan: readonly ScheduledChunk[], { limits }: System): void {
  const tokens = plan.reduce((sum, { count }) => sum + count, 0);
  expect(tokens).toBeLessThanOrEqual(limits.maxBatchTokens);
  expect(new Set(plan.map(({ sequence }) => sequence)).size).toBe(plan.length);
  for (const { sequence, start, count, sample } of plan) {
    expect([sequence.status, start]).toEqual(["running", sequence.computed]);
    expect(count).toBeGreaterThan(0);
    expect(sample).toBe(start + count === sequence.tokens.length);
    expect(start + count).toBeLessThanOrEqual(sequence.table.length * limits.blockSize);
  }
}

/** One step as the engine does it; `during` runs between schedule and commit. */
function step(model: Model, system: System, during: () => void = () => {}): void {
  const { scheduler } = system;
  const oldest = scheduler.running[0];
  const decoding = scheduler.running.filter(({ tokens, computed }) => tokens.length - computed === 1);
  const plan = scheduler.schedule();
  checkPlan(plan, system);
  checkState(model, system);
  expect(plan.length > 0).toBe(model.alive.length > 0);
  if (oldest !== undefined) expect(oldest.status).toBe("running");
  // Decode first: a decoding sequence is left out only if preempted or if decoding alone fills the step.
  const planned = plan.map(({ sequence }) => sequence);
  for (const sequence of decoding)
    if (!planned.includes(sequence) && sequence.status === "running")
      expect(
        plan.every((chunk) => decoding.includes(chunk.sequence)) && plan.length === system.limits.maxBatchTokens,
      ).toBe(true);
  during();
  scheduler.commit(plan);
  for (const { sequence, sample } of plan) {
    if (!sample || sequence.status !== "running") continue;
    sequence.tokens.push(sequence.tokens.length % 2);
    if (sequence.tokens.length - sequence.promptLength === sequence.maxTokens) end(model, system, sequence);
  }
  checkState(model, system);
}

function end(model: Model, { scheduler }: System, sequence: Sequence): void {
  scheduler.remove(sequence);
  model.alive.splice(model.alive.indexOf(sequence), 1);
}

class Add implements Command {
  readonly promptLength: number;
  readonly maxTokens: number;
  constructor(promptLength: number, maxTokens: number) {
    this.promptLength = promptLength;
    this.maxTokens = maxTokens;
  }
  check = () => true;
  run(model: Model, system: System): void {
    const room = roomFor(this.promptLength, { ...system.limits, vocabSize: 10, maxContext: 1000 });
    if (room < 1) return;
    const prompt = Array.from({ length: this.promptLength }, (_, i) => i % 2);
    const sequence = createSequence(model.arrived++, prompt, Math.min(this.maxTokens, room));
    system.scheduler.add(sequence);
    model.alive.push(sequence);
    checkState(model, system);
  }
  toString = () => `add(${this.promptLength}, ${this.maxTokens})`;
}

class Step implements Command {
  check = () => true;
  run = (model: Model, system: System) => step(model, system);
  toString = () => "step";
}

class Abort implements Command {
  readonly pick: number;
  readonly duringStep: boolean;
  constructor(pick: number, duringStep: boolean) {
    this.pick = pick;
    this.duringStep = duringStep;
  }
  check = (model: Readonly<Model>) => model.alive.length > 0;
  run(model: Model, system: System): void {
    const abort = () => end(model, system, model.alive[this.pick % model.alive.length]!);
    if (this.duringStep) step(model, system, abort);
    else abort();
    checkState(model, system);
  }
  toString = () => `abort(${this.pick}${this.duringStep ? ", during a step" : ""})`;
}

const limits: fc.Arbitrary<SchedulerLimits> = fc.record({
  blockSize: fc.integer({ min: 1, max: 4 }),
  numBlocks: fc.integer({ min: 1, max: 12 }),
  maxBatchTokens: fc.integer({ min: 1, max: 10 }),
  maxSequences: fc.integer({ min: 1, max: 5 }),
});

const commands = fc.commands(
  [
    fc.tuple(fc.integer({ min: 1, max: 14 }), fc.integer({ min: 1, max: 10 })).map(([n, m]) => new Add(n, m)),
    fc.constant(new Step()),
    fc.constant(new Step()),
    fc.tuple(fc.nat({ max: 20 }), fc.boolean()).map(([n, during]) => new Abort(n, during)),
  ],
  { maxCommands: 60, size: "max" },
);

test("keeps its promises, and finishes every admitted sequence within a bounded number of steps", () => {
  let preemptions = 0;
  fc.assert(
    fc.property(limits, commands, (sizes, list) => {
      const system = new System(sizes);
      const model: Model = { alive: [], arrived: 0 };
      fc.modelRun(() => ({ model, real: system }), list);
      // Each step computes rows of the oldest sequence, which is never preempted, or generates a token of another.
      const bound = model.alive.reduce((sum, { promptLength, maxTokens }) => sum + promptLength + 2 * maxTokens, 0);
      let steps = 0;
      for (; model.alive.length > 0; steps++) {
        expect(steps).toBeLessThan(bound);
        step(model, system);
      }
      expect(system.scheduler.blocks.freeBlocks).toBe(sizes.numBlocks);
      preemptions += system.scheduler.preemptions;
    }),
    { numRuns: 400 },
  );
  // Preemption is the hard part; the mean is about 100.
  expect(preemptions).toBeGreaterThan(15);
});

test("a long prompt is computed in chunks while others go on decoding", () => {
  const scheduler = new Scheduler({ blockSize: 4, numBlocks: 20, maxBatchTokens: 5, maxSequences: 4 });
  const short = createSequence(0, [1], 10);
  const long = createSequence(1, new Array(12).fill(2), 2);
  scheduler.add(short);
  scheduler.add(long);
  const seen: [number, number][][] = [];
  while (long.computed < 12) {
    const plan = scheduler.schedule();
    seen.push(plan.map(({ sequence, count }) => [sequence.id, count]));
    scheduler.commit(plan);
    short.tokens.push(3);
  }
  expect(seen).toEqual([
    [
      [0, 1],
      [1, 4],
    ],
    [
      [0, 1],
      [1, 4],
    ],
    [
      [0, 1],
      [1, 4],
    ],
  ]);
});

test("when blocks run out the youngest gives way, and comes back before later arrivals", () => {
  const scheduler = new Scheduler(
    { blockSize: 1, numBlocks: 5, maxBatchTokens: 8, maxSequences: 4 },
    { prefixSharing: false },
  );
  const [a, b, c] = [0, 1, 2].map((id) => createSequence(id, [1, 1], 4));
  scheduler.add(a!);
  scheduler.add(b!);
  const advance = () => {
    const plan = scheduler.schedule();
    scheduler.commit(plan);
    for (const { sequence, sample } of plan) if (sample) sequence.tokens.push(1);
    return plan.map(({ sequence }) => sequence.id);
  };
  expect(advance()).toEqual([0, 1]);
  scheduler.add(c!);
  expect(advance()).toEqual([0]);
  expect(scheduler.waiting.map(({ id }) => id)).toEqual([1, 2]);
  expect([b!.computed, b!.table.length, b!.tokens.length, scheduler.preemptions]).toEqual([0, 0, 3, 1]);
});
