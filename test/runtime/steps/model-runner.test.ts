/** Steps padded to buckets: every step fits its bucket, and what a step computes does not depend on the bucket. */

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { openDevice } from "../../../src/compile.ts";
import { keptPlan } from "../../../src/ir/plan-kept.ts";
import { checkBucket } from "../../../src/models/deepseek/bucket.ts";
import { parseModelConfigText } from "../../../src/models/deepseek/config.ts";
import { checkpointDTypes } from "../../../src/models/deepseek/layers.ts";
import { withDerivedWeights } from "../../../src/models/deepseek/rope-tables.ts";
import { type BucketLimits, bucketFor } from "../../../src/runtime/engine/bucket-ladder.ts";
import { ModelRunner } from "../../../src/runtime/steps/model-runner.ts";
import type { RaggedBatch } from "../../../src/runtime/steps/step.ts";
import { WeightStore } from "../../../src/runtime/weights/weight-store.ts";
import { type GoldenName, goldenConfigText, goldenTensors, weightsFrom } from "../../models/read-golden.ts";
import { interpretedModel, joined, largestDifference } from "../../models/step.ts";

describe("bucketFor", () => {
  const arbLimits = fc
    .record({
      tokens: fc.integer({ min: 1, max: 64 }),
      sequences: fc.integer({ min: 1, max: 9 }),
      blocks: fc.integer({ min: 1, max: 70 }),
      outputs: fc.integer({ min: 1, max: 64 }),
    })
    .map((limits): BucketLimits => {
      return { ...limits, outputs: Math.min(limits.outputs, limits.tokens), blockSize: 4, slots: 400, ropeRows: 280 };
    });

  test("covers every step within the limits and stays within them", () => {
    fc.assert(
      fc.property(arbLimits, fc.integer({ min: 1, max: 70 }), fc.nat(), (limits, wanted, pick) => {
        const blocks = Math.min(wanted, limits.blocks);
        for (let tokens = 1; tokens <= Math.min(40, limits.tokens); tokens++) {
          for (let sequences = 1; sequences <= Math.min(4, tokens, limits.sequences); sequences++) {
            const outputs = 1 + (pick % Math.min(tokens, limits.outputs));
            const bucket = bucketFor({ tokens, sequences, blocks, outputs }, limits);
            checkBucket(bucket);
            for (const [name, size] of Object.entries({ tokens, sequences, blocks, outputs })) {
              const found = bucket[name as keyof typeof bucket]; // a name of both
              expect(found, name).toBeGreaterThanOrEqual(size);
              expect(found, name).toBeLessThanOrEqual(limits[name as keyof typeof bucket & keyof typeof limits]!);
            }
            expect(bucket.tokens, "little padding").toBeLessThanOrEqual(2 * tokens);
          }
        }
      }),
    );
  });

  test("has few buckets", () => {
    const limits = { tokens: 128, sequences: 1, blocks: 256, outputs: 1, blockSize: 16, slots: 4096, ropeRows: 4096 };
    const sizes = Array.from(
      { length: 128 },
      (_, i) => bucketFor({ tokens: i + 1, sequences: 1, blocks: 1, outputs: 1 }, limits).tokens,
    );
    expect([...new Set(sizes)]).toEqual([1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128]);
    const blocksOf = (tokens: number, more: { decodeBlocks?: number } = {}) => [
      ...new Set(
        Array.from({ length: 256 }, (_, i) => {
          return bucketFor({ tokens, sequences: 1, blocks: i + 1, outputs: 1 }, { ...limits, ...more }).blocks;
        }),
      ),
    ];
    expect(blocksOf(2)).toEqual([8, 32, 128, 256]);
    expect(blocksOf(1)).toEqual([32, 128, 256]);
    expect(blocksOf(1, { decodeBlocks: 8 })).toEqual([8, 32, 128, 256]);
  });

  test("refuses a step beyond the limits", () => {
    const limits = { tokens: 4, sequences: 2, blocks: 3, outputs: 4, blockSize: 4, slots: 40, ropeRows: 28 };
    const step = { tokens: 1, sequences: 1, blocks: 1, outputs: 1 };
    expect(() => bucketFor({ ...step, tokens: 5 }, limits)).toThrow("step: tokens: expected at most 4, got 5");
    expect(() => bucketFor({ ...step, blocks: 4 }, limits)).toThrow("step: blocks: expected at most 3, got 4");
  });
});

const blockSize = 4;
/** Sequences of lengths 5, 3 and 2 from scattered blocks: their prompts together, then token by token. */
const tables = [
  [4, 1],
  [3, 6],
  [2, 5],
];
const starts = [5, 3, 2];

interface Part {
  readonly sequence: number;
  readonly ids: readonly number[];
  readonly start: number;
}

const id = (sequence: number, position: number) => (7 * sequence + 3 * position + 1) % 50;
const part = (sequence: number, start: number, length: number): Part => {
  return { sequence, start, ids: Array.from({ length }, (_, i) => id(sequence, start + i)) };
};
const steps: readonly (readonly Part[])[] = [
  starts.map((length, sequence) => part(sequence, 0, length)),
  ...[0, 1, 2].map((i) => starts.map((length, sequence) => part(sequence, length + i, 1))),
];

/** A ragged batch whose tokens all have outputs. */
function batchOf(parts: readonly Part[]): RaggedBatch {
  const rows = parts.flatMap(({ sequence, ids, start }, row) =>
    ids.map((token, i) => {
      const position = start + i;
      const slot = tables[sequence]![Math.floor(position / blockSize)]! * blockSize + (position % blockSize);
      return { token, position, row, slot };
    }),
  );
  return {
    tokens: Int32Array.from(rows, ({ token }) => token),
    positions: Int32Array.from(rows, ({ position }) => position),
    sequence: Int32Array.from(rows, ({ row }) => row),
    slots: Int32Array.from(rows, ({ slot }) => slot),
    blockTables: parts.map(({ sequence }) => Int32Array.from(tables[sequence]!)),
    outputs: Int32Array.from(rows, (_, i) => i),
  };
}

const small: BucketLimits = { tokens: 10, sequences: 3, blocks: 2, outputs: 10, blockSize, slots: 28, ropeRows: 16 };
const large: BucketLimits = { ...small, tokens: 64, sequences: 8, blocks: 12, outputs: 64, slots: 60 };

/** Twice what the goldens allow: kernels round a score and a weight where the interpreter does not. */
const tolerance = 6e-5;

describe.each(["qwen2-tied", "v3"] as const satisfies readonly GoldenName[])("%s", (name) => {
  const config = parseModelConfigText(goldenConfigText(name));
  const tensors = goldenTensors(name, "model");
  const headers = new Map(Array.from(tensors, ([tensor, { type }]) => [tensor, type] as const));
  const read = withDerivedWeights(weightsFrom(tensors), config, small.ropeRows);
  const runnerOf = (limits: BucketLimits, store = new WeightStore(async (tensor) => read(tensor), openDevice("js"))) =>
    new ModelRunner(config, store, {
      device: openDevice("js"),
      limits,
      build: { weightDType: checkpointDTypes(config, headers) },
      compile: {},
    });

  test("the bucket does not matter, nor which other sequences share the step", async () => {
    const [exactly, padded, alone] = [runnerOf(small), runnerOf(large), runnerOf(large)];
    const model = interpretedModel(config, tensors, { blockSize, total: 7, blocks: 2 });
    for (const parts of steps) {
      const batch = batchOf(parts);
      const expected = joined(
        model.step(parts.map(({ sequence, ids, start }) => ({ ids, start, table: tables[sequence]! }))).logits,
      );
      const logits = (await exactly.step(batch)).slice();
      expect(largestDifference(logits, expected)).toBeLessThan(tolerance);
      // Sums are kept in double in the same order, whatever the tiles.
      expect((await padded.step(batch)).slice()).toEqual(logits);
      let at = 0;
      for (const each of parts) {
        const own = (await alone.step(batchOf([each]))).slice();
        expect(own).toEqual(logits.slice(at, at + own.length));
        at += own.length;
      }
    }
    expect(padded.buckets.map(({ bucket }) => bucket.tokens)).toEqual([12, 4]);
    expect(exactly.buckets.map(({ bucket }) => bucket.tokens)).toEqual([10, 4]);
  });

  test.each([1, 2])(
    "steps that want no logits fill the caches all the same, on %i threads of WebAssembly",
    async (threads) => {
      const device = openDevice("wasm", { threads });
      const runner = () =>
        new ModelRunner(config, new WeightStore(async (tensor) => read(tensor), device), {
          ...{ device, limits: small, build: { weightDType: checkpointDTypes(config, headers) }, compile: {} },
        });
      const [whole, kept, none] = [runner(), runner(), runner()];
      const last = steps.length - 1;
      for (const [i, parts] of steps.entries()) {
        const batch = batchOf(parts);
        const logits = (await whole.step(batch)).slice();
        const own = (await kept.step(i === last ? batch : { ...batch, outputs: new Int32Array() })).slice();
        expect(own).toEqual(i === last ? logits : new Float32Array());
        // The test sees caches that are not filled.
        if (i === last) expect((await none.step(batch)).slice()).not.toEqual(logits);
      }
      const { plan } = kept.buckets[0]!.executable;
      const { entry, funcs } = keptPlan(plan)!;
      const [all, some] = [plan.entry, entry].map((each) => funcs.get(each)!.steps);
      expect(some!.length).toBeLessThan(all!.length);
      const calls = (of: typeof all) => of!.flatMap((step) => (step.step === "call" ? [step.func] : []));
      expect(calls(some).slice(0, -1)).toEqual(calls(all).slice(0, -1));
      const [block, shortened] = [calls(all).at(-1)!, calls(some).at(-1)!].map((each) => funcs.get(each)!.steps.length);
      expect(shortened! / block!).toBeLessThan(0.8);
      await device.close();
    },
  );

  test("buckets share weights and caches", async () => {
    const store = new WeightStore(async (tensor) => read(tensor), openDevice("js"));
    const runner = runnerOf(small, store);
    await runner.prepare({ tokens: 1, sequences: 1, blocks: 1, outputs: 1 });
    const { bytes } = store;
    for (const parts of steps) await runner.step(batchOf(parts));
    expect(runner.buckets.length).toBe(3);
    expect(store.bytes).toBe(bytes);
  });
});
