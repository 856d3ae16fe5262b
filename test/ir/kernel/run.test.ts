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

test("iterations of a workgroup loop meet at a barrier inside a serial loop", () => {
  const text = `write y: f32[4]
  shared readwrite s: f32[4]
  workgroup i in 0 .. 4 {
    for round in 0 .. 2 {
      s[i] = f32(i + round)
      barrier
      y[i] = s[3 - i]
      barrier
    }
  }`;
  expect(run(text, [new Float32Array(4)])).toEqual([[4, 3, 2, 1]]);
});

test("each iteration of a workgroup loop has scratch of its own, and combine takes neighbours together", () => {
  const text = `write y: f32[8]
  scratch readwrite own: f32[1]
  grid g in 0 .. 2 {
    workgroup i in 0 .. 4 {
      own[0] = f32(g * 4 + i)
      combine most = max(own[0]) over 4
      combine pair = add(own[0]) over 2
      y[g * 4 + i] = pair + most * 100.0
    }
  }`;
  expect(run(text, [new Float32Array(8)])).toEqual([[301, 301, 305, 305, 709, 709, 713, 713]]);
});

test.each([
  ["s[i] = 1.0\ny[i] = s[1 - i]", "before it is stored"],
  ["s[0] = f32(i)\ny[i] = 0.0", "no barrier between them"],
  ["s[i] = 1.0\nbarrier\ny[i] = s[0]\ns[0] = 2.0", "no barrier between them"],
  ["for j in 0 .. i {\n barrier\n}", "miss a barrier"],
])("the executor finds what iterations of a workgroup do to each other: %#", (body, what) => {
  const text = `write y: f32[2]\nshared readwrite s: f32[2]\nworkgroup i in 0 .. 2 {\n${body}\n}`;
  expect(() => run(text, [new Float32Array(2)])).toThrow(what);
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
