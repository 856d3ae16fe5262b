/** Which nodes the loader evaluates. */
import { expect, test } from "vitest";
import { maths } from "../../src/ir/build.ts";
import { Builder, type Node } from "../../src/ir/graph.ts";
import { isFoldable, stageOf, weightExpressions } from "../../src/passes/constant.ts";

const builder = new Builder();
const { add, broadcast, cast, concat, contract, full, gather, iota, mul, transpose } = maths(builder);
const x = builder.param("x", "f32", [2, 3]);
const index = builder.param("i", "i32", [2]);
const w = builder.weight("w", "bf16", [3, 3]);
const u = builder.weight("u", "f32", [3, 3]);
const row = builder.weight("row", "f32", [1, 3]);

test("stages", () => {
  expect(stageOf(x)).toBe("runtime");
  expect(stageOf(w)).toBe("weight");
  expect(stageOf(full("f32", [2], 0))).toBe("constant");
  expect(stageOf(add(iota("i32", [4], 0), 1))).toBe("constant");
  expect(stageOf(cast(w, "f32"))).toBe("weight");
  expect(stageOf(mul(u, 2))).toBe("weight");
  expect(stageOf(contract("n i, o i -> n o", x, u))).toBe("runtime");
  const called = builder.call({ name: "f", params: [], outs: [full("f32", [2], 0)] }, []);
  expect(called.map(stageOf)).toEqual(["runtime"]);
});

test("what would grow at load time is left to the step", () => {
  expect(isFoldable(broadcast(row, [3, 3]))).toBe(false);
  expect(isFoldable(gather(row, full("i32", [9], 0)))).toBe(false);
  expect(isFoldable(contract("a i, b j -> a i b j", u, u))).toBe(false);
  expect(isFoldable(contract("a i, i b -> a b", u, u))).toBe(true);
  expect(isFoldable(concat(0, u, row))).toBe(true);
});

test("weight expressions are the largest ones, operands before users", () => {
  const wide = cast(transpose(w, [1, 0]), "f32");
  const joined = concat(0, wide, u);
  const bias = broadcast(row, [2, 3]);
  const hidden = contract("n i, o i -> n o", add(x, bias), joined);
  const outs: Node[] = [hidden, gather(u, index), wide];
  const found = weightExpressions({ name: "f", params: [x, index], outs });
  expect(new Set(found)).toEqual(new Set([row, wide, u, joined]));
  expect(found.indexOf(wide)).toBeLessThan(found.indexOf(joined));
  expect(weightExpressions({ name: "g", params: [x], outs: [mul(x, 2)] })).toEqual([]);
});

test("deep expressions do not exhaust the call stack", () => {
  let deep: Node = u;
  for (let i = 0; i < 20_000; i++) deep = builder.make("neg", [deep], {});
  expect(stageOf(deep)).toBe("weight");
});
