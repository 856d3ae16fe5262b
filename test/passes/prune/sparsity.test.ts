/** Sparsity: the largest of each group stay, whatever format they are stored in and in whatever pieces they are read. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type Tensor, tensorOf, valuesOf } from "../../../src/ir/tensor.ts";
import type { DType } from "../../../src/ir/types.ts";
import { keepLargest, parseSparsity, sparsitySentence } from "../../../src/passes/prune/sparsity.ts";
import type { Checkpoint } from "../../../src/runtime/weights/checkpoint.ts";
import { sparseCheckpoint } from "../../../src/runtime/weights/sparse-checkpoint.ts";

const dtype = fc.constantFrom<DType>("f32", "bf16", "f16", "f8e4m3");
/** Few values, so that many are equal. */
const value = fc.oneof(fc.constantFrom(0, -0, 1, -1, 0.5, 2, -2, 448), fc.float({ min: -4, max: 4, noNaN: true }));
const wish = fc.constantFrom<string | number>("2:4", "1:4", "3:7", "4:4", "12:32", 0, 0.3, 0.5, 0.99);
const shape = fc.tuple(fc.integer({ min: 1, max: 3 }), fc.integer({ min: 1, max: 21 }));

/** By the definition: of each group those with fewer than `keep` before them in the order of magnitude. */
function naive(values: readonly number[], width: number, sparsity: ReturnType<typeof parseSparsity>): number[] {
  return values.map((value, i) => {
    const row = i - (i % width);
    const group = sparsity.of ?? width;
    const start = row + Math.floor((i - row) / group) * group;
    const members = values.slice(start, Math.min(start + group, row + width));
    const keep = sparsity.of === null ? Math.ceil((1 - sparsity.share) * members.length) : sparsity.keep;
    const before = members.filter((other, j) => {
      const [a, b] = [Math.abs(other), Math.abs(value)];
      return a > b || (a === b && start + j < i);
    });
    return before.length < keep ? value : 0;
  });
}

describe("keepLargest", () => {
  it("keeps what the definition keeps, as it was stored", () => {
    fc.assert(
      fc.property(dtype, shape, wish, fc.infiniteStream(value), (dtype, [rows, width], wish, stream) => {
        const tensor = tensorOf(dtype, [rows, width], [...stream.take(rows * width)]);
        const sparsity = parseSparsity(wish);
        const expected = tensorOf(dtype, [rows, width], naive([...valuesOf(tensor)], width, sparsity));
        keepLargest(tensor.data, dtype, width, sparsity);
        expect(tensor.data).toEqual(expected.data);
      }),
      { numRuns: 400 },
    );
  });
});

describe("a sparse checkpoint", () => {
  const name = "model.layers.0.mlp.up_proj.weight";
  const of = (tensor: Tensor): Checkpoint => ({
    tensors: new Map(),
    find: (each) => ({ name: each, ...tensor.type, bytes: 0 }) as never, // all that is asked
    read: async () => tensor,
    readInto: async (_, { from, to }, into) => into.set(tensor.data.subarray(from, to)),
    locate: () => null,
    close: async () => {},
  });

  it("reads any part as the part of the whole", async () => {
    const part = fc.tuple(fc.nat(), fc.nat());
    await fc.assert(
      fc.asyncProperty(dtype, shape, wish, fc.infiniteStream(value), part, async (dtype, shape, wish, stream, part) => {
        const size = shape[0] * shape[1];
        const tensor = tensorOf(dtype, shape, [...stream.take(size)]);
        const checkpoint = sparseCheckpoint(of(tensor), parseSparsity(wish));
        const whole = await checkpoint.read(name);
        const expected = tensor.data.slice();
        keepLargest(expected, dtype, shape[1], parseSparsity(wish));
        expect(whole.data).toEqual(expected);
        const [from, to] = part.map((x) => x % (size + 1)).sort((a, b) => a - b) as [number, number]; // two of two
        const into = tensor.data.slice(from, to).fill(7);
        await checkpoint.readInto(name, { from, to }, into);
        expect(into).toEqual(expected.slice(from, to));
      }),
    );
  });

  it.each([
    "model.embed_tokens.weight",
    "lm_head.weight",
    "model.layers.1.mlp.gate.weight",
    "model.layers.0.self_attn.kv_b_proj.weight",
    "model.layers.0.mlp.up_proj.weight_scale_inv",
  ])("leaves %s as it is", async (each) => {
    const tensor = tensorOf("f32", [1, 4], [4, 3, 2, 1]);
    const checkpoint = sparseCheckpoint(of(tensor), parseSparsity("1:4"));
    expect((await checkpoint.read(each)).data).toEqual(tensor.data);
    expect([...(await checkpoint.read(name)).data]).toEqual([4, 0, 0, 0]);
  });
});

describe("what is asked for", () => {
  it.each(["", "2", "2:", "0:4", "5:4", "-1:4", "2:4:8", "1e1:4", -0.1, 1, Number.NaN])("is not %s", (wish) => {
    expect(() => parseSparsity(wish)).toThrow(/prune sparsity: expected/);
  });

  it("is said", () => {
    expect(sparsitySentence(parseSparsity("2:4"))).toBe("2 of each 4 weights in a row kept, the largest");
    expect(sparsitySentence(parseSparsity(0.5))).toBe("50 % of each row of weights set to 0, the smallest");
  });
});
