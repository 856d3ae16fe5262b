/** Loops in four lanes: what becomes of typical ones, which are left alone, and that results stay equal up to rounding. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { parseKernel } from "../../../src/ir/kernel/parse.ts";
import { printKernel } from "../../../src/ir/kernel/print.ts";
import { runKernel } from "../../../src/ir/kernel/run.ts";
import { verifyKernel } from "../../../src/ir/kernel/verify.ts";
import { vectorizeLoops } from "../../../src/passes/kernel/vectorize.ts";
import { ulpDistance } from "../../arb/compare.ts";
import { arbData, arbKernel, contentsOf, storageOf } from "../../arb/kernel.ts";

const bufs = `  read x: f32[24]
  read w: bf16[24]
  read n: i32[1]
  readwrite y: f32[24]
  scratch readwrite s: f32[24]
`;
const kernel = (body: string) => parseKernel(`kernel k {\n${bufs}${body}\n}\n`);

/** The body after the pass. */
function passed(body: string): string {
  const before = kernel(body);
  verifyKernel(before);
  const after = vectorizeLoops(before);
  verifyKernel(after);
  compare(before, after);
  return printKernel(after).split("\n").slice(6, -2).join("\n").replaceAll(/^ {2}/gm, "");
}

function compare(before: ReturnType<typeof kernel>, after: typeof before): void {
  const data = () => [
    Float32Array.from({ length: 24 }, (_, i) => Math.sin(i * 7)),
    Uint16Array.from({ length: 24 }, (_, i) => 0x3f80 + 5 * i),
    Int32Array.of(11),
    Float32Array.from({ length: 24 }, (_, i) => i),
  ];
  const [a, b] = [data(), data()];
  runKernel(before, a);
  runKernel(after, b);
  // A sum of 24 terms of size one, in another order.
  a[3]!.forEach((value, i) => void expect(Math.abs(b[3]![i]! - value)).toBeLessThan(1e-5));
}

test("a dot product has a vector of sums and a remainder", () => {
  const body = `grid r in 0 .. 2 {
    var acc: f32 = 0.0
    for k in 0 .. 11 {
      let a = x[k]
      acc = acc + a * w[r * 11 + k]
    }
    y[r] = acc
  }`;
  expect(passed(body)).toMatchInlineSnapshot(`
    "grid r in 0 .. 2 {
      var acc: f32 = 0.0
      var acc_lanes: f32x4 = splat4(0.0)
      for k in 0 .. 8 step 4 {
        let a = x[k]:4
        acc_lanes = fma(a, w[r * 11 + k]:4, acc_lanes)
      }
      acc = acc + sum(acc_lanes)
      for k in 8 .. 11 {
        let a = x[k]
        acc = acc + a * w[r * 11 + k]
      }
      y[r] = acc
    }"
  `);
});

test("a softmax row of unknown length: maximum, exp and sum", () => {
  const body = `let end = min(max(n[0], 0), 24)
  var most: f32 = -inf
  for i in 0 .. end {
    most = max(most, x[i])
  }
  var total: f32 = 0.0
  for i in 0 .. end {
    let e = exp(x[i] - most)
    y[i] = e
    total = total + e
  }
  y[23] = total`;
  expect(passed(body)).toMatchInlineSnapshot(`
    "let end = min(max(n[0], 0), 24)
    var most: f32 = -inf
    let middle = max(end, 0) / 4 * 4
    var most_lanes: f32x4 = splat4(-inf)
    for i in 0 .. middle step 4 {
      most_lanes = max(most_lanes, x[i]:4)
    }
    most = max(most, max(max(max(lane0(most_lanes), lane1(most_lanes)), lane2(most_lanes)), lane3(most_lanes)))
    for i in middle .. end {
      most = max(most, x[i])
    }
    var total: f32 = 0.0
    let middle2 = max(end, 0) / 4 * 4
    var total_lanes: f32x4 = splat4(0.0)
    for i in 0 .. middle2 step 4 {
      let e = exp(x[i]:4 - splat4(most))
      y[i] = e
      total_lanes = total_lanes + e
    }
    total = total + sum(total_lanes)
    for i in middle2 .. end {
      let e = exp(x[i] - most)
      y[i] = e
      total = total + e
    }
    y[23] = total"
  `);
});

test("a grid loop stays one loop, rows apart do not meet", () => {
  const body = `grid i in 0 .. 24 {
    y[i] = x[i] * y[i]
  }
  for i in 0 .. 12 {
    y[i] = x[i] + y[i + 12]
  }`;
  expect(passed(body)).toMatchInlineSnapshot(`
    "grid i in 0 .. 24 step 4 {
      y[i] = x[i]:4 * y[i]:4
    }
    for i in 0 .. 12 step 4 {
      y[i] = x[i]:4 + y[i + 12]:4
    }"
  `);
});

test.each([
  ["a stride", "for i in 0 .. 8 {\n    y[i] = x[i * 2]\n  }"],
  ["an index that is data", "for i in 0 .. 8 {\n    y[i] = x[min(max(i32(x[i]), 0), 3)]\n  }"],
  ["a value of an earlier iteration", "for i in 0 .. 8 {\n    y[i + 1] = y[i]\n  }"],
  ["a sum that is looked at", "var a: f32 = 0.0\n  for i in 0 .. 8 {\n    a = a + x[i]\n    y[i] = a\n  }"],
  ["a recurrence", "var a: f32 = 0.0\n  for i in 0 .. 8 {\n    a = a * x[i]\n  }"],
  ["the loop's variable as a value", "for i in 0 .. 8 {\n    y[i] = f32(i)\n  }"],
  ["a guarded load", "for i in 0 .. 8 {\n    y[i] = select(x[i] > 0.0, w[i], 0.0)\n  }"],
  ["a grid loop with a remainder", "grid i in 0 .. 11 {\n    y[i] = x[i]\n  }"],
  ["few iterations", "for i in 0 .. 3 {\n    y[i] = x[i]\n  }"],
])("left alone: %s", (_what, body) => {
  const before = kernel(body);
  expect(vectorizeLoops(before)).toBe(before);
});

test("random kernels give the same results, and still verify", () => {
  fc.assert(
    fc.property(arbKernel, arbData, (given, contents) => {
      const after = vectorizeLoops(given);
      verifyKernel(after);
      const [a, b] = [storageOf(given, contents), storageOf(given, contents)];
      runKernel(given, a);
      runKernel(after, b);
      const [want, got] = [contentsOf(given, a), contentsOf(given, b)];
      // The reference functions are the same, so only sums of up to seven terms may differ in their last bits.
      want.forEach((values, i) => {
        values.forEach((value, j) => {
          const other = got[i]![j]!;
          if (Object.is(value, other) || ulpDistance(value, other) <= 16) return;
          throw new Error(`${printKernel(given)}\n${printKernel(after)}\n${value} became ${other}`);
        });
      });
    }),
    { numRuns: 300 },
  );
});
