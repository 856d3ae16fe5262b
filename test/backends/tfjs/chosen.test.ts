/** Products with chosen rows: the same numbers whichever way they are made, and without a copy of the rows of every token. */
import * as tf from "@tensorflow/tfjs-core";
import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import { elementsOf } from "../../../src/backends/tfjs/device.ts";
import { type EagerOptions, eagerEngine } from "../../../src/backends/tfjs/eager.ts";
import type { TensorEngine } from "../../../src/backends/tfjs/engine.ts";
import type { Tf, TfTensor } from "../../../src/backends/tfjs/tf.ts";
import { walkFunc } from "../../../src/backends/tfjs/walk.ts";
import { compileToPlan, prepareDevice } from "../../../src/compile.ts";
import type { Module } from "../../../src/ir/graph.ts";
import { interpret } from "../../../src/ir/interpret.ts";
import { tensorTargetOf } from "../../../src/ir/target.ts";
import { type Tensor, tensorOf } from "../../../src/ir/tensor.ts";
import { sizeOf } from "../../../src/ir/types.ts";
import { moduleOf } from "../../arb/module-of.ts";

const real = tf as unknown as Tf; // of the version that the interface describes (test/types)
beforeAll(async () => {
  await prepareDevice("tfjs-cpu");
  await tf.setBackend("cpu");
});

const ways: Record<string, EagerOptions> = {
  "tokens brought together by row": { namesOnly: false, ...elementsOf("cpu", real) },
  "all rows, with masks": { namesOnly: false, remote: true },
};

/** n tokens, k choices of r rows; products of the way up to the experts, down from them, of both, and of other orders. */
const forms = [
  { axes: "n i, n k f i -> n k f", left: "n i", right: "f i" },
  { axes: "n i, n k i f -> n k f", left: "n i", right: "i f" },
  { axes: "n k f, n k f i -> n i", left: "n k f", right: "f i" },
  { axes: "n k f, n k i f -> n i", left: "n k f", right: "i f" },
  { axes: "n k i, n k f i -> k n f", left: "n k i", right: "f i" },
  { axes: "k i, n k f i -> n f", left: "k i", right: "f i" },
  { axes: "i n, n k i f -> n f", left: "i n", right: "i f" },
] as const;

interface Sizes {
  readonly n: number;
  readonly k: number;
  readonly r: number;
  readonly f: number;
  readonly i: number;
}

function productOf({ axes, left, right }: (typeof forms)[number], sizes: Sizes): Module {
  const shape = (text: string) => text.split(" ").map((axis) => sizes[axis as keyof Sizes]); // names of axes above
  return moduleOf((m, p) => {
    const rows = m.gather(p("table", "f32", sizes.r, ...shape(right)), p("index", "i32", sizes.n, sizes.k));
    return m.contract(axes, p("x", "f32", ...shape(left)), rows);
  });
}

/** Runs on the engine, and counts elements that it gathers. */
function runOn(options: EagerOptions, module: Module, given: readonly Tensor[]) {
  const { plan } = compileToPlan(module, tensorTargetOf("tfjs-cpu"), { verify: 0 });
  let most = 0;
  const eager = eagerEngine(real, options);
  const engine: TensorEngine<TfTensor> = {
    ...eager,
    gather: (x, index, batch) => {
      const out = eager.gather(x, index, batch);
      most = Math.max(most, sizeOf(out.shape));
      return out;
    },
  };
  const params = given.map(({ type, data }) => engine.constant(type, data.slice()));
  const none = () => {
    throw new Error("no weights");
  };
  const [out] = walkFunc(
    engine,
    plan,
    { func: plan.entry, layer: null, params },
    { weight: none, constant: (_, make) => make() },
  );
  return { values: [...out!.dataSync()], shape: out!.shape, most };
}

const arbSizes = fc.record({
  n: fc.integer({ min: 1, max: 4 }),
  k: fc.integer({ min: 1, max: 3 }),
  r: fc.integer({ min: 1, max: 4 }),
  f: fc.integer({ min: 1, max: 4 }),
  i: fc.integer({ min: 1, max: 4 }),
});

describe.each(Object.entries(ways))("%s", (name, options) => {
  it.each(forms)("$axes", (form) => {
    fc.assert(
      fc.property(arbSizes, fc.infiniteStream(fc.integer({ min: -3, max: 6 })), (sizes, numbers) => {
        const module = productOf(form, sizes);
        const { params } = module.funcs.get(module.entry)!;
        // Small integers, whose sums are the same in any order; indices outside the table too.
        const given = params.map(({ type }) =>
          tensorOf(
            type.dtype,
            type.shape,
            Array.from({ length: sizeOf(type.shape) }, () => numbers.next().value as number),
          ),
        );
        const { values, shape } = runOn(options, module, given);
        const [wanted] = interpret(module, given);
        expect(shape).toEqual(wanted!.type.shape);
        expect(values.map((x) => x + 0)).toEqual(Array.from(wanted!.data, (x) => x + 0));
      }),
      { numRuns: 60 },
    );
  });

  it("copies no table for a token", () => {
    const sizes = { n: 16, k: 2, r: 4, f: 8, i: 8 };
    for (const form of forms) {
      const module = productOf(form, sizes);
      const { params } = module.funcs.get(module.entry)!;
      const given = params.map(({ type }) =>
        tensorOf(
          type.dtype,
          type.shape,
          Array.from({ length: sizeOf(type.shape) }, (_, i) => i % 3),
        ),
      );
      // Of every pair a vector at most, where it was a matrix.
      expect(runOn(options, module, given).most, form.axes).toBeLessThanOrEqual(16 * 2 * 8);
    }
  });

  it("infinities of one choice stay out of another's product", () => {
    const sizes = { n: 2, k: 2, r: 2, f: 2, i: 2 };
    const module = productOf(forms[0], sizes);
    const given = module.funcs.get(module.entry)!.params.map(({ attrs, type }) => {
      if (attrs.name === "index") return tensorOf("i32", type.shape, [0, 1, 1, 0]);
      if (attrs.name === "x") return tensorOf("f32", type.shape, [1, 1, 1, 1]);
      return tensorOf("f32", type.shape, [Number.POSITIVE_INFINITY, 1, 1, 1, 2, 2, 2, 2]);
    });
    const infinite = Number.POSITIVE_INFINITY;
    expect(runOn(options, module, given).values).toEqual([infinite, 2, 4, 4, 4, 4, infinite, 2]);
    expect(name).not.toBe("");
  });

  it("rows that something else reads too are gathered", () => {
    const module = moduleOf((m, p) => {
      const rows = m.gather(p("table", "f32", 2, 2, 2), p("index", "i32", 3, 1));
      return m.add(m.contract("n i, n k f i -> n k f", p("x", "f32", 3, 2), rows), m.reduceSum(rows));
    });
    const given = module.funcs.get(module.entry)!.params.map(({ type }) =>
      tensorOf(
        type.dtype,
        type.shape,
        Array.from({ length: sizeOf(type.shape) }, (_, i) => i % 2),
      ),
    );
    const { values, most } = runOn(options, module, given);
    expect(values).toEqual([...interpret(module, given)[0]!.data]);
    expect(most).toBe(12);
  });
});
