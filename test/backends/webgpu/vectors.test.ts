/** Buffers that are only ever used by vectors are declared as arrays of them; others, and vectors from between them, are not. */
import { expect, test } from "vitest";
import { emitKernel } from "../../../src/backends/webgpu/emit.ts";
import { parseKernel } from "../../../src/ir/kernel/parse.ts";
import { printKernel } from "../../../src/ir/kernel/print.ts";
import { runKernel } from "../../../src/ir/kernel/run.ts";
import { verifyKernel } from "../../../src/ir/kernel/verify.ts";

const text = (offset: string) => `kernel k {
  read x: f32[16]
  read b: i8[32]
  write y: f32[20]
  shared readwrite codes: i8[32]
  grid i in 0 .. 2 {
    workgroup lane in 0 .. 2 {
      let four = b[i * 16]:i8x4
      codes[lane * 16] = join4(four, b[i * 16 + 4]:i8x4, four, four)
      barrier
      let dot = dot4s8(splat4(1262485504), codes[0]:i8x16, codes[16]:i8x16)
      y[i * 8 + lane * 4${offset}] = fma(unbiased(dot), x[lane * 4]:4, join4(x[lane], 1.0, 2.0, 3.0))
    }
  }
}
`;

test("aligned vectors are one access", () => {
  const kernel = parseKernel(text(""));
  verifyKernel(kernel);
  expect(printKernel(kernel)).toBe(text(""));
  const { source } = emitKernel(kernel);
  expect(source).toContain("y: array<vec4<f32>>");
  expect(source).toContain("var<workgroup> codes: array<vec4<u32>, 2>;");
  // Loaded one by one as well.
  expect(source).toContain("x: array<f32>");
  expect(emitKernel(parseKernel(text(" + 2"))).source).toContain("y: array<f32>");
});

test("the executor does what they mean", () => {
  const x = Float32Array.from({ length: 16 }, (_, i) => i);
  const b = Int8Array.from({ length: 32 }, (_, i) => i - 8);
  const y = new Float32Array(20);
  runKernel(parseKernel(text("")), [x, b, y]);
  const square = (from: number) => [0, 1, 2, 3].reduce((sum, j) => sum + b[from + j]! ** 2, 0);
  const expected = [0, 1].flatMap((i) =>
    [0, 1].flatMap((lane) =>
      [0, 1, 2, 3].map(
        (four) => square(16 * i + (four === 1 ? 4 : 0)) * x[4 * lane + four]! + (four === 0 ? x[lane]! : four),
      ),
    ),
  );
  expect([...y.slice(0, 16)]).toEqual(expected);
});
