/** Contractions whose streamed operand lies in memory along a result axis: sums of lines of rows, done in lanes. */
import { describe, expect, test } from "vitest";
import { compile, openDevice } from "../../../src/compile.ts";
import { maths } from "../../../src/ir/build.ts";
import { Builder, makeModule } from "../../../src/ir/graph.ts";
import { interpret } from "../../../src/ir/interpret.ts";
import { tensorFrom } from "../../../src/ir/tensor.ts";

const shapes = [
  { axes: "n h d, h d r -> n h r", x: [1, 3, 8], w: [3, 8, 64], lines: true },
  { axes: "n h d, h d r -> n h r", x: [4, 2, 7], w: [2, 7, 96], lines: true }, // summed one by one
  { axes: "n i, i o -> n o", x: [1, 12], w: [12, 1056], lines: true }, // several lines
  { axes: "n i, i o -> n o", x: [6, 4], w: [4, 32], lines: true },
  { axes: "n a b, b a o -> o n", x: [2, 3, 4], w: [4, 3, 32], lines: true },
  { axes: "n i, i o -> n o", x: [1, 8], w: [8, 40], lines: false }, // no line divides it
  { axes: "n i, o i -> n o", x: [1, 8], w: [64, 8], lines: false },
] as const;

describe.each(shapes)("$axes of $x and $w", ({ axes, x: inShape, w: shape, lines }) => {
  test.each(["alone", "staged, with an epilogue"])("%s", async (how) => {
    const builder = new Builder();
    const build = maths(builder);
    const [x, w] = [builder.param("x", "f32", inShape), builder.param("w", "f32", shape)];
    const out = how === "alone" ? build.contract(axes, x, w) : build.abs(build.contract(axes, build.add(x, x), w));
    const module = makeModule("m", [{ name: "main", params: [x, w], outs: [out] }], "main");
    const device = openDevice("wasm");
    const { plan, instantiate } = compile(module, device);
    expect(plan.kernels.some(({ bufs }) => bufs.some(({ name }) => name.startsWith("sums")))).toBe(lines);
    const instance = instantiate({
      weight: () => {
        throw new Error("no weights");
      },
    });
    // Small integers, so that sums are exact.
    const given = instance.params.map((data, salt) => data.map((_, i) => ((i * 7 + salt * 3 + (i >> 4)) % 13) - 6));
    for (const [i, data] of given.entries()) instance.params[i]!.set(data);
    await instance.run();
    const inputs = [x, w].map(({ type }, i) => tensorFrom(type, given[i]!));
    const [wanted] = interpret(module, inputs);
    expect([...instance.results[0]!]).toEqual([...wanted!.data]);
    await device.close();
  });
});
