/** Large matrices times one vector, whose tiles are of rows far apart: every row once, in the place that it has. */
import { describe, expect, test } from "vitest";
import { compile, openDevice } from "../../../src/compile.ts";
import { maths } from "../../../src/ir/build.ts";
import { Builder, makeModule } from "../../../src/ir/graph.ts";

const shapes = [
  { axes: "n i, o i -> n o", x: [1, 512], w: [520, 512], spacing: "apart" },
  { axes: "n i, h o i -> n h o", x: [1, 256], w: [3, 356, 256], spacing: "apart" },
  { axes: "n i, o i -> n o", x: [1, 512], w: [513, 512], spacing: "neighbours" }, // no tile divides it
  { axes: "n i, o i -> n o", x: [4, 512], w: [520, 512], spacing: "neighbours" },
  { axes: "n i, i o -> n o", x: [1, 512], w: [512, 520], spacing: "neighbours" },
  { axes: "n i, o i -> n o", x: [1, 256], w: [256, 256], spacing: "neighbours" }, // few
] as const;

describe.each(shapes)("$axes of $x and $w", ({ axes, x: [tokens, inner], w: shape, spacing }) => {
  test.each([1, 2])("%i threads", async (threads) => {
    const builder = new Builder();
    const [x, w] = [builder.param("x", "f32", [tokens, inner]), builder.param("w", "f32", shape)];
    const out = maths(builder).contract(axes, x, w);
    const device = openDevice("wasm", { threads });
    const { plan, instantiate } = compile(
      makeModule("m", [{ name: "main", params: [x, w], outs: [out] }], "main"),
      device,
    );
    const notes = plan.kernels.flatMap(({ body }) => body).filter((stmt) => stmt.k === "note");
    expect(notes.some(({ text }) => text.includes("far apart"))).toBe(spacing === "apart");
    const instance = instantiate({
      weight: () => {
        throw new Error("no weights");
      },
    });
    // Small integers, so that sums are exact in any order.
    const [xs, ws] = instance.params.map((data, salt) => data.map((_, i) => ((i * 7 + salt * 3 + (i >> 8)) % 13) - 6));
    instance.params[0]!.set(xs!);
    instance.params[1]!.set(ws!);
    await instance.run();
    const rowsLast = !axes.includes("i o");
    const rows = ws!.length / inner;
    const wanted = Array.from({ length: tokens * rows }, (_, at) => {
      const [n, o] = [Math.floor(at / rows), at % rows];
      let sum = 0;
      for (let i = 0; i < inner; i++) sum += xs![n * inner + i]! * ws![rowsLast ? o * inner + i : i * rows + o]!;
      return sum;
    });
    expect([...instance.results[0]!]).toEqual(wanted);
    await device.close();
  });
});
