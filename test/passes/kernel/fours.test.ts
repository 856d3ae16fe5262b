/** Loads by fours: which elements become one load, and which are left alone; results are compared in passes.test.ts. */
import { expect, test } from "vitest";
import { parseKernel } from "../../../src/ir/kernel/parse.ts";
import { printKernel } from "../../../src/ir/kernel/print.ts";
import { runKernel } from "../../../src/ir/kernel/run.ts";
import { verifyKernel } from "../../../src/ir/kernel/verify.ts";
import { loadFours } from "../../../src/passes/kernel/fours.ts";
import { contentsOf, storageOf } from "../../arb/kernel.ts";

const bufs = `  read x: f32[24]
  readwrite y: f32[24]
  scratch readwrite s: f32[4]
`;

/** The body after the pass, which computes what it did. */
function passed(body: string): string {
  const before = parseKernel(`kernel k {\n${bufs}${body}\n}\n`);
  verifyKernel(before);
  const after = loadFours(before);
  verifyKernel(after);
  const contents = [0, 1].map((buf) => Array.from({ length: 24 }, (_, i) => Math.sin(i * 7 + buf)));
  const [a, b] = [storageOf(before, contents), storageOf(after, contents)];
  runKernel(before, a);
  runKernel(after, b);
  expect(contentsOf(after, b)).toEqual(contentsOf(before, a));
  return printKernel(after).split("\n").slice(4, -2).join("\n").replaceAll(/^ {2}/gm, "");
}

test("neighbours from a multiple of four on are loaded at once, wherever in the block they are read", () => {
  const body = `grid r in 0 .. 6 {
    let at = r * 4
    let a = x[at + 1] * x[at + 3]
    y[at] = a
    y[at + 1] = x[at] + x[2 + at] + x[at + 1]
  }`;
  expect(passed(body)).toMatchInlineSnapshot(`
    "grid r in 0 .. 6 {
      let at = r * 4
      let x_four = x[at]:4
      let a = lane1(x_four) * lane3(x_four)
      y[at] = a
      y[at + 1] = lane0(x_four) + lane2(x_four) + lane1(x_four)
    }"
  `);
});

test.each([
  ["three neighbours", "y[r * 4] = x[r * 4] + x[r * 4 + 1] + x[r * 4 + 2]"],
  ["neighbours that begin elsewhere", "y[r] = x[r * 4 + 1] + x[r * 4 + 2] + x[r * 4 + 3] + x[r * 4 + 4]"],
  ["elements of a buffer that is written", "for i in 0 .. 4 {\ns[i] = x[r + i]\n}\ny[r] = s[0] + s[1] + s[2] + s[3]"],
  [
    "one that is read only sometimes",
    "y[r] = x[r * 4] + x[r * 4 + 1] + x[r * 4 + 2] + select(r < 3, x[r * 4 + 3], 0.0)",
  ],
  ["an index that is a variable", "var i: i32 = 0\ny[r] = x[i] + x[i + 1]\ni = 4\ny[r] = x[i + 2] + x[i + 3]"],
])("not %s", (_what, inner) => {
  const body = `grid r in 0 .. 5 {\n${inner}\n}`;
  expect(passed(body)).not.toContain(":4");
});

test("what an index consists of is bound before", () => {
  const body = `grid r in 0 .. 6 {
    let at = r * 4
    y[at] = x[at]
    let near = r * 4
    y[near] = x[near] + x[near + 1] + x[near + 2] + x[near + 3]
  }`;
  expect(passed(body)).toContain("x[near]:4");
});
