/** Loops over elements of groups become loops over groups; the results stay, bit for bit. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { parseKernel } from "../../../src/ir/kernel/parse.ts";
import { printKernel } from "../../../src/ir/kernel/print.ts";
import { runKernel } from "../../../src/ir/kernel/run.ts";
import { verifyKernel } from "../../../src/ir/kernel/verify.ts";
import { splitLoops } from "../../../src/passes/kernel/split.ts";

const kernel = (body: string, size: number) =>
  parseKernel(`kernel k {
  read x: f32[${size}]
  read s: f32[${size}]
  write y: f32[${size}]
  ${body}
}
`);

test("a group's scale belongs to the outer loop", () => {
  const before = kernel("for i in 0 .. 96 {\n    let at = s[i / 32]\n    y[i] = x[i] * at\n  }", 96);
  const after = splitLoops(before);
  verifyKernel(after);
  expect(printKernel(after).split("\n").slice(4, -2).join("\n")).toMatchInlineSnapshot(`
    "  for i_run in 0 .. 3 {
        for i in 0 .. 32 {
          let at = s[i_run]
          y[i_run * 32 + i] = x[i_run * 32 + i] * at
        }
      }"
  `);
  expect(splitLoops(after)).toBe(after);
});

test.each([
  ["runs that do not fill the loop", "for i in 0 .. 100 {\n    y[i] = s[i / 32]\n  }"],
  ["short runs", "for i in 0 .. 96 {\n    y[i] = s[i / 4]\n  }"],
  ["one run", "for i in 0 .. 96 {\n    y[i] = s[i / 96]\n  }"],
  ["a grid of few runs", "grid i in 0 .. 96 {\n    y[i] = s[i / 32]\n  }"],
  ["a start that is not 0", "for i in 32 .. 96 {\n    y[i] = s[i / 32]\n  }"],
])("left alone: %s", (_what, body) => {
  const before = kernel(body, 100);
  expect(splitLoops(before)).toBe(before);
});

test("a sum is added up in the same order", () => {
  const numbers = fc.array(fc.float(), { minLength: 512, maxLength: 512 });
  fc.assert(
    fc.property(numbers, fc.integer({ min: 2, max: 40 }), fc.constantFrom(8, 12), (x, runs, length) => {
      const before = kernel(
        `var a: f32 = 0.0
  for i in 0 .. ${runs * length} {
    a = a + x[i] * s[i / ${length}]
  }
  y[0] = a`,
        512,
      );
      const after = splitLoops(before);
      verifyKernel(after);
      expect(after).not.toBe(before);
      const [want, got] = [before, after].map((each) => {
        const y = new Float32Array(512);
        runKernel(each, [Float32Array.from(x), Float32Array.from(x).reverse(), y]);
        return y[0];
      });
      expect(got).toBe(want);
    }),
  );
});

test("values stay, also where the index is used in other ways", () => {
  const numbers = fc.array(fc.float(), { minLength: 512, maxLength: 512 });
  const shapes = fc.record({
    how: fc.constantFrom("for", "grid"),
    runs: fc.integer({ min: 2, max: 40 }),
    length: fc.constantFrom(8, 12),
    other: fc.integer({ min: 2, max: 64 }),
  });
  fc.assert(
    fc.property(numbers, shapes, (x, { how, runs, length, other }) => {
      const n = runs * length;
      const body = `${how} i in 0 .. ${n} {
    let at = s[i / ${length}] + s[i / ${other}]
    y[i] = x[i] * at - s[i % ${other}] + f32(i)
  }`;
      const before = kernel(body, 512);
      const after = splitLoops(before);
      verifyKernel(after);
      if (how === "for" || runs >= 32) expect(after).not.toBe(before);
      const data = () => [Float32Array.from(x), Float32Array.from(x).reverse(), new Float32Array(512)];
      const [want, got] = [data(), data()];
      runKernel(before, want);
      runKernel(after, got);
      expect([...got[2]!]).toEqual([...want[2]!]);
    }),
    { numRuns: 200 },
  );
});
