/** Proofs that iterations stay in their own blocks, and the invariant K9 that rests on them. */
import { describe, expect, test } from "vitest";
import { touchedBlocks } from "../../../src/ir/kernel/blocks.ts";
import type { Kernel } from "../../../src/ir/kernel/kernel.ts";
import { parseKernel } from "../../../src/ir/kernel/parse.ts";
import { factsOf } from "../../../src/ir/kernel/range.ts";
import { verifyKernel } from "../../../src/ir/kernel/verify.ts";
import { gridLoop } from "../../../src/ir/kernel/walk.ts";

/** A kernel whose 8 iterations store element i of y and of z, 4 elements of each. */
function kernelOf(value: string, extra = ""): Kernel {
  return parseKernel(`kernel k {
  readwrite y: f32[32]
  readwrite z: f32[32]
  readwrite s: f32[8]
  read ids: i32[32]
  grid i in 0 .. 8 {
    ${extra}
    for j in 0 .. 4 {
      y[i * 4 + j] = 1.0
    }
    s[i] = 2.0
    for k in 0 .. 4 {
      z[i * 4 + k] = ${value}
    }
  }
}
`);
}

function outsideOf(kernel: Kernel): (string | undefined)[] {
  const touched = touchedBlocks(kernel.bufs, gridLoop(kernel)!.loop, factsOf(kernel));
  return ["y", "s"].map((name) => touched.get(name)?.outside);
}

describe("an access stays in the block of its iteration", () => {
  test.each([
    ["the element just stored", "y[i * 4 + k]"],
    ["another element of the block", "y[i * 4 + (3 - k)]"],
    ["the whole block", "y[i * 4] + y[i * 4 + 1] + y[i * 4 + 2] + y[i * 4 + 3]"],
    ["a scale per block, by a quotient", "s[(i * 4 + k) / 4]"],
    ["an element chosen inside the block", "y[i * 4 + min(max(ids[k], 0), 3)]"],
    ["a part known by a condition", "select(ids[k] >= 0 && ids[k] < 4, y[i * 4 + ids[k]], 0.0)"],
  ])("%s", (_what, value) => {
    const kernel = kernelOf(value);
    expect(outsideOf(kernel)).toEqual([undefined, undefined]);
    verifyKernel(kernel);
  });

  test("through a let", () => {
    expect(outsideOf(kernelOf("y[at + k]", "let at = i * 4"))).toEqual([undefined, undefined]);
  });
});

describe("an access may leave the block of its iteration", () => {
  test.each([
    ["a stencil", "y[max(i * 4 + k - 1, 0)]", "y"],
    ["the next block", "y[min(i * 4 + 4, 31)]", "y"],
    ["the reverse", "y[31 - (i * 4 + k)]", "y"],
    ["another block by data", "y[min(max(ids[k], 0), 31)]", "y"],
    ["the same element for all", "s[0]", "s"],
    ["a transposed element", "y[k * 8 + i]", "y"],
    ["one of all blocks", "s[k]", "s"],
    ["one element too far", "y[i * 4 + min(max(ids[k], 0), 3 + i / 7) % 32]", "y"],
  ])("%s", (_what, value, buf) => {
    const kernel = kernelOf(value);
    expect(outsideOf(kernel).filter((each) => each !== undefined)).toEqual([expect.stringContaining(`${buf}[`)]);
    expect(() => verifyKernel(kernel)).toThrow("K9");
  });
});

test("a loop in steps owns blocks of several elements, a vector its lanes", () => {
  const text = (index: string) => `kernel k {
  readwrite y: f32[16]
  write z: f32[16]
  grid i in 0 .. 16 step 4 {
    y[i] = splat4(1.0)
    z[i] = y[${index}]:4
  }
}
`;
  verifyKernel(parseKernel(text("i")));
  expect(() => verifyKernel(parseKernel(text("min(i + 1, 12)")))).toThrow("K9");
});

test("iterations in order may read each other's elements, and so may a grid of one", () => {
  const text = (loop: string) => `kernel k {
  readwrite y: f32[8]
  ${loop} {
    y[i] = y[max(i - 1, 0)] + 1.0
  }
}
`;
  verifyKernel(parseKernel(text("for i in 0 .. 8")));
  expect(() => verifyKernel(parseKernel(text("grid i in 0 .. 8")))).toThrow(
    "K9: iterations may meet at y[max(i - 1, 0)]",
  );
});

test("a block needs an equal share for each iteration", () => {
  const kernel = parseKernel(
    "kernel k {\n  readwrite y: f32[9]\n  grid i in 0 .. 8 {\n    y[i] = y[i] + 1.0\n  }\n}\n",
  );
  expect(() => verifyKernel(kernel)).toThrow("K9");
});
