/** Rows of a table that is cut along its rows: what ranks do with those that are not their own. */
import { expect, test } from "vitest";
import { getFunc } from "../../../src/ir/graph.ts";
import { interpret } from "../../../src/ir/interpret.ts";
import type { Placement } from "../../../src/passes/shard/propagate.ts";
import { interpretSharded, shardModule } from "../../../src/passes/shard/shard.ts";
import { type Build, inputsOf, ints, moduleOf } from "../../arb/module-of.ts";

const mesh = { a: 2, b: 2 };

/** Parameter `i` has indices of 4 rows; the others are cut as `dims` says. */
function check(build: Build, dims: Readonly<Record<string, readonly (readonly string[])[]>>): void {
  const module = moduleOf(build);
  const placement: Placement = { mesh, weight: () => undefined, param: (name) => dims[name] && { dims: dims[name] } };
  const func = getFunc(module, "main");
  const inputs = inputsOf(func).map((x, i) =>
    func.params[i]!.attrs.name === "i" ? ints([3, 2], 0, 3, 1, 2, 3, 3) : x,
  );
  expect(interpretSharded(shardModule(module, placement), inputs)).toEqual(interpret(module, inputs));
}

test("the largest element of a row that two axes cut is the owner's", () => {
  check((m, p) => m.reduceMax(m.gather(p("table", "f32", 4, 4), p("i", "i32", 3, 2))), { table: [["a"], ["b"]] });
});

test("of two factors that one rank owns, the one that is a sum over others may be the larger", () => {
  const product: Build = (m, p) => {
    const i = p("i", "i32", 3, 2);
    const sums = m.reduceSum(m.gather(p("table", "f32", 4, 3, 4), i));
    return m.contract("n k f, n k -> n f", sums, m.gather(p("shares", "f32", 4), i));
  };
  check(product, { table: [["a"], [], ["b"]], shares: [["a"]] });
});

test("and both may be sums over others", () => {
  const product: Build = (m, p) => {
    const i = p("i", "i32", 3, 2);
    const sums = (table: string) => m.reduceSum(m.gather(p(table, "f32", 4, 4), i));
    return m.contract("n k, n k -> n", sums("table"), sums("other"));
  };
  check(product, { table: [["a"], ["b"]], other: [["a"], ["b"]] });
});

test("exponents alone, which have no zero, are the owner's", () => {
  check((m, p) => m.cast(m.gather(p("table", "f32", 4), p("i", "i32", 3, 2)), "f8e8m0"), { table: [["a"]] });
});
