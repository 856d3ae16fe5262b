import fc from "fast-check";
import { expect, test } from "vitest";
import { IrError } from "../../../src/ir/errors.ts";
import { num } from "../../../src/ir/kernel/kernel.ts";
import { parseKernel } from "../../../src/ir/kernel/parse.ts";
import { printExpr, printKernel } from "../../../src/ir/kernel/print.ts";

const linear = `kernel linear from "%2: f32[1,4] = contract %0, %1" {
  read x: f32[8] // f32[1,8]
  read w: bf16[32] // bf16[4,8]
  write y: f32[4]
  scratch readwrite t: f64[2]
  shared readwrite part: f32[4]
  shared readwrite codes: i8[64]
  shared readwrite sums: i32[4]
  grid n in 0 .. 4 step 2 {
    note "two \\"rows\\""
    var sum: f64 = 0.0:f64
    for k in 0 .. 8 {
      sum = sum + f64(x[k]) * f64(w[(n - 1) * 8 + k])
    }
    if n > 1 && sum >= 0.5:f64 || n - 3 == -2147483648 {
      y[n] = f32(sum)
    } else {
      y[n] = select(n < 2, -0.0, max(x[n], 1e-7))
    }
    let v = splat4(0.1)
    let s = sum(v * x[0]:4) - lane2(v)
    let u = 3:u32 % 2147483648:u32
  }
  workgroup l in 0 .. 4 {
    part[l] = x[l]
    barrier
    combine total = add(part[3 - l]) over 4
    combine most = max(total) over 2 apart 2
    multiply sums[0] step 2 = codes[0] step 16 * codes[l / 4 * 32] step 16 size [2, 2, 16] by [1, 2, 8] from -7 over 4
  }
}
`;

test("the text of a kernel reads back to the same text", () => {
  const kernel = parseKernel(linear);
  expect(printKernel(kernel)).toBe(linear.replace("3:u32 % 2147483648:u32", "3:u32"));
  expect(parseKernel(printKernel(kernel))).toEqual(kernel);
});

test("numbers are printed with the fewest digits that read back", () => {
  const show = (value: number) => printExpr(num("f32", value));
  expect([0.1, -0, 0, NaN, -Infinity, 16777216, 1e-40].map(show)).toEqual(
    "0.1 -0.0 0.0 NaN -inf 16777216.0 1e-40".split(" "),
  );
});

test.each([
  ["kernel", "line 1", "expected a name"],
  ["kernel k {\n  y[0] = 1\n}\n", "line 2", "unknown buffer y"],
  ["kernel k {\n  read x: f33[4]\n}\n", "line 2", "unknown storage type f33"],
  ["kernel k {\n  let a = 1 + 2.0\n}\n", "line 2", "operands of one type"],
  ["kernel k {\n  let a = 1 + b\n}\n", "line 2", "unknown name b"],
  ["kernel k {\n  let a = sqr(1.0)\n}\n", "line 2", "unknown function sqr|does not take"],
  ["kernel k {\n  let a = 4294967296\n}\n", "line 2", "is no i32"],
  ["kernel k {\n  let a = $\n}\n", "line 2", "unexpected character"],
  ["kernel k {\n  let a = 1 let b = 2\n}\n", "line 2", "line's end"],
  ["kernel k {\n  for i in 0 .. 4 {\n", "line 3", "expected"],
  [`kernel k {\n  let a = ${"(".repeat(5000)}1\n}\n`, "line 2", "nest deeper"],
  [`kernel k {\n${"  if true {\n".repeat(5000)}`, "line", "nest deeper"],
])("a fault in the text is an error with its line: %#", (text, line, what) => {
  try {
    parseKernel(text);
    expect.unreachable();
  } catch (error) {
    expect(error).toBeInstanceOf(IrError);
    expect(String(error)).toContain(line);
    expect(String(error)).toMatch(new RegExp(what));
  }
});

test("mutated texts parse or give an IrError", () => {
  const tokens = linear.split(/(\s+|\b)/);
  const arb = fc.array(fc.tuple(fc.nat(tokens.length - 1), fc.constantFrom(...tokens, "", "99999999999", "\\", "\0")), {
    maxLength: 4,
  });
  fc.assert(
    fc.property(arb, (edits) => {
      const mutated = [...tokens];
      for (const [i, token] of edits) mutated[i] = token;
      try {
        parseKernel(mutated.join(""));
      } catch (error) {
        expect(error).toBeInstanceOf(IrError);
      }
    }),
    { numRuns: 2000 },
  );
});

test("a load of bytes needs a buffer of bytes", () => {
  const text = (dtype: string) => `kernel k {\n  read x: ${dtype}[16]\n  let a = x[0]:${dtype}x4\n}\n`;
  expect(() => parseKernel(text("f32"))).toThrow(IrError);
  expect(() => parseKernel(text("i8"))).not.toThrow();
});
