/** Merging changes no bit of any result, iterations of what it makes run in any order, and it explains itself. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { compileToPlan } from "../../../src/compile.ts";
import type { Maths } from "../../../src/ir/build.ts";
import { type Func, getFunc, type Module, type Node } from "../../../src/ir/graph.ts";
import type { Kernel } from "../../../src/ir/kernel/kernel.ts";
import { printKernel } from "../../../src/ir/kernel/print.ts";
import { runKernel } from "../../../src/ir/kernel/run.ts";
import { verifyKernel } from "../../../src/ir/kernel/verify.ts";
import { gridLoop, writesOf } from "../../../src/ir/kernel/walk.ts";
import { planTotals } from "../../../src/ir/plan.ts";
import { printModule } from "../../../src/ir/print.ts";
import { jsTarget, type Target, wasmTarget, webgpuTarget } from "../../../src/ir/target.ts";
import { type Tensor, type TensorData, tensorFrom, zeros } from "../../../src/ir/tensor.ts";
import { type LoweredKernel, lowerFunc, resultsOf } from "../../../src/passes/lower/lower.ts";
import { planMemory } from "../../../src/passes/memory.ts";
import { type MergeReport, mergeLaunches } from "../../../src/passes/merge/merge-launches.ts";
import { runPasses } from "../../../src/passes/pass.ts";
import { tensorPasses } from "../../../src/passes/pipeline.ts";
import { same } from "../../arb/compare.ts";
import { arbInputs } from "../../arb/inputs.ts";
import { type Build, funcOf, inputsOf, moduleOf } from "../../arb/module-of.ts";
import { arbModule } from "../../arb/program.ts";
import { expertsModule, inputsOf as productInputs } from "../lower/products.ts";

function lowered(module: Module, target: Target): { func: Func; single: readonly LoweredKernel[] } {
  const func = getFunc(runPasses(module, tensorPasses(target), target), module.entry);
  return { func, single: lowerFunc(func, target, { enabled: true, weights: new Set() }) };
}

/** Runs kernels on memory of their own; with `backwards`, the iterations of every grid from the last to the first. */
function run(func: Func, kernels: readonly LoweredKernel[], inputs: readonly Tensor[], backwards = false): Tensor[] {
  const values = new Map<Node, TensorData>(func.params.map((param, i) => [param, inputs[i]!.data.slice()]));
  for (const each of kernels) {
    for (const node of resultsOf(each)) {
      const out = zeros(node.type.dtype, node.type.shape).data;
      const old = each.replaces.get(node);
      if (old !== undefined) out.set(values.get(old)!);
      values.set(node, out);
    }
    const data = each.args.map((node) => values.get(node)!);
    if (backwards) runBackwards(each.kernel, data);
    else runKernel(each.kernel, data);
  }
  return func.outs.map((out) => tensorFrom(out.type, values.get(out)!));
}

function runBackwards(kernel: Kernel, data: readonly TensorData[]): void {
  const grid = gridLoop(kernel);
  const outside = writesOf(kernel.body.filter((stmt) => stmt !== grid?.loop)).bufs;
  const divides = grid && !kernel.bufs.some(({ space, name }) => space === "global" && outside.has(name));
  if (!divides) {
    runKernel(kernel, data);
    return;
  }
  const { step } = grid.loop;
  const count = Math.ceil((grid.to - grid.from) / step);
  for (let i = count - 1; i >= 0; i--) {
    const begin = grid.from + i * step;
    runKernel(kernel, data, { begin, end: Math.min(begin + step, grid.to) });
  }
}

function check(module: Module, inputs: readonly Tensor[], target: Target): number {
  const { func, single } = lowered(module, target);
  const merged = mergeLaunches(func, single, target);
  try {
    const expected = run(func, single, inputs);
    for (const { kernel } of merged) verifyKernel(kernel, { scratchBytes: target.scratchBytes });
    same(run(func, merged, inputs), expected);
    same(run(func, merged, inputs, true), expected);
  } catch (error) {
    const kernels = merged.map(({ kernel }) => printKernel(kernel)).join("\n");
    throw new Error(`${error instanceof Error ? error.stack : error}\n${printModule(module)}\n${kernels}`);
  }
  return single.length - merged.length;
}

test.each([jsTarget, wasmTarget, webgpuTarget])(
  "random programs give the same bits on $name, in any order of iterations",
  (target) => {
    const cases = arbModule({ maxFuncs: 1, maxSteps: 20, without: ["weight", "call"] });
    let saved = 0;
    fc.assert(
      fc.property(
        cases.chain((module) => fc.tuple(fc.constant(module), arbInputs(module, {}))),
        ([module, { inputs }]) => {
          saved += check(module, inputs, target);
        },
      ),
      { numRuns: 150 },
    );
    // Enough of the programs have something to merge; how many depends on the seed.
    expect(saved).toBeGreaterThan(target.workgroup === null ? 50 : 25);
  },
);

/** A norm, rounded to 8 bits by groups of 32, and the sums of the codes: what a packed layer reads. */
const quantised =
  (rows: number, length: number): Build =>
  (m, p) => {
    const x = m.rmsNorm(p("x", "f32", rows, length), p("w", "f32", length), 1e-6);
    const scales = m.groupScales(x, { group: 32, to: "i8", method: "range" });
    const codes = m.quantizeGroups(x, [scales], "i8", 32);
    return [scales, codes, m.reduceSum(m.reshape(m.cast(codes, "f32"), [rows, length / 32, 32]))];
  };

describe("quantised as it is produced", () => {
  test.each([
    [1, 64, 1],
    [1, 1536, 2],
    [6, 96, 1],
    [1, 8192, 2],
  ])("%i rows of %i values take %i launches instead of 4", (rows, length, launches) => {
    const module = moduleOf(quantised(rows, length));
    const { func, single } = lowered(module, wasmTarget);
    expect(single.length).toBe(4);
    expect(mergeLaunches(func, single, wasmTarget).length).toBe(launches);
    check(module, inputsOf(getFunc(module, "main")), wasmTarget);
  });

  test("a wide product of activations stays divided by its groups", () => {
    const module = moduleOf((m, p) => {
      const x = m.mul(m.silu(p("gate", "f32", 1, 8960)), p("up", "f32", 1, 8960));
      const scales = m.groupScales(x, { group: 32, to: "i8", method: "range" });
      return [scales, m.quantizeGroups(x, [scales], "i8", 32)];
    });
    const { func, single } = lowered(module, wasmTarget);
    const [only, ...more] = mergeLaunches(func, single, wasmTarget);
    expect(more).toEqual([]);
    expect(gridLoop(only!.kernel)?.to).toBe(280);
    expect(only!.kernel.bufs.filter(({ space }) => space === "scratch").map(({ size }) => size)).toEqual([32, 32]);
  });
});

describe("by workgroups of a GPU", () => {
  test.each([
    [1, 64, 1],
    [1, 1536, 1],
    [6, 96, 1],
    [3, 224, 1],
  ])("%i rows of %i values are normed and rounded by %i launch instead of 3", (rows, length, launches) => {
    const module = moduleOf((m, p) => {
      const x = m.rmsNorm(p("x", "f32", rows, length), p("w", "f32", length), 1e-6);
      const scales = m.groupScales(x, { group: 32, to: "i8", method: "range" });
      return [scales, m.quantizeGroups(x, [scales], "i8", 32)];
    });
    const { func, single } = lowered(module, webgpuTarget);
    expect(single.length).toBe(3);
    const merged = mergeLaunches(func, single, webgpuTarget);
    expect(merged.length).toBe(launches);
    // The row, and its scales beside those that are stored.
    const shared = merged[0]!.kernel.bufs.filter(({ space }) => space === "shared");
    expect(shared.map(({ size }) => size)).toEqual([length, length / 32]);
    check(module, inputsOf(getFunc(module, "main")), webgpuTarget);
  });

  test("a wide product of activations keeps its workgroups", () => {
    const module = moduleOf((m, p) => {
      const x = m.mul(m.silu(p("gate", "f32", 1, 8960)), p("up", "f32", 1, 8960));
      const scales = m.groupScales(x, { group: 32, to: "i8", method: "range" });
      return [scales, m.quantizeGroups(x, [scales], "i8", 32)];
    });
    const { func, single } = lowered(module, webgpuTarget);
    const merged = mergeLaunches(func, single, webgpuTarget);
    expect(merged.map(({ kernel }) => gridLoop(kernel)?.to)).toEqual([280]);
  });

  test("a matrix product is not done again, nor given to one workgroup, to save a launch", () => {
    const module = moduleOf((m, p) => {
      const x = m.contract("n i, o i -> n o", p("x", "f32", 1, 1536), p("w", "f32", 1536, 1536));
      return [m.rmsNorm(x, p("norm", "f32", 1536), 1e-6)];
    });
    const { func, single } = lowered(module, webgpuTarget);
    expect(mergeLaunches(func, single, webgpuTarget).length).toBe(single.length);
  });

  test("workgroups of several sizes: the smaller run beside each other, and who has nothing to do stores nothing", () => {
    const module = moduleOf((m, p) => {
      const x = m.rmsNorm(p("x", "f32", 2, 160), p("w", "f32", 160), 1e-6);
      const scales = m.groupScales(x, { group: 32, to: "i8", method: "range" });
      return [scales, m.softmax(x)];
    });
    const { func, single } = lowered(module, webgpuTarget);
    expect(mergeLaunches(func, single, webgpuTarget).length).toBeLessThan(single.length);
    check(module, inputsOf(getFunc(module, "main")), webgpuTarget);
  });

  test("a norm is done again for a router, and what it is rounded to is stored once", () => {
    const module = moduleOf((m, p) => {
      const x = m.rmsNorm(p("x", "f32", 1, 512), p("w", "f32", 512), 1e-6);
      const scales = m.groupScales(x, { group: 32, to: "i8", method: "range" });
      const logits = m.contract("n i, o i -> n o", x, p("gate", "f32", 256, 512));
      return [scales, m.quantizeGroups(x, [scales], "i8", 32), logits];
    });
    const { func, single } = lowered(module, webgpuTarget);
    expect(mergeLaunches(func, single, webgpuTarget).map(({ kernel }) => gridLoop(kernel)?.to)).toEqual([32]);
    check(module, inputsOf(getFunc(module, "main")), webgpuTarget);
  });

  test("products that have nothing to do with each other are run by workgroups of one launch", () => {
    const module = moduleOf((m, p) =>
      [97, 101].map((rows, i) =>
        m.contract("n i, o i -> n o", p(`x${i}`, "f32", 1, 2048), p(`w${i}`, "f32", rows, 2048)),
      ),
    );
    const { func, single } = lowered(module, webgpuTarget);
    const merged = mergeLaunches(func, single, webgpuTarget);
    expect(merged.map(({ kernel }) => kernel.body.filter(({ k }) => k === "for").length)).toEqual([2]);
    check(module, inputsOf(getFunc(module, "main")), webgpuTarget);
  });

  test("workgroups that compute the same part of what several tokens chose follow one another", () => {
    const module = expertsModule({ lead: [4, 2], blocks: 16, groups: 64, bits: 4, affine: false });
    const { func, single } = lowered(module, webgpuTarget);
    const [merged] = mergeLaunches(func, single, webgpuTarget);
    const loops = printKernel(merged!.kernel)
      .split("\n")
      .filter((line) => line.includes("grid "));
    expect(loops.map((line) => line.trim())).toEqual([
      "grid part in 0 .. 16 {",
      "grid pick in 0 .. 4 {",
      "grid pick1 in 0 .. 2 {",
    ]);
    check(module, productInputs(module, 3), webgpuTarget);
  });

  /** Thresholds by the largest of a row, and what each of them leaves of another: of parts, which are a workgroup each. */
  const thresholds = (m: Maths, p: Parameters<Build>[1], parts = 64, given = parts) => {
    const x = m.slice(p("x", "f32", 1, given, 1, 64), 1, 0, parts);
    const top = m.named("top", m.reduceMax(p("tops", "f32", 1, 300))); // [1]
    const tried = m.named("tried", m.mul(m.expandLast(top), p("shares", "f32", 1, 32))); // [1, 32]
    const over = m.ge(x, m.reshape(tried, [1, 1, 32, 1]));
    return { tried, sums: m.named("sums", m.reduceSum(m.cast(over, "f32"))) }; // [1, parts, 32]
  };

  test("a small launch is done again by each workgroup that reads it", () => {
    const module = moduleOf((m, p) => [thresholds(m, p).sums]);
    const { func, single } = lowered(module, webgpuTarget);
    expect(single.length).toBe(2);
    const merged = mergeLaunches(func, single, webgpuTarget);
    expect(merged.map(({ kernel }) => gridLoop(kernel)?.to)).toEqual([64]);
    check(module, inputsOf(getFunc(module, "main")), webgpuTarget);
  });

  test("and what something else needs of it is stored by the first of them", () => {
    const module = moduleOf((m, p) => {
      const { tried, sums } = thresholds(m, p);
      return [sums, tried];
    });
    const { func, single } = lowered(module, webgpuTarget);
    const [only, ...more] = mergeLaunches(func, single, webgpuTarget);
    expect(more).toEqual([]);
    expect(printKernel(only!.kernel)).toMatch(/let holds\d* = i\d* == 0|if i\d* == 0/);
    check(module, inputsOf(getFunc(module, "main")), webgpuTarget);
  });

  test.each([
    ["few workgroups and little to read", 64, 64, 1],
    ["more workgroups than run at once", 2048, 2048, 2],
    ["much to read", 64, 2 ** 14 + 64, 2],
  ])("of %s", (_, parts, given, launches) => {
    const module = moduleOf((m, p) => [thresholds(m, p, parts, given).sums]);
    const { func, single } = lowered(module, webgpuTarget);
    expect(mergeLaunches(func, single, webgpuTarget).length).toBe(launches);
  });

  test("rows are replaced in place by the launch that read them", () => {
    const module = moduleOf((m, p) => {
      const [x, slots] = [p("x", "f32", 1, 64), p("slots", "i32", 1)];
      const norm = m.named("norm", m.rmsNorm(x, p("w", "f32", 64), 1e-6));
      return [m.named("sum", m.reduceSum(m.mul(x, norm))), m.updateRows(x, norm, slots)];
    });
    const { func, single } = lowered(module, webgpuTarget);
    const merged = mergeLaunches(func, single, webgpuTarget);
    expect(merged.length).toBe(1);
    const plan = planMemory(module, [{ func, kernels: merged, weights: [] }]);
    expect(planTotals(plan).copies).toBe(0);
    expect(plan.funcs.get("main")!.donated).toEqual([null, 0]);
    const inputs = inputsOf(getFunc(module, "main"));
    same(run(func, merged, inputs), run(func, single, inputs));
  });

  test("kernels without loops join workgroups, and each other", () => {
    const module = moduleOf((m, p) => {
      const [at, table] = [p("at", "i32", 1), p("table", "i32", 9)];
      const next = m.named("next", m.gather(table, m.add(at, 1)));
      const x = m.named("row", m.gather(p("x", "f32", 9, 64), next));
      return [m.named("twice", m.mul(next, 2)), m.reduceSum(x)];
    });
    const { func, single } = lowered(module, webgpuTarget);
    expect(mergeLaunches(func, single, webgpuTarget).length).toBe(1);
    check(module, inputsOf(getFunc(module, "main")), webgpuTarget);
  });

  test("values that nothing shares but a launch lie beside each other", () => {
    const module = moduleOf((m, p) => [m.neg(p("x", "f32", 40)), m.exp(p("y", "f32", 3, 7))]);
    const { func, single } = lowered(module, webgpuTarget);
    expect(mergeLaunches(func, single, webgpuTarget).length).toBe(1);
    check(module, inputsOf(getFunc(module, "main")), webgpuTarget);
  });
});

test("it can be left out by name, and without fusion it does not run", () => {
  const module = moduleOf(quantised(1, 64));
  const launches = (options: Parameters<typeof compileToPlan>[2]) =>
    planTotals(compileToPlan(module, wasmTarget, options).plan).launches;
  expect(launches({})).toBe(1);
  expect(launches({ disabledPasses: ["merge-launches"] })).toBe(4);
  expect(launches({ fuse: false })).toBeGreaterThan(4);
});

test.each([jsTarget, webgpuTarget])(
  "an update in place on $name does not move before what reads the old rows",
  (target) => {
    const module = moduleOf((m, p) => {
      const [x, rows, slots] = [p("x", "f32", 4, 64), p("rows", "f32", 1, 64), p("slots", "i32", 1)];
      const norm = m.named("norm", m.rmsNorm(rows, p("w", "f32", 64), 1e-6));
      const late = m.named("late", m.contract("n i, o i -> n o", norm, m.reshape(x, [4, 64])));
      return [m.named("all", m.reduceSum(late)), m.updateRows(x, norm, slots)];
    });
    const { func, single } = lowered(module, target);
    const merged = mergeLaunches(func, single, target);
    const plan = planMemory(module, [{ func, kernels: merged, weights: [] }]);
    expect(planTotals(plan).copies).toBe(0);
    expect(plan.funcs.get("main")!.donated).toEqual([null, 0]);
  },
);

test("a step in between keeps two launches apart, and the reason is told", () => {
  const total = funcOf("total", (m, p) => m.reduceSum(p("y", "f32", 4, 8)));
  const module = moduleOf(
    (m, p) => {
      const y = m.neg(p("x", "f32", 4, 8));
      const attrs = { func: "total", result: 0, dtype: "f32", shape: [4] } as const;
      return m.mul(y, m.expandLast(m.builder.make("call", [y], attrs)));
    },
    [total],
  );
  const { func, single } = lowered(module, jsTarget);
  const reports: MergeReport[] = [];
  expect(mergeLaunches(func, single, jsTarget, (report) => reports.push(report)).length).toBe(single.length);
  const [{ merged, unmerged } = { merged: null, unmerged: [] }] = reports;
  expect(merged).toEqual([]);
  expect(unmerged.map(({ why }) => why)).toEqual(["another step stands between them"]);
});
