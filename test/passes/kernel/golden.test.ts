/** What the kernel passes make of the index arithmetic that generic lowering writes. */
import { expect, test } from "vitest";
import { parseKernel } from "../../../src/ir/kernel/parse.ts";
import { printKernel } from "../../../src/ir/kernel/print.ts";
import { verifyKernel } from "../../../src/ir/kernel/verify.ts";
import { hoistInvariants } from "../../../src/passes/kernel/hoist.ts";
import { simplifyIndices } from "../../../src/passes/kernel/indices.ts";

const passed = (text: string): string => {
  const kernel = parseKernel(`kernel k {\n${text}\n}\n`);
  verifyKernel(kernel);
  const after = hoistInvariants(simplifyIndices(kernel));
  verifyKernel(after);
  // Nothing is left to do, and saying so costs no new object.
  expect(simplifyIndices(after)).toBe(after);
  expect(hoistInvariants(after)).toBe(after);
  return printKernel(after).split("\n").slice(1, -2).join("\n").replaceAll(/^ {2}/gm, "");
};

test("rows of a paged cache: all but the last index is computed outside", () => {
  const text = `read table: i32[128]
  read cache: f32[2359296] // f32[4096,576]
  read q: f32[1152]
  write y: f32[2048]
  grid b in 0 .. 2 {
    for s in 0 .. 1024 {
      var sum: f64 = 0.0:f64
      for d in 0 .. 576 {
        sum = sum + f64(q[b * 576 + d]) * f64(cache[(min(max(table[b * 64 + s / 16], 0), 255) * 16 + s % 16) * 576 + d])
      }
      y[b * 1024 + s] = sum
    }
  }`;
  expect(passed(text)).toMatchInlineSnapshot(`
    "read table: i32[128]
    read cache: f32[2359296] // f32[4096,576]
    read q: f32[1152]
    write y: f32[2048]
    grid b in 0 .. 2 {
      let q_base = b * 576
      let table_base = b * 64
      let y_base = b * 1024
      for s in 0 .. 1024 {
        var sum: f64 = 0.0:f64
        let cache_base = min(max(table[table_base + s / 16], 0), 255) * 9216 + s % 16 * 576
        for d in 0 .. 576 {
          sum = sum + f64(q[q_base + d]) * f64(cache[cache_base + d])
        }
        y[y_base + s] = sum
      }
    }"
  `);
});

test("weights of a chosen expert: the row, its guard and its load leave the loop", () => {
  const text = `read idx: i32[6]
  read x: f32[64]
  read w: f32[262144] // f32[64,64,64]
  write y: f32[384]
  grid f in 0 .. 384 {
    var sum: f64 = 0.0:f64
    for r in 0 .. 64 {
      let e = idx[(f / 64 * 64 + f % 64) / 64]
      sum = sum + select(e >= 0 && e < 64, f64(w[e * 4096 + f % 64 * 64 + r]), 0.0:f64) * f64(x[r])
    }
    y[f / 64 * 64 + f % 64] = sum
  }`;
  expect(passed(text)).toMatchInlineSnapshot(`
    "read idx: i32[6]
    read x: f32[64]
    read w: f32[262144] // f32[64,64,64]
    write y: f32[384]
    grid f in 0 .. 384 {
      var sum: f64 = 0.0:f64
      let e = idx[f / 64]
      let holds = e >= 0 && e < 64
      let w_base = e * 4096 + f % 64 * 64
      for r in 0 .. 64 {
        sum = sum + select(holds, f64(w[w_base + r]), 0.0:f64) * f64(x[r])
      }
      y[f] = sum
    }"
  `);
});

test("quotients, remainders and conditions that loop bounds decide", () => {
  const text = `read x: f32[4096]
  write y: f32[4096]
  for i in 0 .. 64 {
    for j in 0 .. 64 {
      if i * 64 + j < 4096 && j / 64 == 0 {
        y[(i * 64 + j) / 64 * 64 + (i * 64 + j) % 64] = x[((i * 64 + j) / 8 / 8 + j * 64) % 4096]
      } else {
        y[0] = 0.0
      }
    }
  }`;
  expect(passed(text)).toMatchInlineSnapshot(`
    "read x: f32[4096]
    write y: f32[4096]
    for i in 0 .. 64 {
      let y_base = i * 64
      for j in 0 .. 64 {
        y[y_base + j] = x[i + j * 64]
      }
    }"
  `);
});

test("a load stays behind its condition, and in a loop that may not run", () => {
  const text = `read ids: i32[4]
  read x: f32[4]
  write y: f32[4]
  for i in 0 .. 4 {
    y[i] = select(ids[i] > 0, exp(x[0]), 0.0)
    if ids[i] > 1 {
      y[i] = x[1] * x[1] + f32(i)
    }
  }
  for i in 0 .. min(ids[0], 4) {
    y[i] = exp(x[2])
  }`;
  expect(passed(text)).toMatchInlineSnapshot(`
    "read ids: i32[4]
    read x: f32[4]
    write y: f32[4]
    for i in 0 .. 4 {
      let ids_at = ids[i]
      y[i] = select(ids_at > 0, exp(x[0]), 0.0)
      if ids_at > 1 {
        let x_at = x[1]
        y[i] = x_at * x_at + f32(i)
      }
    }
    for i in 0 .. min(ids[0], 4) {
      y[i] = exp(x[2])
    }"
  `);
});

test("a load of a buffer that the loop stores to, and a var that it sets, stay inside", () => {
  const text = `readwrite y: f32[4]
  var a: f32 = 0.0
  for i in 0 .. 4 {
    y[i] = y[0] * 2.0 + a * 3.0
    a = a + y[0] * 2.0
  }`;
  expect(passed(text)).toMatchInlineSnapshot(`
    "readwrite y: f32[4]
    var a: f32 = 0.0
    for i in 0 .. 4 {
      y[i] = y[0] * 2.0 + a * 3.0
      a = a + y[0] * 2.0
    }"
  `);
});
