/** Every lowering against the interpreter, in the bounds-checked executor and as emitted code; and how often it loads. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { isOp, type Module, topoOrder } from "../../src/ir/graph.ts";
import { interpret } from "../../src/ir/interpret.ts";
import { printKernel } from "../../src/ir/kernel/print.ts";
import { printModule } from "../../src/ir/print.ts";
import { close } from "../arb/compare.ts";
import { arbInputs } from "../arb/inputs.ts";
import { type Build, inputsOf, moduleOf } from "../arb/module-of.ts";
import { arbModule } from "../arb/program.ts";
import { opCases } from "../backends/cases.ts";
import { lowerModule, runLowered, runners } from "./lowered.ts";

const modes = [{ optimize: false, fuse: false }, { fuse: false }, {}, { optimize: false, fuse: true }];

/** Expanded composites round between their steps; everything else is as in the interpreter (see differential.test.ts). */
const limits = { ulp: 512, absolute: 1e-5 };

function check(module: Module, inputs = inputsOf(module.funcs.get("main")!), tolerance = limits): void {
  const expected = interpret(module, inputs);
  for (const options of modes) {
    for (const run of Object.values(runners)) {
      try {
        close(runLowered(module, inputs, options, run).results, expected, tolerance);
      } catch (error) {
        const text = lowerModule(module, options).kernels.map(({ kernel }) => printKernel(kernel));
        throw new Error([JSON.stringify(options), error, printModule(module), ...text].join("\n"));
      }
    }
  }
}

describe("op cases", () => {
  const plain = opCases.filter(({ module }) =>
    topoOrder(module.funcs.get("main")!.outs).every((node) => !isOp(node, "weight") && !isOp(node, "call")),
  );
  test.each(plain.map((each) => [each.name, each] as const))("%s", (_, { module, inputs, tolerance }) => {
    check(module, [...inputs], { absolute: 0, ...tolerance });
  });
});

/** Axes of two operands and a result: each axis in one operand or both, summed or kept, in any order. */
const arbContract = fc
  .array(
    fc.record({
      size: fc.oneof(fc.constantFrom(1, 2, 4, 8), fc.integer({ min: 1, max: 9 })),
      where: fc.constantFrom("x", "y", "both"),
      kept: fc.boolean(),
      orders: fc.tuple(fc.nat(100), fc.nat(100), fc.nat(100)),
    }),
    { maxLength: 4 },
  )
  .map((axes) => {
    const named = axes.map((axis, i) => ({ ...axis, name: "abcd"[i]! }));
    const side = (keep: (axis: (typeof named)[number]) => boolean, by: number) =>
      named.filter(keep).sort((a, b) => a.orders[by]! - b.orders[by]!);
    const x = side(({ where }) => where !== "y", 0);
    const y = side(({ where }) => where !== "x", 1);
    const out = side(({ kept }) => kept, 2);
    const names = (list: typeof named) => list.map(({ name }) => name).join(" ");
    return { text: `${names(x)}, ${names(y)} -> ${names(out)}`, x: x.map((a) => a.size), y: y.map((a) => a.size) };
  });

test("random contractions, alone, with a prologue and with an epilogue", () => {
  fc.assert(
    fc.property(arbContract, fc.constantFrom("alone", "prologue", "epilogue", "both"), ({ text, x, y }, around) => {
      const module = moduleOf((m, p) => {
        const [left, right] = [p("x", "f32", ...x), p("y", "f32", ...y)];
        const before = around === "alone" || around === "epilogue" ? left : m.mul(m.sub(left, 1), left);
        const sum = m.contract(text, before, right);
        return around === "alone" || around === "prologue"
          ? sum
          : m.add(m.mul(sum, 2), p("z", "f32", ...sum.type.shape));
      });
      check(module);
    }),
    { numRuns: 60 },
  );
});

test("random programs", () => {
  const cases = arbModule({ finite: true, maxFuncs: 1, maxSteps: 20, without: ["weight", "call"] });
  fc.assert(
    fc.property(
      cases.chain((module) => fc.tuple(fc.constant(module), arbInputs(module, { finite: true }))),
      ([module, { inputs }]) => {
        const expected = interpret(module, inputs);
        close(runLowered(module, inputs).results, expected, { ...limits, finiteOnly: true });
      },
    ),
    { numRuns: 100 },
  );
});

/** Loads of each parameter that the kernels of a fused module do. */
function loadsOf(build: Build): Record<string, number> {
  const module = moduleOf(build);
  return Object.fromEntries(runLowered(module, inputsOf(module.funcs.get("main")!)).loads);
}

describe("nothing is computed more often than its loop", () => {
  const [n, d, o] = [3, 8, 20];

  test("softmax reads its row three times", () => {
    expect(loadsOf((m, p) => m.softmax(p("x", "f32", n, d)))).toEqual({ x: 3 * n * d });
  });

  test("a norm before a contraction is computed once per row", () => {
    const loads = loadsOf((m, p) =>
      m.contract("n i, o i -> n o", m.rmsNorm(p("x", "f32", n, d), p("w", "f32", d), 1e-6), p("v", "f32", o, d)),
    );
    expect(loads).toMatchObject({ x: 2 * n * d, w: n * d, v: n * o * d });
  });

  test("four rows of activations share the loads of the other operand", () => {
    expect(loadsOf((m, p) => m.contract("n i, o i -> n o", p("x", "f32", 8, d), p("v", "f32", o, d)))).toEqual({
      x: (8 * d * o) / 4,
      v: (8 * d * o) / 4,
    });
  });

  test("a reduction in an epilogue is computed once per row", () => {
    const loads = loadsOf((m, p) => {
      const scale = m.expandLast(m.reduceMax(p("z", "f32", n, d)));
      return m.mul(m.contract("n i, o i -> n o", p("x", "f32", n, d), p("v", "f32", o, d)), scale);
    });
    expect(loads).toMatchObject({ z: n * d });
  });

  test("a reduction that a broadcast repeats for every row is computed once", () => {
    const sums = (m: Parameters<Build>[0], p: Parameters<Build>[1]) => m.reduceSum(p("x", "f32", d, o));
    expect(loadsOf((m, p) => m.add(m.rsqrt(m.abs(sums(m, p))), p("y", "f32", n, d)))).toMatchObject({ x: d * o });
    expect(loadsOf((m, p) => m.broadcast(sums(m, p), [n, d]))).toMatchObject({ x: d * o });
    expect(
      loadsOf((m, p) => m.add(m.contract("n i, d i -> n d", p("y", "f32", n, 4), p("v", "f32", d, 4)), sums(m, p))),
    ).toMatchObject({ x: d * o });
    expect(
      loadsOf((m, p) => m.contract("n d, o d -> n o", m.mul(p("y", "f32", n, d), sums(m, p)), p("v", "f32", o, d))),
    ).toMatchObject({ x: d * o });
  });

  test("the weights of a contraction are computed once", () => {
    const loads = loadsOf((m, p) => m.contract("n i, o i -> n o", p("x", "f32", n, d), m.exp(p("v", "f32", o, d))));
    expect(loads).toMatchObject({ v: o * d });
  });

  test("an index made of a reduction is computed once per row it chooses", () => {
    const loads = loadsOf((m, p) => {
      const index = m.cast(m.reduceSum(p("x", "f32", o, 4)), "i32");
      return m.contract("n i, o i -> n o", p("a", "f32", n, d), m.gather(p("v", "f32", 5, d), index));
    });
    expect(loads).toMatchObject({ x: o * 4 });
  });

  test("attention reads keys and values up to the position, once for the heads that share them", () => {
    const module = moduleOf((m, p) => {
      const [q, k, v] = [p("q", "f32", 1, 4, d), p("k", "f32", 1, 9, 1, d), p("v", "f32", 1, 9, 1, d)];
      return m.attention(q, k, v, p("positions", "i32", 1), p("sequence", "i32", 1), 1);
    });
    const inputs = inputsOf(module.funcs.get("main")!);
    inputs[3]!.data[0] = 4;
    // Four heads score two keys at a time, and the odd fifth key twice.
    expect(Object.fromEntries(runLowered(module, inputs).loads)).toMatchObject({ k: 6 * d, v: 5 * d, q: 4 * d });
  });
});
