/** The Builder, walking and rebuilding graphs. */
import { expect, test } from "vitest";
import { maths } from "../../src/ir/build.ts";
import { Builder, makeModule, mapFuncs, nameOf, rebuild, topoOrder, usersOf } from "../../src/ir/graph.ts";
import { printFunc } from "../../src/ir/print.ts";

test("equal nodes of a Builder are one object, of two Builders they are not", () => {
  const [a, b] = [new Builder(), new Builder()];
  const x = a.param("x", "f32", [2]);
  expect(a.param("x", "f32", [2])).toBe(x);
  expect(a.make("exp", [x], {})).toBe(a.make("exp", [x], {}));
  expect(a.make("full", [], { dtype: "f32", shape: [], value: 0 })).not.toBe(
    a.make("full", [], { dtype: "f32", shape: [], value: -0 }),
  );
  expect(b.param("x", "f32", [2])).not.toBe(x);
  expect(b.param("x", "f32", [2]).id).not.toBe(x.id);
});

test("nodes cannot change, nor can what they were made from change them", () => {
  const shape = [2, 3];
  const node = new Builder().param("x", "f32", shape);
  shape.push(4);
  expect(node.attrs.shape).toEqual([2, 3]);
  for (const part of [node, node.ins, node.attrs, node.attrs.shape]) expect(Object.isFrozen(part)).toBe(true);
});

test("results of impossible size are refused", () => {
  const builder = new Builder();
  expect(() => builder.param("x", "f32", [-1])).toThrow(
    "param: the result's size is not a whole number below 2^53: f32[-1]",
  );
  const x = builder.param("x", "f32", [2 ** 26]);
  expect(() => builder.make("broadcast", [x], { shape: [2 ** 26, 2 ** 26] })).toThrow("broadcast: the result's size");
});

test("operand counts are checked", () => {
  const builder = new Builder();
  const x = builder.param("x", "f32", [2]);
  expect(() => builder.make("add", [x], {})).toThrow("add: expected 2 operands, got 1");
  expect(() => builder.make("concat", [], { axis: 0 })).toThrow("concat: expected variadic operands, got 0");
  expect(() => builder.call({ name: "f", params: [x], outs: [x] }, [])).toThrow("call @f: expected (f32[2]), got ()");
});

test("topoOrder visits each node once, operands first, at any depth", () => {
  const builder = new Builder();
  const m = maths(builder);
  const x = builder.param("x", "f32", []);
  let y = m.exp(x);
  for (let i = 0; i < 100_000; i++) y = m.add(y, y);
  const order = topoOrder([y, x]);
  expect(order).toHaveLength(100_002);
  const place = new Map(order.map((node, i) => [node, i]));
  expect(order.every((node) => node.ins.every((operand) => place.get(operand)! < place.get(node)!))).toBe(true);
  expect(usersOf(order).get(x)).toEqual([order[1]]);
});

test("rebuild keeps what does not change, and names", () => {
  const builder = new Builder();
  const m = maths(builder);
  const x = builder.param("x", "f32", [2]);
  const kept = m.named("kept", m.exp(x));
  const root = m.named("root", m.add(kept, m.log(x)));
  const { roots, mapping } = rebuild([root], builder, (node) => (node.op === "log" ? m.sin(x) : node));
  expect(mapping.get(kept)).toBe(kept);
  expect(nameOf(roots[0]!)).toBe("root");
  expect(printFunc({ name: "f", params: [x], outs: roots })).toContain("%root: f32[2] = add %kept, %0");
  expect(rebuild([root], builder, (node) => node).roots[0]).toBe(root);
});

test("mapFuncs returns the same module where nothing changed", () => {
  const x = new Builder().param("x", "f32", []);
  const module = makeModule("m", [{ name: "f", params: [x], outs: [x] }], "f");
  expect(mapFuncs(module, (func) => func)).toBe(module);
  expect(mapFuncs(module, (func) => ({ ...func, outs: [] })).funcs.get("f")!.outs).toEqual([]);
});

test("the notation of mathematics broadcasts", () => {
  const m = maths(new Builder());
  const row = m.builder.param("row", "f32", [3]);
  const column = m.builder.param("column", "f32", [2, 1]);
  expect(m.add(row, column).type.shape).toEqual([2, 3]);
  expect(m.mul(2, row).type.shape).toEqual([3]);
  expect(() => m.add(row, m.builder.param("x", "f32", [2]))).toThrow("add: shapes [3] and [2] do not broadcast to one");
  expect(() => m.add(1, 2)).toThrow("add: at least one operand must be a tensor");
});
