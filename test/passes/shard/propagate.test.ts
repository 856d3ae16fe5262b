/** What propagation makes of weights, of functions, and of shardings that are none. */
import { expect, test } from "vitest";
import { Builder, getFunc, type Module } from "../../../src/ir/graph.ts";
import { interpret } from "../../../src/ir/interpret.ts";
import { interpretSharded, shardModule } from "../../../src/passes/shard/shard.ts";
import { type Build, funcOf, inputsOf, moduleOf } from "../../arb/module-of.ts";

type Dims = readonly (readonly string[])[];

/** Divides over two devices along `a`, two stages along `pp`; parameters and results are cut as said. */
function divide(module: Module, params: Readonly<Record<string, Dims>>, result?: Dims) {
  return shardModule(module, {
    mesh: { pp: 1, a: 2 },
    weight: () => undefined,
    param: (name) => params[name] && { dims: params[name] },
    result: () => result && { dims: result },
  });
}

function check(module: Module, params: Readonly<Record<string, Dims>>): void {
  const inputs = inputsOf(getFunc(module, module.entry));
  expect(interpretSharded(divide(module, params), inputs)).toEqual(interpret(module, inputs));
}

test("columns of a reshaped weight are not columns of the weight", () => {
  const module = moduleOf((m, p) => m.mul(m.reshape(m.iota("f32", [2, 4], 1), [4, 2]), p("x", "f32", 4, 2)));
  check(module, { x: [[], ["a"]] });
});

test("a function that is divided twice takes no other function's name", () => {
  const builder = new Builder();
  const [twice, square] = [
    funcOf("f", (m, p) => m.add(p("x", "f32", 2, 2), p("x", "f32", 2, 2)), builder),
    funcOf("f.1", (m, p) => m.mul(p("x", "f32", 2, 2), p("x", "f32", 2, 2)), builder),
  ];
  const main: Build = (_, p) => {
    const [x, y] = [p("x", "f32", 2, 2), p("y", "f32", 2, 2)];
    return [square, twice].flatMap((func) => [x, y].flatMap((each) => builder.call(func, [each])));
  };
  const entry = funcOf("main", main, builder);
  check(
    moduleOf(() => entry.outs, [twice, square]),
    { x: [["a"], []], y: [[], ["a"]] },
  );
});

test.each([
  ["names an axis twice", { x: [["a"], ["a"]] }, "parameter x: expected each mesh axis once, got a twice in [a, a]"],
  ["has too few dimensions", { x: [["a"]] }, "parameter x: expected mesh axes for each dimension of [2,3], got [a]"],
  ["cuts along the axis of stages", { x: [["pp"], []] }, 'mesh: there is no axis "pp"'],
] as const)("a sharding that %s is refused", (_, params, message) => {
  expect(() =>
    divide(
      moduleOf((m, p) => m.neg(p("x", "f32", 2, 3))),
      params,
    ),
  ).toThrow(message);
});

test("a result that cannot be cut as asked is named", () => {
  const module = moduleOf((m, p) => m.neg(p("x", "f32", 2, 3)));
  expect(() => divide(module, {}, [[], ["a"]])).toThrow(
    "result 0: dimension 1 of [2,3] cannot be cut into 2 equal parts",
  );
});
