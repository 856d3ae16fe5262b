/** Pairs of kernels written by hand: which may be one, at which extent, and why not. */
import { describe, expect, test } from "vitest";
import { Builder, type Node, nameOf } from "../../../src/ir/graph.ts";
import { parseKernel } from "../../../src/ir/kernel/parse.ts";
import { printKernel } from "../../../src/ir/kernel/print.ts";
import { globalBufs, gridLoop } from "../../../src/ir/kernel/walk.ts";
import { jsTarget } from "../../../src/ir/target.ts";
import type { DType } from "../../../src/ir/types.ts";
import { type Candidate, candidateOf } from "../../../src/passes/merge/candidate.ts";
import { mergePair } from "../../../src/passes/merge/merge-pair.ts";

/** Values by the names of the buffers that hold them. */
class Values {
  readonly #builder = new Builder();
  readonly #nodes = new Map<string, Node>();

  node(name: string, dtype: DType, size: number): Node {
    const known = this.#nodes.get(name) ?? this.#builder.param(name, dtype, [size]);
    this.#nodes.set(name, known);
    return known;
  }

  /** `replaces`: the buffer's name, and that of the value whose rows it updates. */
  candidate(text: string, replaces?: readonly [string, string]): Candidate {
    const kernel = parseKernel(text);
    // Global buffers have a storage dtype.
    const args = globalBufs(kernel).map(({ name, dtype, size }) => this.node(name, dtype as DType, size));
    const updated = replaces && ([this.#nodes.get(replaces[0])!, this.node(replaces[1], "f32", 64)] as const);
    return candidateOf({ kernel, args, replaces: new Map(updated ? [updated] : []) });
  }
}

const square = `kernel square {
  write y: f32[64]
  read x: f32[64]
  for i in 0 .. 64 {
    y[i] = x[i] * x[i]
  }
}
`;
/** Reads y, which \`square\` writes. */
const reading = (body: string, bufs = "write z: f32[64]") => `kernel second {
  ${bufs}
  read y: f32[64]
  ${body}
}
`;

function merge(
  second: string,
  { first = square, needed = ["z"] }: { first?: string; needed?: readonly string[] } = {},
) {
  const values = new Values();
  const [a, b] = [values.candidate(first), values.candidate(second)];
  return mergePair(a, b, { target: jsTarget, needed: (node) => needed.includes(nameOf(node) ?? "") });
}

/** The extent of what two kernels become; 1 is one iteration of everything. */
function extentOf(merged: Candidate | string): number | string {
  if (typeof merged === "string") return merged;
  return gridLoop(merged.lowered.kernel)?.to ?? 1;
}

describe("the largest extent at which what is read was stored by the same iteration", () => {
  test.each([
    ["element by element", reading("for j in 0 .. 64 {\n z[j] = y[j] + 1.0\n }"), 64],
    ["in groups", reading("grid g in 0 .. 8 {\n for j in 0 .. 8 {\n z[g * 8 + j] = y[g * 8 + (7 - j)]\n }\n }"), 8],
    [
      "a sum per group",
      reading(
        "grid g in 0 .. 8 {\n var s: f32 = 0.0\n for j in 0 .. 8 {\n s = s + y[g * 8 + j]\n }\n z[g] = s\n }",
        "write z: f32[8]",
      ),
      8,
    ],
    [
      "half reversed",
      reading("grid g in 0 .. 4 {\n for j in 0 .. 16 {\n z[g * 16 + j] = y[g * 16 + (15 - j)]\n }\n }"),
      4,
    ],
    // Small work may be one iteration, in which everything is in order.
    ["a stencil", reading("for j in 0 .. 64 {\n z[j] = y[max(j - 1, 0)]\n }"), 1],
    ["reversed", reading("for j in 0 .. 64 {\n z[j] = y[63 - j]\n }"), 1],
    [
      "a sum of all",
      reading("var s: f32 = 0.0\n for j in 0 .. 64 {\n s = s + y[j]\n }\n z[0] = s", "write z: f32[1]"),
      1,
    ],
    [
      "by data",
      reading("for j in 0 .. 64 {\n z[j] = y[min(max(ids[j], 0), 63)]\n }", "write z: f32[64]\n  read ids: i32[64]"),
      1,
    ],
  ])("%s", (_what, second, extent) => {
    expect(extentOf(merge(second))).toBe(extent);
  });
});

describe("never divided where iterations would meet", () => {
  /** The same with work enough that one iteration does not pay. */
  const heavy = (text: string) => text.replace("x[i] * x[i]", `x[i]${" + exp(x[i] * x[i])".repeat(300)}`);

  test.each([
    ["a stencil", "z[j] = y[max(j - 1, 0)]"],
    ["reversed", "z[j] = y[63 - j]"],
    ["by data", "z[j] = y[min(max(ids[j], 0), 63)]"],
    ["one element for all", "z[j] = y[5]"],
  ])("%s", (_what, body) => {
    const second = reading(
      `for j in 0 .. 64 {\n ${body}${" + sqrt(y[j])".repeat(300)}\n }`,
      "write z: f32[64]\n  read ids: i32[64]",
    );
    const merged = merge(second, { first: heavy(square) });
    expect(merged).toContain("an iteration would need what another computes: y[");
  });

  test("a matrix product does not join a norm of its result", () => {
    const product = `kernel product {
  write y: f32[64]
  read x: f32[4096]
  grid i in 0 .. 64 {
    var s: f32 = 0.0
    for j in 0 .. 4096 {
      s = s + x[j] * x[(j + i) % 4096]
    }
    y[i] = s
  }
}
`;
    const norm = reading(
      "var s: f32 = 0.0\n for j in 0 .. 64 {\n s = s + y[j]\n }\n for k in 0 .. 64 {\n z[k] = y[k] / s\n }",
    );
    expect(merge(norm, { first: product })).toContain("an iteration would need what another computes: y[");
  });
});

describe("what is updated in place", () => {
  const update = `kernel update {
  readwrite cache: f32[64]
  read slot: i32[1]
  let at = min(max(slot[0], 0), 63)
  cache[at] = 1.0
}
`;
  const context = { target: jsTarget, needed: () => true };

  test("is not read in its old state by the same launch", () => {
    const values = new Values();
    const a = values.candidate(reading("for j in 0 .. 64 {\n z[j] = y[j]\n }"));
    const b = values.candidate(update, ["cache", "y"]);
    expect(mergePair(a, b, context)).toContain("updates in place");
    expect(mergePair(b, a, context)).toContain("updates in place");
  });

  test("is read in its new state where all is one iteration", () => {
    const values = new Values();
    const a = values.candidate(update, ["cache", "y"]);
    const b = values.candidate(reading("for j in 0 .. 64 {\n z[j] = cache[j]\n }").replaceAll("read y", "read cache"));
    const merged = mergePair(a, b, context);
    expect(extentOf(merged)).toBe(1);
    expect(typeof merged !== "string" && [...merged.lowered.replaces.keys()].map(nameOf)).toEqual(["cache"]);
  });
});

test("what nothing else needs is scratch of one block", () => {
  const second = reading("grid g in 0 .. 8 {\n for j in 0 .. 8 {\n z[g * 8 + j] = y[g * 8 + (7 - j)]\n }\n }");
  const merged = merge(second);
  expect(typeof merged !== "string" && `\n${printKernel(merged.lowered.kernel)}`).toMatchInlineSnapshot(`
    "
    kernel square_to_second {
      write z: f32[64]
      read x: f32[64]
      scratch readwrite y: f32[8]
      grid i1 in 0 .. 8 {
        for i in 0 .. 8 {
          y[i1 * 8 + i - i1 * 8] = x[i1 * 8 + i] * x[i1 * 8 + i]
        }
        for j in 0 .. 8 {
          z[i1 * 8 + j] = y[i1 * 8 + (7 - j) - i1 * 8]
        }
      }
    }
    "
  `);
  const kept = merge(second, { needed: ["y", "z"] });
  expect(typeof kept !== "string" && kept.lowered.kernel.bufs.map(({ access, name }) => `${access} ${name}`)).toEqual([
    "readwrite y",
    "write z",
    "read x",
  ]);
});

test("neighbours that read the same value share the loop", () => {
  const other = square.replace("y[i] = x[i] * x[i]", "y[i] = abs(x[i])").replaceAll("y", "z").replace("square", "size");
  const merged = merge(other, { needed: ["y", "z"] });
  expect(extentOf(merged)).toBe(64);
  expect(typeof merged !== "string" && merged.lowered.args.map(nameOf)).toEqual(["y", "z", "x"]);
});
