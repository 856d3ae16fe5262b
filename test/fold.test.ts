/** Weights evaluated at load time: every expression against the interpreter, and how loading behaves. */

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { FilledWords } from "../src/backends/webgpu/filled-words.ts";
import { compileToPlan, openDevice, type WeightFill } from "../src/compile.ts";
import { type Box, blocksOf, evaluateFold, FoldPrograms, planFold } from "../src/fold.ts";
import type { Maths } from "../src/ir/build.ts";
import { type Module, makeModule, type Node } from "../src/ir/graph.ts";
import { interpret } from "../src/ir/interpret.ts";
import type { Plan } from "../src/ir/plan.ts";
import { printFunc } from "../src/ir/print.ts";
import { jsTarget, wasmTarget } from "../src/ir/target.ts";
import { type Tensor, type TensorData, tensorFrom, zeros } from "../src/ir/tensor.ts";
import { byteSize, type DType, type TensorType } from "../src/ir/types.ts";
import type { WeightSource } from "../src/ir/weight.ts";
import { type ReadWeight, WeightStore } from "../src/runtime/weights/weight-store.ts";
import { same } from "./arb/compare.ts";
import { weightTypes } from "./arb/inputs.ts";
import { contentsOf, funcOf, moduleOf } from "./arb/module-of.ts";

type Expression = (m: Maths, w: (name: string, dtype: DType, ...shape: number[]) => Node) => Node;

/** A module that returns the expression and reads it once more. */
function moduleWith(expression: Expression): Module {
  return moduleOf((m) => expression(m, (name, dtype, ...shape) => m.builder.weight(name, dtype, shape)));
}

function sourceOf(module: Module): WeightSource {
  const tensors = new Map([...weightTypes(module)].map(([name, type], i) => [name, contentsOf(type, i)]));
  return (name) => tensors.get(name)!;
}

const expressions: Record<string, Expression> = {
  "a weight alone": (_, w) => w("w", "f32", 3, 5),
  "f16 to f32": (m, w) => m.cast(w("w", "f16", 3, 5), "f32"),
  "bf16 to f32": (m, w) => m.cast(w("w", "bf16", 7), "f32"),
  "fp8 to f32": (m, w) => m.cast(w("w", "f8e4m3", 4, 4), "f32"),
  "f32 to bf16": (m, w) => m.cast(w("w", "f32", 4, 4), "bf16"),
  "4 bits to f32": (m, w) => m.cast(w("w", "i4", 3, 3), "f32"),
  "a cast there and back": (m, w) => m.cast(m.cast(w("w", "f32", 9), "f16"), "f32"),
  "FP8 blocks that do not divide": (m, w) => m.dequantizeBlocks(w("w", "f8e4m3", 5, 7), w("s", "f32", 2, 3), [3, 3]),
  concat: (m, w) => m.concat(0, m.cast(w("q", "bf16", 2, 4), "f32"), m.cast(w("k", "f16", 3, 4), "f32")),
  "transposed and cut": (m, w) => m.slice(m.transpose(w("w", "f32", 3, 5), [1, 0]), 0, 1, 4),
  "the sum of two": (m, w) => m.mul(m.add(w("a", "f32", 6), w("b", "f32", 6)), 0.5),
  "one weight twice": (m, w) => m.mul(w("a", "f32", 6), m.exp(w("a", "f32", 6))),
  "a product": (m, w) => m.contract("a b, b c -> a c", w("a", "f32", 3, 4), w("b", "f32", 4, 2)),
  "rows replaced": (m, w) => m.updateRows(w("a", "f32", 4, 2), w("b", "f32", 2, 2), w("i", "i32", 2)),
  "stacked experts": (m, w) => m.cast(w("e.{0}.w", "bf16", 3, 2, 4), "f32"),
  "stacked experts of odd 4-bit parts": (m, w) => m.cast(w("e.{0}.w", "u4", 3, 5), "f32"),
  "stacked experts of odd 4-bit parts, all at once": (m, w) =>
    m.reduceSum(m.transpose(m.cast(w("e.{0}.w", "i4", 3, 5), "f32"), [1, 0])),
  "stacked 4-bit experts alone": (_, w) => w("e.{0}.w", "i4", 2, 3, 3),
  "stacked FP8 experts": (m, w) =>
    m.dequantizeBlocks(w("e.{0}.w", "f8e4m3", 3, 5, 7), w("e.{0}.s", "f32", 3, 2, 3), [3, 3]),
  "gate and up of stacked experts": (m, w) =>
    m.concat(1, m.cast(w("e.{0}.gate", "bf16", 2, 3, 4), "f32"), m.cast(w("e.{0}.up", "bf16", 2, 3, 4), "f32")),
  "a sum over stacked experts, which needs all": (m, w) => m.reduceSum(m.transpose(w("e.{0}.w", "f32", 3, 4), [1, 0])),
};

/** A device whose weights are words elsewhere; nothing may be allocated for them here. */
function deviceApart() {
  const held = new Map<TensorData, Uint8Array>();
  const fill = (type: TensorType): WeightFill => {
    const memory = new Uint8Array(4 * Math.ceil(byteSize(type) / 4));
    const words = new FilledWords(type);
    const data = zeros(type.dtype, [0]).data;
    held.set(data, memory);
    const put = (at: number, part: TensorData, count: number) => {
      const { word, content } = words.put(at, part, count);
      memory.set(content, 4 * word);
    };
    return { data, put };
  };
  const allocate = () => {
    throw new Error("memory of the host for a weight");
  };
  return { device: { ...openDevice("js"), fill, allocate }, held };
}

describe.each(Object.entries(expressions))("%s", (_, expression) => {
  const module = moduleWith(expression);
  const source = sourceOf(module);
  const [expected] = interpret(module, [], { weights: source }) as [Tensor]; // one result

  const [expr] = module.funcs.get("main")!.outs;

  test("folded whole", () => {
    const tensors = new Map([...weightTypes(module).keys()].map((name) => [name, source(name)]));
    const before = [...tensors.values()].map(({ data }) => data.slice());
    for (const small of [0, 0, 8192]) {
      const [value] = evaluateFold([expr!], (name) => tensors.get(name)!, new FoldPrograms(openDevice("js"), small));
      same([tensorFrom(expr!.type, value!)], [expected]);
      expect([...tensors.values()].map(({ data }) => data)).toEqual(before);
    }
  });

  test.each([1, 4, 12])("block by block, of %i elements", async (blockElements) => {
    for (const backend of ["js", "wasm"]) {
      const store = new WeightStore(async (name) => source(name), openDevice(backend), { blockElements, smallFold: 0 });
      same([tensorFrom(expr!.type, await store.evaluate(expr!, null))], [expected]);
    }
  });

  test.each([1, 4, 12])("into memory that is the device's alone, by blocks of %i elements", async (blockElements) => {
    const { device, held } = deviceApart();
    const { plan } = compileToPlan(module, jsTarget);
    const options = { blockElements, smallFold: 0 };
    const store = new WeightStore(async (name) => source(name), device, options);
    await store.load(plan);
    for (const [i, expr] of plan.funcs.get("main")!.weights.entries()) {
      const stand = store.lookup(plan)("main", i, null);
      expect(stand.length).toBe(0);
      const want = await new WeightStore(async (name) => source(name), openDevice("js"), options).evaluate(expr, null);
      const bytes = new Uint8Array(want.buffer, want.byteOffset, want.byteLength);
      expect([...held.get(stand)!.subarray(0, bytes.length)]).toEqual([...bytes]);
      // Asked for on the host, it is computed once more.
      expect(await store.evaluate(expr, null)).toEqual(want);
    }
  });

  test("loaded", async () => {
    const { plan } = compileToPlan(module, jsTarget);
    const store = new WeightStore(async (name) => source(name), openDevice("js"));
    await store.load(plan);
    const weights = plan.funcs.get("main")!.weights;
    const values = weights.map(({ type }, i) => tensorFrom(type, store.lookup(plan)("main", i, null)));
    // An expression that is not kept whole (a product that grows) is computed by the step.
    if (weights.length === 1 && weights[0]!.type.shape.join() === expected.type.shape.join()) same(values, [expected]);
    expect(store.bytes).toBe(weights.reduce((sum, { type }) => sum + byteSize(type), 0));
  });
});

test("expressions are cut where blocks need parts of weights alone", () => {
  const blocks = (name: string) => blocksOf([moduleWith(expressions[name]!).funcs.get("main")!.outs[0]!], 8);
  expect(blocks("stacked FP8 experts")).toHaveLength(3);
  expect(blocks("gate and up of stacked experts")).toHaveLength(8);
  expect(blocks("a product")).toHaveLength(1);
  // Of every expert the same elements.
  expect(blocks("a sum over stacked experts, which needs all")).toHaveLength(2);
});

test("FP8 weights of published sizes are cut along their scales", () => {
  const limit = 2 ** 20;
  for (const [rows, columns] of [
    [18432, 7168],
    [7168, 18432],
  ] as const) {
    const expr = moduleWith((m, w) => {
      const blocks = w("s", "f32", rows / 128, columns / 128);
      return m.dequantizeBlocks(w("w", "f8e4m3", rows, columns), blocks, [128, 128]);
    }).funcs.get("main")!.outs[0]!;
    const sizes = blocksOf([expr], limit).map(({ reads }) => reads.reduce((sum, { box }) => sum + boxSize(box), 0));
    // At least 128 rows, which share scales.
    expect(Math.max(...sizes)).toBeLessThan(Math.max(limit, 130 * columns));
    expect(sizes.reduce((a, b) => a + b, 0)).toBeLessThan(1.5 * rows * columns);
  }
});

test("temporaries are those of a block, whatever the size", () => {
  const [rows, columns] = [7168, 18432];
  const { outs } = moduleWith((m, w) => {
    const x = m.dequantizeBlocks(w("w", "f8e4m3", rows, columns), w("s", "f32", rows / 128, columns / 128), [128, 128]);
    const scales = m.groupScales(x, { group: 32, to: "i4", method: "mse" });
    return m.quantizeGroups(x, [scales], "i4", 32);
  }).funcs.get("main")!;
  for (const target of [jsTarget, wasmTarget]) {
    const plans = new Map(blocksOf(outs, 2 ** 19).map(({ func }) => [printFunc(func, { canonical: true }), func]));
    expect(plans.size).toBe(1);
    // FP8 is expanded to f32 for 128 rows, the fewest that share scales.
    for (const func of plans.values()) {
      expect(planFold(func, target).funcs.get("fold")!.arenaBytes).toBeLessThan(4.5 * 128 * columns);
    }
  }
});

test.each([1, 2])("memory of a program is given back for the next, with %i threads", async (threads) => {
  const device = openDevice("wasm", { threads });
  const programs = new FoldPrograms(device);
  const foldOf = (size: number) =>
    blocksOf(moduleWith((m, w) => m.cast(w("w", "bf16", size), "f32")).funcs.get("main")!.outs, 2 ** 20)[0]!;
  const places = new Set<number>();
  for (const size of [4000, 3000, 4000, 2000]) {
    const instance = programs.ready(foldOf(size).func);
    instance.params[0]!.fill(0x3f80);
    await instance.run();
    expect(instance.results[0]!.every((value) => value === 1)).toBe(true);
    places.add(instance.params[0]!.byteOffset);
  }
  expect([places.size, programs.count]).toEqual([1, 3]);
  programs.release();
  expect(device.allocate({ dtype: "u8", shape: [4000] }).byteOffset).toBe([...places][0]);
  await device.close();
});

const boxSize = (box: Box) => box.reduce((size, { from, to }) => size * (to - from), 1);

test("blocks of equal size are one program", () => {
  const { outs } = moduleWith((m, w) =>
    m.cast(m.concat(0, w("q", "bf16", 16, 4), w("k", "bf16", 8, 4)), "f32"),
  ).funcs.get("main")!;
  const programs = new FoldPrograms(openDevice("js"));
  const blocks = blocksOf(outs, 16);
  for (const { func } of blocks) programs.ready(func);
  expect([blocks.length, programs.count]).toEqual([6, 1]);
});

/** Two layers, a stacked weight, and an entry that shares `shared` with the layers. */
function layered(n: number): Module {
  const layer = funcOf("layer", (m, p) => {
    const w = m.cast(m.builder.weight("layers.{layer}.w", "bf16", [4, 4]), "f32");
    const experts = m.cast(m.builder.weight("layers.{layer}.e.{0}.w", "f16", [4, 4]), "f32");
    const shared = m.cast(m.builder.weight("shared", "f16", [4, 4]), "f32");
    return [w, experts, shared].reduce((x: Node, y) => m.contract("n i, o i -> n o", x, y), p("x", "f32", n, 4));
  });
  const main = funcOf("main", (m, p) => {
    const shared = m.cast(m.builder.weight("shared", "f16", [4, 4]), "f32");
    const [first] = m.builder.call(layer, [m.contract("n i, o i -> n o", p("x", "f32", n, 4), shared)], 0);
    return m.builder.call(layer, [first!], 1);
  });
  return makeModule("layered", [layer, main], "main");
}

describe("weight store", () => {
  const planOf = (n: number): Plan => compileToPlan(layered(n), jsTarget).plan;
  const source = sourceOf(layered(1));

  test("buckets share values, and a weight without a layer is read once", async () => {
    const reads: string[] = [];
    const store = new WeightStore(async (name) => {
      reads.push(name);
      return source(name);
    }, openDevice("js"));
    const [one, four] = [planOf(1), planOf(4)];
    await store.load(one);
    expect(reads.filter((name) => name === "shared").length).toBe(1);
    expect(new Set(reads).size).toBe(reads.length);
    const { length } = reads;
    const { bytes } = store;
    await store.load(four);
    expect([reads.length, store.bytes]).toEqual([length, bytes]);
    for (const layer of [0, 1]) {
      for (const i of one.funcs.get("layer")!.weights.keys())
        expect(store.lookup(four)("layer", i, layer)).toBe(store.lookup(one)("layer", i, layer));
    }
    expect(store.lookup(one)("layer", 0, 0)).not.toBe(store.lookup(one)("layer", 0, 1));
  });

  test("progress grows to the total", async () => {
    const seen: [number, number][] = [];
    const store = new WeightStore(async (name) => source(name), openDevice("js"));
    await store.load(planOf(1), (done, total) => seen.push([done, total]));
    const total = 5 * 64; // one shared matrix, two of each layer
    expect(seen.map(([, each]) => each)).toEqual(seen.map(() => total));
    expect(seen.map(([done]) => done)).toEqual([1, 2, 3, 4, 5].map((i) => i * 64));
    expect(store.bytes).toBe(total);
  });

  test("a tensor of another type is named", async () => {
    const load = (tensor: Tensor) =>
      new WeightStore(async (name) => (name === "layers.1.e.2.w" ? tensor : source(name)), openDevice("js")).load(
        planOf(1),
      );
    await expect(load(zeros("f16", [5]))).rejects.toThrow("weight layers.1.e.2.w: expected f16[4], got f16[5]");
    await expect(load(zeros("f32", [4]))).rejects.toThrow("weight layers.1.e.2.w: expected f16[4], got f32[4]");
  });

  test("a signal stops it between expressions; what was loaded stays", async () => {
    const controller = new AbortController();
    const store = new WeightStore(async (name) => source(name), openDevice("js"));
    const progress = () => controller.abort(new Error("enough"));
    await expect(store.load(planOf(1), progress, controller.signal)).rejects.toThrow("enough");
    expect(store.bytes).toBe(64);
    await store.load(planOf(1));
    expect(store.bytes).toBe(5 * 64);
  });

  test("an error of the reader leaves the store usable", async () => {
    let broken = true;
    const store = new WeightStore(async (name) => {
      if (broken && name.includes("layers.1")) throw new Error("disk");
      return source(name);
    }, openDevice("js"));
    await expect(store.load(planOf(1))).rejects.toThrow("disk");
    broken = false;
    await store.load(planOf(1));
    expect(store.bytes).toBe(5 * 64);
  });

  test("a tensor that is given whole is not asked for again and again", async () => {
    const { outs } = moduleWith((m, w) => m.cast(w("w", "bf16", 100, 4), "f32")).funcs.get("main")!;
    let asked = 0;
    const read = async () => {
      asked++;
      await Promise.resolve();
      return contentsOf({ dtype: "bf16", shape: [100, 4] }, 1);
    };
    const store = new WeightStore(read, openDevice("js"), { blockElements: 4, readAhead: 2 });
    await store.evaluate(outs[0]!, null);
    expect(asked).toBeLessThanOrEqual(2);
  });

  test("a few blocks are read ahead, and no more", async () => {
    const module = moduleOf((m, p) => {
      const w = m.cast(m.builder.weight("e.{0}.w", "bf16", [16, 8, 8]), "f32");
      return m.contract("n i, e o i -> n e o", p("x", "f32", 1, 8), w);
    });
    const { plan } = compileToPlan(module, jsTarget);
    let [open, most] = [0, 0];
    const read: ReadWeight = async (_, { from, to }, into) => {
      most = Math.max(most, ++open);
      expect(into.length).toBe(to - from);
      await Promise.resolve();
      open--;
      return { dtype: "bf16", shape: [8, 8] };
    };
    const store = new WeightStore(read, openDevice("js"), { blockElements: 32, readAhead: 2 });
    await store.load(plan);
    expect(most).toBe(2);
    const { type } = plan.funcs.get("main")!.weights[0]!;
    expect(store.bytes).toBe(byteSize(type));
  });
});

test("random expressions of weights", () => {
  const arb = fc.record({
    dtype: fc.constantFrom<DType>("f32", "bf16", "f16", "f8e4m3", "i8"),
    seed: fc.nat(1000),
    ops: fc.array(fc.nat(5), { maxLength: 6 }),
  });
  fc.assert(
    fc.property(arb, ({ dtype, ops }) => {
      const module = moduleWith((m, w) => {
        let x = m.cast(w("a", dtype, 2, 6), "f32");
        for (const [i, op] of ops.entries()) {
          if (op === 0) x = m.cast(m.cast(x, "bf16"), "f32");
          else if (op === 1) x = m.transpose(x, [1, 0]);
          else if (op === 2) x = m.concat(0, x, m.cast(w(`b${i}`, "f16", ...x.type.shape), "f32"));
          else if (op === 3) x = m.slice(x, 0, 0, Math.ceil(x.type.shape[0]! / 2));
          else if (op === 4) x = m.mul(x, m.expandLast(m.reduceMax(x)));
          else x = m.reshape(x, [x.type.shape[1]!, x.type.shape[0]!]);
        }
        return x;
      });
      const source = sourceOf(module);
      const [expr] = module.funcs.get("main")!.outs;
      const [data] = evaluateFold([expr!], source, new FoldPrograms(openDevice("js"), 0));
      same([tensorFrom(expr!.type, data!)], interpret(module, [], { weights: source }));
    }),
    { numRuns: 60 },
  );
});
