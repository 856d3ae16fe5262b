/** Attention of a step's one token, over caches that the same step updates: whole and in parts, before and after the update. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { compileToPlan } from "../../../src/compile.ts";
import { interpret } from "../../../src/ir/interpret.ts";
import { printKernel } from "../../../src/ir/kernel/print.ts";
import { runKernel } from "../../../src/ir/kernel/run.ts";
import { verifyKernel } from "../../../src/ir/kernel/verify.ts";
import { planTotals } from "../../../src/ir/plan.ts";
import { leastWebGpu, type Target, webgpuTarget, webgpuTargetOf } from "../../../src/ir/target.ts";
import type { Tensor } from "../../../src/ir/tensor.ts";
import { close } from "../../arb/compare.ts";
import { type Build, inputsOf, ints, moduleOf } from "../../arb/module-of.ts";
import { runPlan } from "../../arb/run-plan.ts";

interface Sizes {
  readonly slots: number;
  readonly keys: number;
  readonly heads: number;
  readonly groups: number;
  readonly d: number;
}

/** Keys and values of their own, rotated and biased on the way to the cache, as in grouped-query attention. */
const grouped =
  ({ slots, keys, heads, groups, d }: Sizes): Build =>
  (m, p) => {
    const width = groups * d;
    const slot = p("slots", "i32", 1);
    const [keyRows, positions, sequence] = [
      p("rows", "i32", 1, keys),
      p("positions", "i32", 1),
      p("sequence", "i32", 1),
    ];
    const rotated = m.rope(
      p("k_new", "f32", 1, groups, d),
      p("cos", "f32", 1, d / 2),
      p("sin", "f32", 1, d / 2),
      false,
    );
    const k = m.updateRows(p("key", "f32", slots, width), m.reshape(rotated, [1, width]), slot);
    const v = m.updateRows(
      p("value", "f32", slots, width),
      m.add(p("v_new", "f32", 1, width), p("bias", "f32", width)),
      slot,
    );
    const of = (cache: typeof k) => m.reshape(m.gather(cache, keyRows), [1, keys, groups, d]);
    const heads4 = m.attention(p("q", "f32", 1, heads, d), of(k), of(v), positions, sequence, 0.5);
    const out = m.contract("n i, o i -> n o", m.reshape(heads4, [1, heads * d]), p("w", "f32", 24, heads * d));
    return [out, k, v];
  };

/** One cache of which values are a slice, its new row normalised, as in absorbed latent attention. */
const latent =
  ({ slots, keys, heads, d }: Sizes): Build =>
  (m, p) => {
    const rank = d - 8;
    const slot = p("slots", "i32", 1);
    const [keyRows, positions, sequence] = [
      p("rows", "i32", 1, keys),
      p("positions", "i32", 1),
      p("sequence", "i32", 1),
    ];
    const norm = m.rmsNorm(p("c_new", "f32", 1, rank), p("norm", "f32", rank), 1e-6);
    const cache = m.updateRows(p("cache", "f32", slots, d), m.concat(1, norm, p("rope", "f32", 1, 8)), slot);
    const k = m.reshape(m.gather(cache, keyRows), [1, keys, 1, d]);
    const found = m.attention(p("q", "f32", 1, heads, d), k, m.slice(k, 3, 0, rank), positions, sequence, 0.25);
    return [m.contract("n h r, h j r -> n h j", found, p("w", "f32", heads, 6, rank)), cache];
  };

const large: Target = webgpuTargetOf({ ...leastWebGpu, invocations: 1024, sharedBytes: 49152, buffers: 16 });
/** A target with workgroups so small that few keys fill several tiles. */
const small: Target = { ...large, workgroup: { invocations: 32, bytes: 16384 } };

function run(build: Build, target: Target, given: Readonly<Record<string, Tensor>>) {
  const module = moduleOf(build);
  const main = module.funcs.get("main")!;
  const inputs = inputsOf(main).map((input, i) => given[main.params[i]!.attrs.name] ?? input);
  const { plan } = compileToPlan(module, target);
  for (const kernel of plan.kernels) verifyKernel(kernel, { scratchBytes: target.scratchBytes });
  const found = runPlan(plan, inputs, runKernel);
  // Sums of some hundred products of small numbers, in another order than the interpreter's and in f32.
  close(found, interpret(module, inputs), { ulp: 512, absolute: 2e-5, finiteOnly: true });
  return plan;
}

const sizes = { slots: 50, keys: 40, heads: 4, groups: 2, d: 16 };

describe.each([
  ["grouped", grouped],
  ["latent", latent],
] as const)("%s attention", (_, build) => {
  test.each([
    ["whole", { ...sizes, keys: 20 }],
    ["in parts", { ...sizes, keys: 100 }],
  ])("%s, whatever rows keys lie in and whatever slot is written", (_, of) => {
    const index = (most: number) => fc.integer({ min: -2, max: most + 1 });
    fc.assert(
      fc.property(
        index(of.slots),
        index(of.keys),
        fc.array(index(of.slots), { minLength: of.keys, maxLength: of.keys }),
        fc.boolean(),
        (slot, position, rows, own) => {
          // As models have it, or anywhere.
          const keyRows = own && position >= 0 && position < of.keys ? rows.with(position, slot) : rows;
          run(build(of), small, {
            slots: ints([1], slot),
            positions: ints([1], position),
            rows: ints([1, of.keys], ...keyRows),
          });
        },
      ),
      { numRuns: 12 },
    );
  });

  test("the update is beside a launch that comes after, and nothing is copied", () => {
    const plan = run(build(sizes), large, {});
    const [attention, ...later] = plan.kernels.filter(({ bufs }) => bufs.some(({ name }) => name.startsWith("query")));
    expect(later).toEqual([]);
    expect(attention!.bufs.filter(({ space, access }) => space === "global" && access !== "read").length).toBe(1);
    expect(planTotals(plan)).toMatchObject({ launches: 2, copies: 0 });
  });

  test("where buffers are few, the update comes first", () => {
    const plan = run(build(sizes), webgpuTarget, {});
    expect(planTotals(plan).copies).toBe(0);
    expect(printKernel(plan.kernels.at(-1)!)).not.toContain("is_new");
  });
});
