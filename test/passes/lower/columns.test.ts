/** Sums whose neighbours read the same: right in any shape, by workgroups that read a row once, as the executor of races says. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { compileToPlan } from "../../../src/compile.ts";
import { getFunc } from "../../../src/ir/graph.ts";
import { interpret } from "../../../src/ir/interpret.ts";
import { eachStmt } from "../../../src/ir/kernel/walk.ts";
import { webgpuTarget } from "../../../src/ir/target.ts";
import { close } from "../../arb/compare.ts";
import { type Build, inputsOf, moduleOf } from "../../arb/module-of.ts";
import { runLowered } from "../lowered.ts";

/** Inputs are quarters, so that their sums are exact in any order. */
const exact = { ulp: 0 };

/** How far apart those are that share a row, for each combine of the only kernel. */
function check(build: Build): readonly number[] {
  const module = moduleOf(build);
  const inputs = inputsOf(getFunc(module, "main"));
  close(runLowered(module, inputs, { target: webgpuTarget }).results, interpret(module, inputs), exact);
  const [kernel, ...more] = compileToPlan(module, webgpuTarget).plan.kernels;
  expect(more).toEqual([]);
  const apart: number[] = [];
  eachStmt(kernel!.body, (stmt) => {
    if (stmt.k === "combine") apart.push(stmt.apart);
  });
  return apart;
}

/** What of each row of x is at least a threshold, for each of several. */
const overThresholds =
  (rows: number, thresholds: number, length: number): Build =>
  (m, p) => {
    const [x, tried] = [p("x", "f32", rows, length), p("tried", "f32", rows, thresholds)];
    const over = m.ge(m.reshape(x, [rows, 1, length]), m.expandLast(tried));
    return m.reduceSum(m.select(over, m.reshape(m.mul(x, x), [rows, 1, length]), 0));
  };

const sumsUpTo =
  (rows: number, length: number): Build =>
  (m, p) => {
    const shape = [rows, length, length];
    const upTo = m.le(m.iota("i32", shape, 2), m.iota("i32", shape, 1));
    return m.reduceSum(m.select(upTo, m.reshape(p("x", "f32", rows, length), [rows, 1, length]), 0));
  };

describe("a workgroup for a run", () => {
  test.each([
    ["over thresholds", overThresholds(1, 32, 600), [32]],
    ["of a number that is no power of two", overThresholds(3, 11, 70), [16]],
    ["up to each element", sumsUpTo(2, 40), [64]],
    ["of columns", ((m, p) => m.reduceSum(m.transpose(p("x", "f32", 100, 48), [1, 0]))) as Build, [64]],
    ["largest of columns", ((m, p) => m.reduceMax(m.transpose(p("x", "f32", 100, 9), [1, 0]))) as Build, [16]],
    ["of a few rows", ((m, p) => m.reduceSum(p("x", "f32", 2, 20, 33))) as Build, [32]],
  ])("sums %s", (_, build, apart) => {
    expect(check(build)).toEqual(apart);
  });

  test.each([
    ["of few thresholds", overThresholds(1, 7, 600)],
    ["of rows that have nothing in common", ((m, p) => m.reduceSum(p("x", "f32", 1, 20, 600))) as Build],
  ])("but a row each for sums %s", (_, build) => {
    expect(check(build)).toEqual([1]);
  });
});

test("any number of thresholds and elements", () => {
  const size = fc.integer({ min: 1, max: 80 });
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 3 }), size, size, (rows, thresholds, length) => {
      for (const build of [overThresholds(rows, thresholds, length), sumsUpTo(rows, length)]) {
        const module = moduleOf(build);
        const inputs = inputsOf(getFunc(module, "main"), thresholds);
        close(runLowered(module, inputs, { target: webgpuTarget }).results, interpret(module, inputs), exact);
      }
    }),
    { numRuns: 25 },
  );
});
