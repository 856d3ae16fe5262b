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
      combine far = add(own[0]) over 2 apart 2
      y[g * 4 + i] = pair + most * 100.0 + far * 10000.0
    }
  }`;
  const far = [2, 4, 2, 4, 10, 12, 10, 12].map((sum) => 10000 * sum);
  const near = [301, 301, 305, 305, 709, 709, 713, 713];
  expect(run(text, [new Float32Array(8)])).toEqual([near.map((value, i) => value + far[i]!)]);
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

const multiplied = (lines: string) => `write y: i32[8]
  shared readwrite a: i8[40]
  shared readwrite b: i8[32]
  shared readwrite c: i32[8]
  workgroup l in 0 .. 4 {
    for i in l .. 40 step 4 {
      a[i] = i - 20
    }
    for j in l .. 32 step 4 {
      b[j] = 100 - j
    }
    barrier
    ${lines}
    barrier
    y[l * 2] = c[l * 2]
    y[l * 2 + 1] = c[l * 2 + 1]
  }`;
const runProducts = (lines: string) => {
  const y = new Int32Array(8);
  runKernel(parseKernel(`kernel k {\n${multiplied(lines)}\n}\n`), [y]);
  return [...y];
};

test("neighbours multiply matrices: rows of the left one by rows of the right one", () => {
  const lines =
    "let h = l / 2\nmultiply c[h * 4] step 2 = a[h * 4] step 18 * b[0] step 16 size [2, 2, 16] by [1, 2, 8] from 5 over 2";
  const expected = Array.from({ length: 8 }, (_, at) => {
    const [h, i, j] = [at >> 2, (at >> 1) & 1, at & 1];
    const terms = Array.from({ length: 16 }, (_, k) => (h * 4 + i * 18 + k - 20) * (100 - (j * 16 + k)));
    return terms.reduce((sum, term) => sum + term, 5);
  });
  expect(runProducts(lines)).toEqual(expected);
});

const whole = "multiply c[0] step 2 = a[0] step 16 * b[0] step 16 size [2, 2, 16] by [2, 2, 16] from 0 over 4";
test.each([
  [`${whole}\nc[l] = 1`, "no barrier between them"],
  [`c[l] = 1\n${whole}`, "no barrier between them"],
  [`a[l] = 1\n${whole}`, "no barrier between them"],
  [`${whole}\nb[31 - l] = 1`, "no barrier between them"],
  [`${whole}\n${whole}`, "no barrier between them"],
  [whole.replace("c[0]", "c[l / 2]"), "do not multiply the same"],
])("the executor finds what products of matrices do wrong: %#", (lines, what) => {
  expect(() => runProducts(lines)).toThrow(what);
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
