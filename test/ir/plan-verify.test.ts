/** Each invariant of plans has a plan that breaks it. */
import { describe, expect, test } from "vitest";
import { int, type Kernel, load } from "../../src/ir/kernel/kernel.ts";
import { store } from "../../src/ir/kernel/stmt.ts";
import type { FuncPlan, Plan, Step } from "../../src/ir/plan.ts";
import { verifyPlan } from "../../src/ir/plan-verify.ts";

const type = { dtype: "f32", shape: [64] } as const; // 256 bytes, the alignment of the arena
const buf = (name: string, access: "read" | "write") =>
  ({ name, dtype: "f32", size: 64, access, space: "global" }) as const;
const [y, x] = [buf("y", "write"), buf("x", "read")];
const kernel: Kernel = { name: "first", origin: [], bufs: [y, x], body: [store(y, int(0), load(x, int(0)))] };
/** Writes two buffers. */
const both: Kernel = {
  name: "both",
  origin: [],
  bufs: [y, { ...y, name: "z" }, x],
  body: [store(y, int(0), load(x, int(0))), store({ ...y, name: "z" }, int(0), load(x, int(0)))],
};
const launchBoth = (...args: readonly number[]): Step => ({ step: "launch", kernel: 1, args });
const launch = (to: number, from: number): Step => ({ step: "launch", kernel: 0, args: [to, from] });

const layer: FuncPlan = {
  name: "layer",
  params: ["cache", "x"].map((name) => ({ name, type })),
  results: ["cache", "y"].map((name) => ({ name, type })),
  donated: [0, null],
  weights: [],
  locations: [
    { place: "param", index: 0, type },
    { place: "param", index: 1, type },
    { place: "result", index: 1, type },
    { place: "weight", index: 0, type },
    { place: "arena", offset: 0, type },
  ],
  steps: [launch(4, 1), launch(2, 3), launch(0, 4)],
  arenaBytes: 256,
};
const call = { step: "call", func: "layer", layer: 3, args: [0, 2], results: [0, 3], arena: 512 } as const;
const main: FuncPlan = {
  ...layer,
  name: "main",
  results: ["cache", "y", "z"].map((name) => ({ name, type })),
  donated: [0, null, null],
  locations: [
    { place: "param", index: 0, type },
    { place: "param", index: 1, type },
    { place: "arena", offset: 0, type },
    { place: "arena", offset: 256, type },
    { place: "result", index: 1, type },
    { place: "result", index: 2, type },
    { place: "result", index: 2, type: { dtype: "f32", shape: [4, 4, 8] } },
    { place: "weight", index: 0, type },
  ],
  // Locations 2 and 3 are both needed during the call, and after it.
  steps: [launch(2, 1), call, launch(4, 2), launch(2, 3), { step: "copy", from: 4, to: 5 }],
  arenaBytes: 768,
};
const planOf = (...funcs: readonly FuncPlan[]): Plan => ({
  name: "test",
  entry: "main",
  funcs: new Map(funcs.map((func) => [func.name, func])),
  kernels: [kernel, both],
});
const withStep = (at: number, step: Step) => planOf(layer, { ...main, steps: main.steps.with(at, step) });
const withLocation = (at: number, offset: number) =>
  planOf(layer, { ...main, locations: main.locations.with(at, { place: "arena", offset, type }) });

const broken: Record<string, readonly [plan: Plan, message: string]> = {
  "an entry that is missing": [{ ...planOf(layer, main), entry: "other" }, "P1 entry: there is no function @other"],
  "a location that is missing": [withStep(3, launch(2, 99)), "@main step 3: P2 locations: there is no location 99"],
  "a kernel that is missing": [
    withStep(3, { step: "launch", kernel: 2, args: [2, 3] }),
    "P3 launches: buffers and arg",
  ],
  "an argument too few": [withStep(3, { step: "launch", kernel: 0, args: [2] }), "P3 launches: buffers and arguments"],
  "an argument of another size": [
    withStep(3, launch(6, 3)),
    "P3 launches: buffer y is f32 x 64, its argument f32[4,4,8]",
  ],
  "a weight that is written": [withStep(3, launch(7, 3)), "@main step 3: P4 weights: a weight is written"],
  "a weight that is copied to": [
    withStep(4, { step: "copy", from: 4, to: 7 }),
    "@main step 4: P4 weights: a weight is",
  ],
  "a call of a later function": [planOf(main, layer), "@main step 1: P5 calls: @layer does not come before"],
  "an argument too few for a call": [withStep(1, { ...call, args: [0] }), "P5 calls: arguments of @layer do not fit"],
  "a result of another type": [withStep(1, { ...call, results: [0, 6] }), "P5 calls: arguments of @layer do not fit"],
  "a donated result elsewhere": [
    withStep(1, { ...call, results: [5, 3] }),
    "P6 donation: a result is not where its parameter is",
  ],
  "a donated argument passed twice": [
    withStep(1, { ...call, args: [0, 0] }),
    "P6 donation: memory that is written is also another argument",
  ],
  "a copy to another size": [withStep(4, { step: "copy", from: 4, to: 6 }), "@main step 4: P7 copies: sizes differ"],
  "a place between the lines": [withLocation(3, 72), "P8 arena: place at 72 leaves the arena"],
  "a place beyond the arena": [withLocation(3, 768), "P8 arena: place at 768 leaves the arena"],
  "two places in one": [withLocation(3, 0), "P8 arena: places at 0 and 0 overlap while both are needed"],
  "a value read before it is made": [withStep(0, launch(4, 1)), "P9 order: location 2 is read before it is written"],
  "a callee's arena on top of a value": [
    withStep(1, { ...call, arena: 256 }),
    "@main step 1: P10 calls: the arena of @layer overlaps location 3",
  ],
  "a parameter overwritten in vain": [
    withStep(3, launch(1, 3)),
    "P11 parameters: x is written, but no result is left in it",
  ],
  "two results of a launch in one place": [
    withStep(0, launchBoth(2, 2, 1)),
    "@main step 0: P12 aliases: a location that a launch writes is another argument too",
  ],
  "a second result on top of what is read": [
    withStep(3, launchBoth(2, 3, 3)),
    "@main step 3: P12 aliases: a location that a launch writes is another argument too",
  ],
  "a second result in a weight": [withStep(3, launchBoth(2, 7, 3)), "@main step 3: P4 weights: a weight is written"],
  "a second result in a parameter that is not returned": [
    withStep(3, launchBoth(2, 1, 3)),
    "P11 parameters: x is written, but no result is left in it",
  ],
  "a launch that reads what it writes": [
    withStep(3, launch(3, 3)),
    "@main step 3: P12 aliases: a location that a launch writes is another argument too",
  ],
};

test("the plans that are broken below are good", () => {
  expect(() => verifyPlan(planOf(layer, main))).not.toThrow();
  expect(() => verifyPlan(withStep(0, launchBoth(2, 3, 1)))).not.toThrow();
});

describe("verifyPlan rejects", () => {
  test.each(Object.entries(broken))("%s", (_, [plan, message]) => {
    expect(() => verifyPlan(plan)).toThrow(message);
  });
});

test("verifyPlan looks at each step of a deep model a few times, however many there are", () => {
  for (const layers of [10, 100]) {
    let looks = 0;
    const steps = Array.from({ length: layers }, (): Step => {
      const step = { ...call, args: [0, 1], results: [0, 3] };
      const get = () => {
        looks += 1;
        return "call";
      };
      return Object.defineProperty(step, "step", { get });
    });
    verifyPlan(planOf(layer, { ...main, steps: [...steps, launch(4, 3), launch(5, 3)] }));
    expect(looks).toBeLessThan(20 * layers);
  }
});
