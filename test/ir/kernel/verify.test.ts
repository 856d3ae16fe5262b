import { expect, test } from "vitest";
import type { Kernel } from "../../../src/ir/kernel/kernel.ts";
import { num, ref } from "../../../src/ir/kernel/kernel.ts";
import { parseKernel } from "../../../src/ir/kernel/parse.ts";
import { assign, bind, loop, store } from "../../../src/ir/kernel/stmt.ts";
import { verifyKernel } from "../../../src/ir/kernel/verify.ts";

const bufs = `  read x: f32[8]
  read ids: i32[4]
  write y: f32[8]
  scratch readwrite s: f64[4]
`;
const kernel = (body: string): Kernel => parseKernel(`kernel k {\n${bufs}${body}\n}\n`);

test.each([
  ["a loop bound", "for i in 0 .. 8 {\n y[i] = x[i]\n}"],
  ["a step that overshoots the end", "for i in 0 .. 7 step 3 {\n y[i + 1] = x[i]\n}"],
  ["two loops", "for i in 0 .. 2 {\n for j in 0 .. 4 {\n y[i * 4 + j] = x[i * 4 + j]\n }\n}"],
  ["a quotient and remainder put together", "for i in 0 .. 7 {\n y[i / 3 * 3 + i % 3] = 0.0\n}"],
  ["the same through lets", "for i in 0 .. 7 {\n let a = i / 3\n let b = i % 3\n y[a * 3 + b] = 0.0\n}"],
  ["a clamp", "y[min(max(ids[0], 0), 7)] = 0.0"],
  ["an if", "let i = ids[0]\nif i >= 0 && i < 8 {\n y[i] = 0.0\n}"],
  ["an if on the load itself", "if ids[0] >= 0 && ids[0] < 8 {\n y[ids[0]] = 0.0\n}"],
  ["an else", 'let i = ids[0]\nif i < 0 || i > 7 {\n note ""\n} else {\n y[i] = 0.0\n}'],
  ["a named condition", "let i = ids[0]\nlet ok = i >= 0 && i < 2\nlet at = i * 4\nif ok {\n y[at + 3] = 0.0\n}"],
  ["a select", "let i = ids[0]\ny[0] = select(i >= 0 && i < 8, x[i], 0.0)"],
  [
    "a var with small values",
    "var best: i32 = 0\nfor i in 0 .. 8 {\n if x[i] > 0.5 {\n best = i\n }\n}\ny[best] = 1.0",
  ],
  ["an impossible branch", "for i in 0 .. 4 {\n if i > 5 {\n y[99] = 0.0\n }\n}"],
  [
    "bounds that all iterations of a workgroup have",
    "workgroup l in 0 .. 4 {\n combine n = add(l) over 4\n for i in 0 .. min(n, ids[0]) {\n barrier\n }\n}",
  ],
  ["a bound of data", "for i in 0 .. min(ids[0], 8) {\n y[i] = 0.0\n}"],
])("in bounds by %s", (_what, body) => {
  verifyKernel(kernel(body));
});

const outside = (name: string) => [bind("i", num("i32", 0)), assign(name, num("i32", 0))];
test.each<[string, string | Kernel]>([
  ["K1", { ...kernel(""), body: [store(kernel("").bufs[2]!, ref("i"), num("f32", 0))] }],
  ["K1", { ...kernel(""), body: outside("i") }],
  ["K1", { ...kernel(""), body: [loop("i", 0, 3, [bind("t", ref("i", "f32"))])] }],
  ["K2", "let a = 1\nfor a in 0 .. 2 {\n y[a] = 0.0\n}"],
  ["K2", "let x = 1"],
  ["K2", { ...kernel(""), body: [bind("for", num("i32", 0))] }],
  ["K2", { ...kernel(""), body: [bind("a b", num("i32", 0))] }],
  ["K3", "y[0] = 1"],
  ["K3", 'if 1 {\n note ""\n}'],
  ["K3", "var a: f32 = 1"],
  ["K3", 'for i in 0.0 .. 2 {\n note ""\n}'],
  ["K4", "x[0] = 1.0"],
  ["K4", "let a = y[0]"],
  ["K5", "y[8] = 0.0"],
  ["K5", "y[-1] = 0.0"],
  ["K5", "for i in 0 .. 9 {\n y[i] = 0.0\n}"],
  ["K5", "y[ids[0]] = 0.0"],
  ["K5", "let i = ids[0]\nif i < 8 {\n y[i] = 0.0\n}"],
  ["K5", "let i = ids[0]\nif i >= 0 || i < 8 {\n y[i] = 0.0\n}"],
  ["K5", "var i: i32 = ids[0]\nif i >= 0 && i < 8 {\n i = i + 8\n y[i] = 0.0\n}"],
  ["K5", "for i in 0 .. 2 {\n y[i * 2147483647] = 0.0\n}"],
  ["K5", "y[0] = 0.0\nlet v = x[6]:4"],
  ["K6", 'for i in 0 .. 4 step 0 {\n note ""\n}'],
  ["K6", 'vector i in 0 .. 6 step 4 {\n note ""\n}'],
  ["K6", "let v = x[0]:3"],
  ["K6", { ...kernel(""), bufs: [{ name: "d", dtype: "f64", size: 1, access: "read", space: "global" }] }],
  ["K7", "barrier"],
  ["K7", "workgroup i in 0 .. 2 {\n if i == 0 {\n barrier\n }\n}"],
  ["K7", "workgroup i in 0 .. 2 {\n for j in 0 .. i {\n barrier\n }\n}"],
  ["K7", "workgroup i in 0 .. 2 {\n for j in 0 .. ids[i] {\n combine a = add(j) over 2\n }\n}"],
  ["K7", "workgroup i in 0 .. 4 {\n combine a = add(i) over 8\n}"],
  ["K7", "workgroup i in 0 .. 6 {\n combine a = add(i) over 3\n}"],
  ["K7", "workgroup i in 0 .. 8 {\n combine a = add(i) over 4 apart 4\n}"],
  ["K7", "workgroup i in 0 .. 6 {\n combine a = add(i) over 2 apart 3\n}"],
  ["K7", "workgroup i in 1 .. 2 {\n barrier\n}"],
  ["K8", "var a: i32 = 0\nworkgroup i in 0 .. 2 {\n a = i\n}"],
  ["K8", "var a: i32 = 0\ngrid i in 0 .. 2 {\n a = i\n}"],
])("%s is found broken", (id, broken) => {
  expect(() => verifyKernel(typeof broken === "string" ? kernel(broken) : broken)).toThrow(`kernel k: ${id}: `);
});

test("scratch beyond the target's is refused", () => {
  verifyKernel(kernel(""), { scratchBytes: 32 });
  expect(() => verifyKernel(kernel(""), { scratchBytes: 31 })).toThrow("K6: scratch takes 32 bytes");
});

const product = (change: (text: string) => string) =>
  parseKernel(
    change(`kernel k {
  write y: i32[4]
  shared readwrite a: i8[64]
  shared readwrite b: i8[48]
  shared readwrite c: i32[16]
  workgroup l in 0 .. 4 {
    multiply c[0] step 4 = a[0] step 16 * b[l - l] step 16 size [4, 2, 16] by [2, 2, 16] from -3 over 4
    barrier
  }
}
`),
  );

test("a product of matrices in bounds", () => {
  verifyKernel(product((text) => text));
});

test.each<[string, (text: string) => string]>([
  ["K3", (text) => text.replace("a: i8", "a: u8")],
  ["K3", (text) => text.replace("c: i32", "c: u32")],
  ["K3", (text) => text.replace("shared readwrite a", "read a")],
  ["K5", (text) => text.replace("c[0]", "c[3]")],
  ["K5", (text) => text.replace("a[0]", "a[l]")],
  ["K6", (text) => text.replace("by [2", "by [3")],
  ["K6", (text) => text.replace("step 4 =", "step 1 =")],
  ["K6", (text) => text.replace("from -3", "from 0.5")],
  ["K6", (text) => text.replace("from -3", "from 4294967296")],
  ["K6", (text) => text.replace("size [4, 2, 16]", "size [4, 2, 0]")],
  ["K7", (text) => text.replace("over 4", "over 8")],
  ["K7", (text) => text.replace("over 4", "over 3")],
  ["K7", (text) => text.replace(/multiply.*/, (line) => `if l == 0 {\n${line}\n}`)],
])("%s is found broken by a product of matrices: %#", (id, change) => {
  expect(() => verifyKernel(product(change))).toThrow(`kernel k: ${id}: `);
});
