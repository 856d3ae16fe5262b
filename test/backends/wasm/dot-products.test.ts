/** Every form of products of codes, on every instruction set and number of threads, gives the interpreter's bits. */
import fc from "fast-check";
import { afterAll, describe, expect, test } from "vitest";
import { probe } from "../../../src/backends/wasm/probe.ts";
import { compileToPlan, openDevice } from "../../../src/compile.ts";
import { maths } from "../../../src/ir/build.ts";
import { Builder, type Module, makeModule } from "../../../src/ir/graph.ts";
import { interpret } from "../../../src/ir/interpret.ts";
import { dotBlock, dotChunks } from "../../../src/ir/ops/dot.ts";
import { type ByteDots, wasmTarget } from "../../../src/ir/target.ts";
import { type Tensor, tensorOf } from "../../../src/ir/tensor.ts";

const small = ["quads", "pairs", "words"] as const;
const any = ["unsigned", "signed", "pairs", "words"] as const;
/** Codes of 4 bits are multiplied by the one, codes of 8 bits by the other. */
const forms: readonly (readonly [string, number, string, ByteDots])[] = [
  ...small.map((form) => ["codes", 4, form, { small: form, any: "words" }] as const),
  ...small.map((form) => ["affine codes", 4, form, { small: form, any: "words" }] as const),
  ["codes", 4, "whole bytes", { small: "quads", any: "unsigned" }],
  ["affine codes", 4, "whole bytes", { small: "quads", any: "unsigned" }],
  ...any.map((form) => ["codes", 8, form, { small: "words", any: form }] as const),
  ...(["signed", "words"] as const).map((form) => ["pairs of codes", 5, form, { small: "words", any: form }] as const),
];
const zeroOf = (bits: number, affine: boolean) => (affine || bits === 5 ? 0 : bits === 8 ? 128 : 8);

interface Sizes {
  /** Leading axes of the input and of the weights. */
  readonly lead: readonly [readonly number[], readonly number[]];
  readonly blocks: number;
  readonly groups: number;
}

const arbSizes: fc.Arbitrary<Sizes> = fc.record({
  lead: fc.constantFrom(
    [[], []] as const,
    [[1], []] as const,
    [[3], []] as const,
    [[8], []] as const,
    // Enough tokens for a panel.
    [[12], []] as const,
    [[3, 2], []] as const,
    [[3, 4], []] as const,
    [[2], [2, 3]] as const,
  ),
  // Up to more tiles of the largest size than eight, and numbers that no tile divides.
  blocks: fc.constantFrom(1, 3, 16, 32, 129, 256),
  groups: fc.integer({ min: 1, max: 3 }),
});

/** Tokens that each choose weights of a table: enough of them, per weight, that those that chose the same share tiles. */
interface Choices {
  readonly tokens: number;
  readonly each: number;
  readonly table: number;
  /** Whether inputs are of tokens, or of each choice. */
  readonly perToken: boolean;
  readonly blocks: number;
  readonly groups: number;
}

const arbChoices: fc.Arbitrary<Choices> = fc.record({
  tokens: fc.constantFrom(12, 19, 40),
  each: fc.constantFrom(1, 2, 3),
  table: fc.constantFrom(1, 2, 3),
  perToken: fc.boolean(),
  blocks: fc.constantFrom(1, 3, 16, 32),
  groups: fc.integer({ min: 1, max: 3 }),
});

function choiceModule(sizes: Choices, bits: number, affine: boolean): Module {
  const { tokens, each, table, perToken, blocks, groups } = sizes;
  const builder = new Builder();
  const lead = perToken ? [tokens] : [tokens, each];
  const inputs = [
    builder.param("x", "i8", [...lead, groups * 32]),
    builder.param("x_scale", "f32", [...lead, groups]),
    builder.param("x_sum", "f32", [...lead, groups]),
  ];
  const tables = [
    builder.param("w", "u8", [table, blocks, groups, dotChunks(bits), 4, 4]),
    builder.param("w_scale", "f16", [table, blocks, groups, dotBlock(bits)]),
    ...(affine ? [builder.param("w_min", "f16", [table, blocks, groups, dotBlock(bits)])] : []),
  ];
  const index = builder.param("index", "i32", [tokens, each]);
  const chosen = tables.map((rows) => maths(builder).gather(rows, index));
  const out = builder.make("dotGroups", [...inputs, ...chosen], { bits, zero: zeroOf(bits, affine) });
  return makeModule("m", [{ name: "main", params: [...inputs, ...tables, index], outs: [out] }], "main");
}

function dotModule({ lead: [x, w], blocks, groups }: Sizes, bits: number, affine: boolean): Module {
  const builder = new Builder();
  const params = [
    builder.param("x", "i8", [...x, groups * 32]),
    builder.param("x_scale", "f32", [...x, groups]),
    builder.param("x_sum", "f32", [...x, groups]),
    builder.param("w", "u8", [...w, blocks, groups, dotChunks(bits), 4, 4]),
    builder.param("w_scale", "f16", [...w, blocks, groups, dotBlock(bits)]),
  ];
  if (affine) params.push(builder.param("w_min", "f16", [...w, blocks, groups, dotBlock(bits)]));
  const out = builder.make("dotGroups", params, { bits, zero: zeroOf(bits, affine) });
  return makeModule("m", [{ name: "main", params, outs: [out] }], "main");
}

/** Codes with many extreme ones; scales are powers of two, so that sums of three groups are exact in f32. */
function inputsOf(module: Module, seed: number): Tensor[] {
  let state = seed;
  const next = (): number => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return (state >>> 16) & 0xffff;
  };
  const byte = (): number => (next() % 2 === 0 ? [0, 255, 128, 127, 1, 15, 240, 136][next() % 8]! : next() % 256);
  const { params } = module.funcs.get("main")!;
  const tensors = params.map(({ type: { dtype, shape } }) => {
    const length = shape.reduce((a, b) => a * b, 1);
    const value = (): number => {
      if (dtype === "u8") return byte();
      if (dtype === "i8") return (byte() << 24) >> 24;
      if (dtype === "i32") return (next() % 6) - 1; // indices, some of them beyond the table
      return 2 ** ((next() % 2) - 1);
    };
    return tensorOf(dtype, shape, Array.from({ length }, value));
  });
  const [x, , sums] = tensors;
  sums!.data.fill(0);
  for (let g = 0; g < sums!.data.length; g++) {
    for (let k = 0; k < 32; k++) sums!.data[g]! += x!.data[32 * g + k]!;
  }
  return tensors;
}

const settings = [
  { tier: "relaxed", threads: 1 },
  { tier: "relaxed", threads: 3 },
  { tier: "simd", threads: 1 },
  { tier: "simd", threads: 2 },
];

describe.each(settings)("$tier on $threads threads", ({ tier, threads }) => {
  const device = openDevice("wasm", { tier, threads });
  afterAll(() => device.close());

  const check = async (module: Module, seed: number, byteDots: ByteDots, scratchBytes = wasmTarget.scratchBytes) => {
    const inputs = inputsOf(module, seed);
    const { plan } = compileToPlan(module, { ...wasmTarget, byteDots, scratchBytes });
    const instance = device.load(plan).instantiate({
      weight: () => {
        throw new Error("there are no weights");
      },
    });
    for (const [i, { data }] of inputs.entries()) instance.params[i]!.set(data);
    await instance.run();
    const [expected] = interpret(module, inputs);
    expect([...instance.results[0]!]).toEqual([...expected!.data]);
  };

  test.each(forms)("%s of %i bits by %s", async (kind, bits, _, byteDots) => {
    const each = (sizes: Sizes, seed: number) => check(dotModule(sizes, bits, kind === "affine codes"), seed, byteDots);
    await fc.assert(fc.asyncProperty(arbSizes, fc.nat(), each), { numRuns: 12 });
  });

  test.each(forms)("%s of %i bits by %s, with little scratch", async (kind, bits, _, byteDots) => {
    const sizes: Sizes = { lead: [[12], []], blocks: 16, groups: 2 };
    for (const scratchBytes of [512, 4096]) {
      await check(dotModule(sizes, bits, kind === "affine codes"), scratchBytes, byteDots, scratchBytes);
    }
  });

  test.each(forms)("%s of %i bits by %s, chosen by tokens", async (kind, bits, _, byteDots) => {
    const each = (sizes: Choices, seed: number) =>
      check(choiceModule(sizes, bits, kind === "affine codes"), seed, byteDots);
    await fc.assert(fc.asyncProperty(arbChoices, fc.nat(), each), { numRuns: 6 });
  });
});

test("tiers say which products lowerings shall use", () => {
  const dotsOf = (tier: string) => {
    const device = openDevice("wasm", { tier });
    void device.close();
    return device.target.byteDots;
  };
  expect(dotsOf("simd")).toEqual({ small: "words", any: "words" });
  expect(dotsOf("pairs")).toEqual({ small: "pairs", any: probe().dotMagnitudes ? "pairs" : "words" });
  expect(dotsOf("quads")).toMatchObject({ small: "quads" });
  expect([dotsOf("quads"), dotsOf("pairs")]).toContainEqual(dotsOf("relaxed"));
});
