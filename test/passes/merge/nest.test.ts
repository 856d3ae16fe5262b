/** Retiling: the same iterations in the same order, whatever the grid. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Kernel, ref } from "../../../src/ir/kernel/kernel.ts";
import { parseKernel } from "../../../src/ir/kernel/parse.ts";
import { runKernel } from "../../../src/ir/kernel/run.ts";
import { loop } from "../../../src/ir/kernel/stmt.ts";
import { verifyKernel } from "../../../src/ir/kernel/verify.ts";
import { extentOf, extentsOf, gridOf, iterationOf, nestOf } from "../../../src/passes/merge/nest.ts";

const parse = (body: string, bufs = "read x: f32[32]\n  write y: f32[32]") =>
  parseKernel(`kernel k {\n  ${bufs}\n  ${body}\n}\n`);

interface Dim {
  readonly from: number;
  readonly count: number;
  readonly step: number;
}
const arbDims = fc.array(
  fc.record({
    from: fc.integer({ min: 0, max: 2 }),
    count: fc.integer({ min: 1, max: 6 }),
    step: fc.integer({ min: 1, max: 3 }),
  }),
  { minLength: 1, maxLength: 3 },
);

/** Writes to element n of the n-th iteration the values of all loop variables, in one number. */
function nestKernel(dims: readonly Dim[]): Kernel {
  const names = dims.map((_, i) => `v${i}`);
  const code = names.reduce((text, name) => `(${text}) * 32 + ${name}`, "0");
  const at = dims.reduce((text, { from, count, step }, i) => `(${text}) * ${count} + (v${i} - ${from}) / ${step}`, "0");
  const size = dims.reduce((product, { count }) => product * count, 1);
  const open = dims.map(({ from, count, step }, i) => `for v${i} in ${from} .. ${from + count * step} step ${step} {`);
  const body = `${open.join("\n")}\nlet at = ${at}\ny[at] = y[at] + ${code}\n${open.map(() => "}").join("\n")}`;
  return parse(body, `readwrite y: i32[${size}]`);
}

test("every extent runs every iteration once", () => {
  fc.assert(
    fc.property(arbDims, (dims) => {
      const kernel = nestKernel(dims);
      const size = kernel.bufs[0]!.size;
      const expected = new Int32Array(size).fill(7);
      runKernel(kernel, [expected]);
      const nest = nestOf(kernel);
      expect(extentOf(nest)).toBe(size);
      for (const extent of extentsOf(nest)) {
        const body = extent === 1 ? iterationOf(nest, 1, ref("g")) : [gridOf(nest, extent, "g")];
        const grid = { ...kernel, body };
        verifyKernel(grid);
        const found = new Int32Array(size).fill(7);
        runKernel(grid, [found]);
        expect(found).toEqual(expected);
      }
    }),
  );
});

describe("a loop in order is one of independent iterations", () => {
  const extents = (kernel: Kernel) => extentOf(nestOf(kernel));

  test.each([
    ["a map", "for i in 0 .. 32 {\n y[i] = x[31 - i]\n }", 32],
    ["two loops", "for i in 0 .. 8 {\n let at = i * 4\n for j in 0 .. 4 {\n y[at + j] = x[j]\n }\n }", 32],
    [
      "sums of its own",
      "for i in 0 .. 32 {\n var s: f32 = 0.0\n for j in 0 .. 4 {\n s = s + x[j]\n }\n y[i] = s\n }",
      32,
    ],
    [
      "what was computed before it",
      "var s: f32 = 0.0\nfor j in 0 .. 4 {\n s = s + x[j]\n }\nfor i in 0 .. 32 {\n y[i] = s\n }",
      32,
    ],
  ])("%s", (_what, body, extent) => {
    expect(extents(parse(body))).toBe(extent);
  });

  test.each([
    ["a running sum", "var s: f32 = 0.0\nfor i in 0 .. 32 {\n s = s + x[i]\n y[i] = s\n }"],
    ["elements stored twice", "for i in 0 .. 31 {\n y[i] = x[i]\n y[i + 1] = x[i]\n }"],
    ["an element that all store to", "for i in 0 .. 32 {\n y[0] = x[i]\n }"],
    ["a place that data decides", "for i in 0 .. 32 {\n y[min(max(i32(x[i]), 0), 31)] = x[i]\n }"],
    ["a loop whose length data decides", "for i in 0 .. min(i32(x[0]), 32) {\n y[i] = x[i]\n }"],
    ["two loops, one after the other", "for i in 0 .. 16 {\n y[i] = x[i]\n }\nfor i in 16 .. 32 {\n y[i] = x[i]\n }"],
  ])("not %s", (_what, body) => {
    expect(extents(parse(body))).toBe(1);
  });

  test("not where it reads what another iteration stores", () => {
    const both = "readwrite y: f32[32]";
    expect(extents(parse("for i in 0 .. 32 {\n y[i] = y[max(i - 1, 0)] + 1.0\n }", both))).toBe(1);
    expect(extents(parse("for i in 0 .. 32 {\n y[i] = y[i] + 1.0\n }", both))).toBe(32);
  });

  test("not where scratch is left for the next", () => {
    const bufs = "read x: f32[32]\n  write y: f32[32]\n  scratch readwrite s: f32[1]";
    expect(extents(parse("s[0] = 0.0\nfor i in 0 .. 32 {\n s[0] = s[0] + x[i]\n y[i] = s[0]\n }", bufs))).toBe(1);
    expect(extents(parse("s[0] = x[3]\nfor i in 0 .. 32 {\n y[i] = s[0]\n }", bufs))).toBe(32);
  });

  test("a grid is one as it is", () => {
    const kernel = parse("for i in 0 .. 32 {\n y[0] = x[i]\n }");
    const [serial] = kernel.body;
    expect(extents({ ...kernel, body: [loop("i", 0, 32, serial?.k === "for" ? serial.body : [], "grid")] })).toBe(32);
  });
});
