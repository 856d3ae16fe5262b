/** Every rule of every table, on programs grown from its own pattern, against the interpreter. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { maths } from "../../src/ir/build.ts";
import { Builder, makeModule, type Node } from "../../src/ir/graph.ts";
import { interpret } from "../../src/ir/interpret.ts";
import { printModule } from "../../src/ir/print.ts";
import { rewriter } from "../../src/ir/rewrite.ts";
import type { Tensor } from "../../src/ir/tensor.ts";
import { valuesOf } from "../../src/ir/tensor.ts";
import { algebra } from "../../src/passes/rules/algebra.ts";
import { casts } from "../../src/passes/rules/cast.ts";
import { concats } from "../../src/passes/rules/concat.ts";
import { fulls } from "../../src/passes/rules/full.ts";
import { gathers } from "../../src/passes/rules/gather.ts";
import { shapes } from "../../src/passes/rules/shape.ts";
import { simplifyRules } from "../../src/passes/simplify.ts";
import { randomNumbers } from "../../src/passes/validate.ts";
import { same } from "../arb/compare.ts";
import { arbInputs, runInterpret } from "../arb/inputs.ts";
import { arbModule } from "../arb/program.ts";
import { Chance, sampleRule } from "./sample.ts";

const tables = { algebra, casts, concats, fulls, gathers, shapes };
const rules = Object.values(tables).flat();

test("names are unique", () => {
  expect(new Set(simplifyRules.map((rule) => rule.name)).size).toBe(simplifyRules.length);
});

const moduleOf = (params: readonly Node<"param">[], outs: readonly Node[]) =>
  makeModule("rule", [{ name: "main", params, outs }], "main");

const arbSample = (name: string) =>
  fc.integer().map((seed) => {
    const rule = rules.find((each) => each.name === name)!;
    const found = sampleRule(rule, new Chance(randomNumbers(seed)), maths);
    if (found === undefined) throw new Error(`no program matches rule ${name}`);
    return { before: moduleOf(found.params, [found.before]), after: moduleOf(found.params, [found.after]) };
  });

/** Rules that are not exact hold up to rounding and the sign of zero, where inputs and results are finite. */
function agree(found: readonly Tensor[], expected: readonly Tensor[]): void {
  const [xs, ys] = [found, expected].map((tensors) => tensors.flatMap(valuesOf));
  for (const [i, y] of ys!.entries()) {
    const x = xs![i]!;
    // One rounding more or less: a unit in the last place (2^-23) of either.
    if (Number.isFinite(x) && Number.isFinite(y)) expect(Math.abs(x - y)).toBeLessThanOrEqual(2 ** -22 * Math.abs(y));
  }
}

describe.each(rules.map(({ name }) => name))("rule %s", (name) => {
  const rule = rules.find((each) => each.name === name)!;
  const finite = rule.class !== "exact";
  test("means the same", () => {
    const cases = arbSample(name).chain((sample) =>
      fc.record({ sample: fc.constant(sample), data: arbInputs(sample.before, { finite }) }),
    );
    fc.assert(
      fc.property(cases, ({ sample: { before, after }, data }) => {
        const [expected, found] = [runInterpret(before, data), interpret(after, data.inputs)];
        try {
          if (finite) agree(found, expected);
          else same(found, expected);
        } catch (error) {
          throw new Error(`${error}\n${printModule(before)}\n${printModule(after)}`);
        }
      }),
      { numRuns: 60 },
    );
  });
});

describe.each(Object.entries(tables))("table %s", (_, table) => {
  test("ends, and has nothing to do on its own result", () => {
    fc.assert(
      fc.property(arbModule({ maxSteps: 20 }), (module) => {
        for (const func of module.funcs.values()) {
          const builder = new Builder();
          const once = rewriter(table, builder)(func.outs);
          const twice = rewriter(table, builder)(once);
          expect(twice.every((out, i) => out === once[i])).toBe(true);
        }
      }),
      { numRuns: 100 },
    );
  });
});
