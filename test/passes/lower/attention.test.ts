/** Lowered attention at the ends of the range of positions. */
import { expect, it } from "vitest";
import { compile } from "../../../src/compile.ts";
import { Builder, makeModule } from "../../../src/ir/graph.ts";
import { interpret } from "../../../src/ir/interpret.ts";
import { tensorOf, valuesOf } from "../../../src/ir/tensor.ts";

it.for([-(2 ** 31), -1, 0, 1, 2, 2 ** 31 - 1])("position %i sees what the interpreter sees", async (position) => {
  const builder = new Builder();
  const q = builder.param("q", "f32", [1, 1, 1]);
  const k = builder.param("k", "f32", [1, 2, 1, 1]);
  const positions = builder.param("positions", "i32", [1]);
  const sequence = builder.param("sequence", "i32", [1]);
  const out = builder.make("attention", [q, k, k, positions, sequence], { scale: 1 });
  const main = { name: "main", params: [q, k, positions, sequence], outs: [out] };
  const module = makeModule("attention", [main], "main");
  const inputs = [
    tensorOf("f32", [1, 1, 1], [0]),
    tensorOf("f32", [1, 2, 1, 1], [1, 3]),
    tensorOf("i32", [1], [position]),
    tensorOf("i32", [1], [0]),
  ];
  const [expected] = interpret(module, inputs);
  for (const fuse of [true, false]) {
    const [found] = await compile(module, "js", { fuse }).run(inputs);
    expect(valuesOf(found!)).toEqual(valuesOf(expected!));
  }
});
