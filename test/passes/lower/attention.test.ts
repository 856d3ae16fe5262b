/** Lowered attention at the ends of the range of positions. */
import { expect, it } from "vitest";
import { compile } from "../../../src/compile.ts";
import { Builder, makeModule } from "../../../src/ir/graph.ts";
import { interpret } from "../../../src/ir/interpret.ts";
import { printKernel } from "../../../src/ir/kernel/print.ts";
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

it.for(["js", "wasm"])(
  "shares one token's heads out and keeps values in vectors where they lie in rows: %s",
  async (name) => {
    for (const [heads, groups, columns] of [
      [12, 2, 8],
      [4, 1, 12],
      [3, 3, 5],
    ] as const) {
      const builder = new Builder();
      const q = builder.param("q", "f32", [2, heads, 4]);
      const k = builder.param("k", "f32", [1, 9, groups, 4]);
      const v = builder.param("v", "f32", [1, 9, groups, columns]);
      const positions = builder.param("positions", "i32", [2]);
      const sequence = builder.param("sequence", "i32", [2]);
      const out = builder.make("attention", [q, k, v, positions, sequence], { scale: 0.5 });
      const main = { name: "main", params: [q, k, v, positions, sequence], outs: [out] };
      const module = makeModule("attention", [main], "main");
      const wave = (shape: readonly number[]) =>
        tensorOf(
          "f32",
          shape,
          Array.from({ length: shape.reduce((a, b) => a * b) }, (_, i) => Math.sin(i * 1.7)),
        );
      const inputs = [
        wave([2, heads, 4]),
        wave([1, 9, groups, 4]),
        wave([1, 9, groups, columns]),
        tensorOf("i32", [2], [8, 3]),
        tensorOf("i32", [2], [0, 0]),
      ];
      const [expected] = interpret(module, inputs);
      const executable = compile(module, name);
      const [found] = await executable.run(inputs);
      await executable.device.close();
      // Sums of nine products of numbers below one, in another order.
      const far = valuesOf(found!).map((x, i) => Math.abs(x - Number(valuesOf(expected!)[i])));
      expect(Math.max(...far)).toBeLessThan(2e-6);
      const [kernel] = executable.plan.kernels;
      expect(printKernel(kernel!).includes("columns of 4")).toBe(name === "wasm" && columns % 4 === 0);
    }
  },
);
