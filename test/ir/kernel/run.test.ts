import { expect, test } from "vitest";
import { parseKernel } from "../../../src/ir/kernel/parse.ts";
import { runKernel } from "../../../src/ir/kernel/run.ts";

const run = (text: string, data: Float32Array[], range?: { begin: number; end: number }) => {
  runKernel(parseKernel(`kernel k {\n${text}\n}\n`), data, range);
  return data.map((array) => [...array]);
};

test("vectors: lanes load, compute and store together; a sum adds halves", () => {
  const text =
    "read x: f32[4]\nwrite y: f32[6]\nlet v = x[0]:4 * splat4(2.0)\ny[0] = v\ny[4] = sum(v)\ny[5] = lane1(v)";
  // (2e8 + 6) + (4 + 8) in f32: 2e8 has a spacing of 16.
  expect(run(text, [Float32Array.of(1e8, 2, 3, 4), new Float32Array(6)])[1]).toEqual([2e8, 4, 6, 8, 2e8 + 16, 4]);
});

test("iterations of nested workgroup loops meet at a barrier inside a serial loop", () => {
  const text = `write y: f32[4]
  scratch readwrite s: f32[4]
  workgroup i in 0 .. 2 {
    workgroup j in 0 .. 2 {
      for round in 0 .. 2 {
        s[i * 2 + j] = f32(i * 2 + j + round)
        barrier
        y[i * 2 + j] = s[3 - i * 2 - j]
        barrier
      }
    }
  }`;
  expect(run(text, [new Float32Array(4)])).toEqual([[4, 3, 2, 1]]);
});

test("a range runs part of the grid", () => {
  const text = "write y: f32[4]\ngrid i in 0 .. 4 {\n y[i] = 1.0\n}";
  expect(run(text, [new Float32Array(4)], { begin: 1, end: 3 })).toEqual([[0, 1, 1, 0]]);
});

test.each([
  ["write y: f32[4]\ny[4] = 1.0", "outside its 4 elements"],
  ["read y: f32[4]\nlet a = y[-1]", "outside its 4 elements"],
  ["read y: f32[4]\ny[0] = 1.0", "which is read"],
  ["write y: f32[4]\nlet a = y[0]", "which is write"],
  ["write y: f32[4]\nscratch readwrite s: f64[2]\ny[0] = s[0]", "before it is stored"],
])("the executor checks each access: %#", (text, what) => {
  expect(() => run(text, [new Float32Array(4)])).toThrow(what);
});

test("loop bounds are evaluated once, and select evaluates one branch", () => {
  const text = `readwrite y: f32[4]
  var end: i32 = 3
  for i in 0 .. end {
    end = 4
    y[i] = select(i < 0, y[i - 100], 1.0)
  }`;
  expect(run(text, [new Float32Array(4)])).toEqual([[1, 1, 1, 0]]);
});
