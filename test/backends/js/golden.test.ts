import { expect, test } from "vitest";
import { compileKernel, emitKernel } from "../../../src/backends/js/emit.ts";
import { UnsupportedError } from "../../../src/ir/errors.ts";
import { parseKernel } from "../../../src/ir/kernel/parse.ts";

const kernel = (text: string) => parseKernel(`kernel k {\n${text}\n}\n`);

test("a fused kernel reads as if written by hand", () => {
  const text = `kernel linear_silu from "%3: f32[2,4] = contract %x, %w", "%4 = silu %3 */" {
  read x: f32[16] // f32[2,8]
  read w: bf16[32] // bf16[4,8]
  write y: f32[8] // f32[2,4]
  write best: i8[2]
  scratch readwrite row: f32[4]
  grid n in 0 .. 2 {
    for j in 0 .. 4 {
      var sum: f64 = 0.0:f64
      for k in 0 .. 8 {
        sum = sum + f64(x[n * 8 + k]) * f64(w[j * 8 + k])
      }
      row[j] = sum
    }
    var new: i32 = 0
    for j in 0 .. 4 {
      note "silu"
      y[n * 4 + j] = row[j] * sigmoid(row[j]) + 1.0
      if row[j] > row[new] {
        new = j
      }
    }
    best[n] = new
  }
}
`;
  expect(emitKernel(parseKernel(text))).toMatchInlineSnapshot(`
    "/*
     * %3: f32[2,4] = contract %x, %w
     * %4 = silu %3 * /
     */
    function linear_silu(
      x, // f32[2,8]
      w, // bf16[4,8]
      y, // f32[2,4]
      best, // i8[2]
      begin = 0,
      end = 2,
    ) {
      for (let n = begin; n < end; n++) {
        for (let j = 0; j < 4; j++) {
          let sum = 0;
          for (let k = 0; k < 8; k++) {
            sum += x[n * 8 + k] * bf16ToF32(w[j * 8 + k]);
          }
          row[j] = sum;
        }
        let new_ = 0;
        for (let j = 0; j < 4; j++) {
          // silu
          y[n * 4 + j] = Math.fround(row[j] * Math.fround(1 / (1 + Math.exp(-row[j])))) + 1;
          if (row[j] > row[new_]) {
            new_ = j;
          }
        }
        best[n] = new_;
      }
    }"
  `);
});

test("rounding and wrapping only where they are needed", () => {
  const text = `read a: f32[4]
  read i: i32[4]
  write y: f32[4]
  write z: i32[4]
  y[0] = a[0] + a[1]
  y[1] = a[0] + a[1] * a[2]
  y[2] = max(a[0], -0.0) / neg(neg(a[1]))
  y[3] = f32(i[0])
  z[0] = i[0] + 1
  z[1] = i[0] * i[1]
  z[2] = i32(a[0])
  z[3] = i[0] / i[1] % 8`;
  expect(emitKernel(kernel(text)).split("\n").slice(6, -1).join("\n")).toMatchInlineSnapshot(`
    "  y[0] = a[0] + a[1];
      y[1] = a[0] + Math.fround(a[1] * a[2]);
      y[2] = Math.max(a[0], -0) / - -a[1];
      y[3] = i[0];
      z[0] = i[0] + 1 | 0;
      z[1] = Math.imul(i[0], i[1]);
      z[2] = Math.min(Math.max(a[0], -2147483648), 2147483647) | 0;
      z[3] = (i[0] / i[1] | 0) % 8 | 0;"
  `);
});

test("a launch can run a part of the grid", () => {
  const compiled = compileKernel(kernel("write y: f32[6]\ngrid in in 0 .. 6 step 2 {\n y[in] = 1.0\n}"));
  expect(compiled.grid).toEqual({ from: 0, to: 6, step: 2 });
  const y = new Float32Array(6);
  compiled.run([y], 2, 4);
  expect([...y]).toEqual([0, 0, 1, 0, 0, 0]);
  compiled.run([y]);
  expect([...y]).toEqual([1, 0, 1, 0, 1, 0]);
});

test("vectors and barriers are refused", () => {
  expect(() => compileKernel(kernel("let v = splat4(1.0)"))).toThrow(UnsupportedError);
  expect(() => compileKernel(kernel("workgroup i in 0 .. 2 {\n barrier\n}"))).toThrow(UnsupportedError);
});

test("names that mean something in JavaScript are changed", () => {
  const compiled = compileKernel(
    kernel("write y: f32[1]\nlet Math = 1.0\nlet begin = 2.0\nlet await_ = 3.0\ny[0] = Math + begin + await_"),
  );
  const y = new Float32Array(1);
  compiled.run([y]);
  expect([...y]).toEqual([6]);
});
