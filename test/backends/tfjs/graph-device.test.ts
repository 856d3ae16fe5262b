/** Devices of TensorFlow graphs: memory that outlives programs, order of effects, and what goes wrong. */
import fc from "fast-check";
import { describe, expect, it, test } from "vitest";
import { graphTargetOf } from "../../../src/backends/tfjs/graph-backend.ts";
import { openGraphDevice } from "../../../src/backends/tfjs/graph-device.ts";
import { compile, type Device, type ProgramMemory, prepareDevice } from "../../../src/compile.ts";
import { interpret } from "../../../src/ir/interpret.ts";
import { type Tensor, tensorOf } from "../../../src/ir/tensor.ts";
import { tensorType } from "../../../src/ir/types.ts";
import { same } from "../../arb/compare.ts";
import { type Build, moduleOf } from "../../arb/module-of.ts";
import { arbCase, compareWithInterpreter, modes } from "../random-programs.ts";
import { interpretedHost } from "./interpreted-host.ts";
import { hasUnsigned } from "./skipped.ts";
import { tensorFlowFolder } from "./tensorflow.ts";

const open = (seed = 1) => openGraphDevice(graphTargetOf("tensorflow"), interpretedHost(seed));
const noWeights: ProgramMemory["weight"] = () => {
  throw new Error("there are no weights");
};

/** Adds rows to a cache and gives what was there before and what is there now. */
const append: Build = (m, p) => {
  const cache = p("cache", "f32", 3, 2);
  const old = m.gather(cache, p("at", "i32", 1));
  const next = m.updateRows(cache, p("row", "f32", 1, 2), p("slots", "i32", 1));
  return [m.reduceSum(m.add(old, m.gather(next, p("at", "i32", 1)))), next];
};

function appending(device: Device, cache: Float32Array) {
  const module = moduleOf(append);
  const { params } = module.funcs.get("main")!;
  const at = (name: string) => params.findIndex((param) => param.attrs.name === name);
  const instance = compile(module, device).instantiate({ weight: noWeights, params: new Map([["cache", cache]]) });
  return async (row: readonly number[], slot: number): Promise<number> => {
    instance.params[at("row")]!.set(row);
    instance.params[at("slots")]![0] = slot;
    instance.params[at("at")]![0] = 1;
    await instance.run();
    return instance.results[0]![0]!;
  };
}

const cacheOf = (device: Device) => device.allocate(tensorType("f32", [3, 2]), "resident") as Float32Array; // of f32

describe("caches", () => {
  it("begin as zeros, are updated where they are, and outlive a program that is added", async () => {
    const device = open();
    const cache = cacheOf(device);
    const first = appending(device, cache);
    expect(await first([1, 2], 1)).toBe(3); // 0 before, 1 + 2 now
    expect(await first([5, 5], 0)).toBe(6); // row 1 is as it was
    const second = appending(device, cache);
    expect(await second([10, 10], -1)).toBe(6); // dropped
    expect(await second([10, 10], 1)).toBe(23);
    expect(await first([0, 0], 2)).toBe(40);
    await device.close();
  });

  it("are not shared by programs that were not given the same memory", async () => {
    const device = open();
    const [one, other] = [cacheOf(device), cacheOf(device)].map((cache) => appending(device, cache));
    expect(await one!([1, 2], 1)).toBe(3);
    expect(await other!([7, 7], 1)).toBe(14);
    expect(await one!([0, 0], 0)).toBe(6);
  });

  it("of two sessions meet in a program that reads both", async () => {
    const device = open();
    const [a, b] = [cacheOf(device), cacheOf(device)];
    await appending(device, a)([1, 2], 1);
    await appending(device, b)([4, 4], 1);
    const module = moduleOf((m, p) => m.add(p("a", "f32", 3, 2), p("b", "f32", 3, 2)));
    const params = new Map(Object.entries({ a, b }));
    const instance = compile(module, device).instantiate({ weight: noWeights, params });
    await instance.run();
    expect([...instance.results[0]!]).toEqual([0, 0, 5, 6, 0, 0]);
  });

  it("are read before and after the update as the program says, in whatever order nodes run", async () => {
    for (let seed = 1; seed <= 30; seed++) {
      const device = open(seed);
      const run = appending(device, cacheOf(device));
      expect([await run([1, 2], 1), await run([3, 4], 1)]).toEqual([3, 10]);
    }
  });
});

test("a program that is released leaves the caches to others", async () => {
  const device = open();
  const cache = cacheOf(device);
  const module = moduleOf(append);
  const instance = compile(module, device).instantiate({ weight: noWeights, params: new Map([["cache", cache]]) });
  instance.params.find((data) => data.length === 2)!.set([1, 2]);
  await instance.run();
  instance.release();
  expect(await appending(device, cache)([0, 0], 2)).toBe(0); // row 0 was written, row 1 is read
  await device.close();
});

test("steps in a row go on from what the one before left", async () => {
  const device = open();
  const module = moduleOf((m, p) => {
    const x = p("x", "f32", 1, 2);
    return m.updateRows(x, m.mul(x, p("factor", "f32", 1, 2)), m.full("i32", [1], 0));
  });
  const instance = compile(module, device).instantiate({ weight: noWeights });
  const [x, factor] = instance.params as readonly [Float32Array, Float32Array]; // two parameters of f32
  x.set([1, 3]);
  factor.set([2, 1]);
  const first = instance.queue!({ times: 3, write: [x, factor], read: x });
  factor.set([10, 1]);
  const second = instance.queue!({ times: 1, write: [factor], read: x });
  const none = instance.queue!({ times: 0, write: [], read: x });
  expect([...(await first)]).toEqual([8, 3]);
  expect([...(await second)]).toEqual([80, 3]);
  expect([...(await none)]).toEqual([1, 3]);
});

/** Up and down through two of four experts, for n tokens. All numbers are whole and below 2^24: any order of addition does. */
async function throughExperts(n: number, width: number): Promise<string> {
  const device = open();
  const module = moduleOf((m, p) => {
    const index = p("index", "i32", n, 2);
    const up = m.gather(m.builder.weight("up", "f32", [4, 5, width]), index);
    const down = m.gather(m.builder.weight("down", "f32", [4, width, 5]), index);
    const wide = m.contract("n i, n k f i -> n k f", p("x", "f32", n, width), up);
    return m.contract("n k f, n k i f -> n i", wide, down);
  });
  const numbers = (count: number, seed: number) => Array.from({ length: count }, (_, i) => ((i * seed) % 7) - 3);
  const tensors = new Map<string, Tensor>([
    ["up", tensorOf("f32", [4, 5, width], numbers(20 * width, 5))],
    ["down", tensorOf("f32", [4, width, 5], numbers(20 * width, 11))],
  ]);
  const weights = (name: string) => tensors.get(name)!;
  const inputs = module.funcs.get("main")!.params.map(({ type }) =>
    type.dtype === "i32"
      ? tensorOf(
          "i32",
          [n, 2],
          Array.from({ length: 2 * n }, (_, i) => (i * 3 + (i >> 1)) % 4),
        )
      : tensorOf("f32", [n, width], numbers(n * width, 3)),
  );
  const executable = compile(module, device);
  same(await executable.run(inputs, weights), interpret(module, inputs, { weights }));
  return executable.program.sources[0]!;
}

test("what one token chooses is multiplied row by row", async () => {
  const source = await throughExperts(1, 900);
  expect(source).not.toMatch(/GatherV2\(Read/);
  expect(source.match(/= MatMul\(/g)).toHaveLength(4);
  // Small rows are gathered.
  expect((await throughExperts(1, 3)).match(/= MatMul\(/g)).toHaveLength(2);
});

test("what many tokens choose is a product with the whole table", async () => {
  const source = await throughExperts(6, 3);
  expect(source.match(/= MatMul\(/g)).toHaveLength(2);
  expect(source.match(/= BatchMatMulV2\(/g)).toHaveLength(1);
});

test("codes of weights are unpacked when they are loaded, once for all programs", async () => {
  const device = open();
  const module = moduleOf((m, p) => {
    const codes = m.builder.weight("codes", "i4", [3, 8]);
    const w = m.dequantizeGroups(codes, [m.builder.weight("scales", "f16", [3, 2])], 4);
    return m.contract("n i, o i -> n o", p("x", "f32", 1, 8), w);
  });
  const tensors = new Map<string, Tensor>([
    [
      "codes",
      tensorOf(
        "i4",
        [3, 8],
        Array.from({ length: 24 }, (_, i) => (i % 16) - 8),
      ),
    ],
    ["scales", tensorOf("f16", [3, 2], [1, 0.5, 2, 4, 0.25, 1])],
  ]);
  const weights = (name: string) => tensors.get(name)!;
  const inputs = [tensorOf("f32", [1, 8], [1, 2, 3, 4, -1, -2, -3, -4])];
  const executable = compile(module, device);
  same(await executable.run(inputs, weights), interpret(module, inputs, { weights }));
  expect(executable.program.sources[0]).not.toContain("int8");
});

test.each([true, false])("weights are there when a program is added, handed over: %s", async (moves) => {
  const device = openGraphDevice(graphTargetOf("tensorflow"), interpretedHost(1, moves));
  const type = tensorType("f32", [2, 3]);
  const w = device.hold(type, Float32Array.of(1, 2, 3, 4, 5, 6));
  const product: Build = (m, p) =>
    m.contract("n i, o i -> n o", p("x", "f32", 1, 3), m.builder.weight("w", "f32", [2, 3]));
  const add = () => {
    const instance = compile(moduleOf(product), device, { optimize: false }).instantiate({ weight: () => w });
    instance.params[0]!.set([1, 1, 1]);
    return instance;
  };
  const [first, second] = [add(), add()];
  for (const instance of [first, second, add(), first]) {
    await instance.run();
    expect([...instance.results[0]!]).toEqual([6, 15]);
  }
});

test("random programs", async () => {
  const device = open();
  const programs = arbCase({ finite: true, without: ["dotGroups"] }).filter(({ module }) => !hasUnsigned(module));
  await fc.assert(
    fc.asyncProperty(programs, ({ module, given }) =>
      compareWithInterpreter(device, module, given, modes["optimised and fused"]!),
    ),
    { numRuns: 150 },
  );
});

test("a package that is not there is told from the thread", async () => {
  const opening = prepareDevice("tensorflow", { packageFolder: "/nowhere" });
  await expect(opening).rejects.toThrow("the package @tensorflow/tfjs-node is not installed");
});

/** Products with weights of bf16: by rows in blocks, of both orders, and of chosen rows. All values are small integers. */
const narrowProducts: readonly {
  readonly axes: string;
  readonly x: readonly number[];
  readonly w: readonly number[];
  readonly blocks: number;
}[] = [
  { axes: "n i, i o -> n o", x: [1, 48], w: [48, 60_000], blocks: 2 },
  { axes: "n i, o i -> n o", x: [2, 64], w: [40_000, 64], blocks: 2 },
  { axes: "n i, i o -> n o", x: [2, 3], w: [3, 5], blocks: 1 },
  { axes: "n i, n k f i -> n k f", x: [1, 64], w: [3, 64, 64], blocks: 2 },
  { axes: "n i, n k f i -> n k f", x: [4, 64], w: [3, 64, 64], blocks: 1 },
  { axes: "n i, n k f i -> n k f", x: [2, 3], w: [8, 5, 3], blocks: 0 },
];

function narrowProduct({ axes, x, w }: (typeof narrowProducts)[number]) {
  const module = moduleOf((m, p) => {
    const weight = m.builder.weight("w", "bf16", w);
    const chosen = w.length === 2 ? weight : m.gather(weight, p("experts", "i32", x[0]!, 2));
    return m.contract(axes, p("x", "f32", ...x), m.cast(chosen, "f32"));
  });
  const given = module.funcs.get("main")!.params.map(({ type }) =>
    tensorOf(
      type.dtype,
      type.shape,
      Array.from({ length: type.shape.reduce((a, b) => a * b) }, (_, i) => (i * 7) % 3),
    ),
  );
  const weight = tensorOf(
    "bf16",
    w,
    Array.from({ length: w.reduce((a, b) => a * b) }, (_, i) => ((i * 5) % 7) - 3),
  );
  return { module, given, weights: () => weight };
}

describe.each(narrowProducts)("a weight of bf16: $axes, $x by $w", (each) => {
  const { module, given, weights } = narrowProduct(each);
  const wanted = interpret(module, given, { weights });
  const target = { ...graphTargetOf("tensorflow"), narrowWeights: { dtypes: ["bf16"], least: 1 } } as const;

  it("is a variable of bf16, widened in blocks one after another", async () => {
    const device = openGraphDevice(target, interpretedHost(3));
    const made = compile(module, device);
    const graph = made.program.sources.join();
    expect(graph).toMatch(/VarHandleOp\(\) \{dtype=bfloat16/);
    // What is widened waits: for the input or the block before.
    const casts = graph.split("\n").filter((line) => /SrcT=bfloat16, DstT=float/.test(line) && line.includes("^"));
    expect(casts.length).toBe(each.blocks);
    same(await made.run(given, weights), wanted);
    await device.close();
  });

  it.skipIf(tensorFlowFolder === null)("on TensorFlow", async () => {
    const device = { ...(await prepareDevice("tensorflow", { packageFolder: tensorFlowFolder! })), target };
    same(await compile(module, device).run(given, weights), wanted);
    await device.close();
  });
});

describe.skipIf(tensorFlowFolder === null)("with TensorFlow", () => {
  it("keeps caches when a program is added", async () => {
    const device = await prepareDevice("tensorflow", { packageFolder: tensorFlowFolder! });
    const cache = cacheOf(device);
    const first = appending(device, cache);
    expect(await first([1, 2], 1)).toBe(3);
    const second = appending(device, cache);
    expect(await second([10, 10], 1)).toBe(23);
    expect(await first([0, 0], 2)).toBe(40);
    await device.close();
  });
});
