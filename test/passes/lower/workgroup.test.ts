/** Lowering for GPUs against the interpreter, in the executor that finds races between the iterations of a workgroup. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { isOp, type Module, topoOrder } from "../../../src/ir/graph.ts";
import { interpret } from "../../../src/ir/interpret.ts";
import { printKernel } from "../../../src/ir/kernel/print.ts";
import { printModule } from "../../../src/ir/print.ts";
import { leastWebGpu, webgpuTarget, webgpuTargetOf } from "../../../src/ir/target.ts";
import type { Tensor } from "../../../src/ir/tensor.ts";
import { close, type Limits } from "../../arb/compare.ts";
import { arbInputs } from "../../arb/inputs.ts";
import { type Build, inputsOf, moduleOf } from "../../arb/module-of.ts";
import { arbModule } from "../../arb/program.ts";
import { opCases } from "../../backends/cases.ts";
import { lowerModule, runLowered } from "../lowered.ts";

/** Sums are kept in f32, in another order than the interpreter's in double. */
const limits: Limits = { ulp: 512, absolute: 1e-5, finiteOnly: true };
const target = webgpuTarget;

function check(
  module: Module,
  inputs: readonly Tensor[] = inputsOf(module.funcs.get("main")!),
  tolerance = limits,
): void {
  const expected = interpret(module, inputs);
  for (const options of [{ optimize: false, fuse: false, target }, { target }]) {
    try {
      close(runLowered(module, inputs, options).results, expected, tolerance);
    } catch (error) {
      const text = lowerModule(module, options).kernels.map(({ kernel }) => printKernel(kernel));
      throw new Error([error, printModule(module), ...text].join("\n"));
    }
  }
}

describe("op cases", () => {
  const plain = opCases.filter(({ module }) =>
    topoOrder(module.funcs.get("main")!.outs).every((node) => !isOp(node, "weight") && !isOp(node, "call")),
  );
  test.each(plain.map((each) => [each.name, each] as const))("%s", (_, { module, inputs, tolerance }) => {
    check(module, inputs, { absolute: 0, ...tolerance });
  });
});

test("random programs", () => {
  const given = { finite: true, without: ["dotGroups" as const] };
  fc.assert(
    fc.property(
      arbModule(given).chain((module) => arbInputs(module, given).map(({ inputs }) => ({ module, inputs }))),
      ({ module, inputs }) => {
        const main = module.funcs.get("main")!;
        if (module.funcs.size > 1 || topoOrder(main.outs).some((node) => isOp(node, "weight"))) return;
        check(module, inputs);
      },
    ),
    { numRuns: 100 },
  );
});

const attention =
  ({ sequences = 2, ...of }: Attention): Build =>
  (m, p) =>
    m.attention(
      p("q", "f32", of.tokens, of.heads, of.d),
      p("k", "f32", sequences, of.keys, of.groups, of.d),
      p("v", "f32", sequences, of.keys, of.groups, of.e),
      m.add(p("t", "i32", of.tokens), of.keys - 10),
      p("b", "i32", of.tokens),
      0.5,
    );

interface Attention {
  readonly sequences?: number;
  readonly tokens: number;
  readonly heads: number;
  readonly groups: number;
  readonly keys: number;
  readonly d: number;
  readonly e: number;
}

const contract = (axes: string, x: readonly number[], y: readonly number[]): [string, Build] => [
  `contract ${axes} of [${x}] and [${y}]`,
  (m, p) => m.silu(m.contract(axes, p("x", "f32", ...x), p("y", "f32", ...y))),
];
test.each<[string, Build]>([
  contract("n i, o i -> n o", [1, 70], [9, 70]),
  contract("n i, o i -> n o", [3, 64], [130, 64]),
  contract("n i, o i -> n o", [6, 40], [7, 40]),
  contract("n i, o i -> n o", [17, 19], [18, 19]),
  contract("n i, i o -> o n", [33, 16], [16, 34]),
  contract("n h d, h r d -> n h r", [20, 2, 33], [2, 21, 33]),
  contract("b n i, b o i -> b n o", [2, 16, 8], [2, 16, 8]),
  contract("n a b, o a b -> n o", [2, 6, 8], [5, 6, 8]),
  ["a norm of long rows", (m, p) => m.rmsNorm(p("x", "f32", 3, 70), p("w", "f32", 70), 1e-6)],
  ["softmax of long rows", (m, p) => m.softmax(p("x", "f32", 2, 3, 50))],
  ["sums of long rows", (m, p) => m.reduceSum(m.exp(p("x", "f32", 3, 80)))],
  ["a sum of all", (m, p) => m.reduceMax(m.reduceSum(p("x", "f32", 40, 33)))],
  ["top-k of long rows", (m, p) => m.topKIndices(p("x", "f32", 2, 70), 5)],
  ["the same values", (m, p) => m.topKValues(m.softmax(p("x", "f32", 2, 70)), 5)],
  [
    "updates of rows that are normalised",
    (m, p) =>
      m.updateRows(
        p("x", "f32", 5, 40),
        m.rmsNorm(p("rows", "f32", 4, 40), p("w", "f32", 40), 1e-6),
        p("slots", "i32", 4),
      ),
  ],
  ["attention over several tiles of keys", attention({ tokens: 2, heads: 4, groups: 2, keys: 150, d: 9, e: 7 })],
  [
    "attention whose columns some invocations have and others not",
    attention({ tokens: 2, heads: 4, groups: 2, keys: 70, d: 9, e: 16 }),
  ],
  [
    "attention with as many columns as invocations have",
    attention({ tokens: 1, heads: 2, groups: 1, keys: 150, d: 9, e: 128 }),
  ],
  ["attention of many tokens", attention({ sequences: 1, tokens: 9, heads: 2, groups: 1, keys: 40, d: 8, e: 8 })],
  [
    "attention of many tokens of several sequences, more columns than invocations",
    attention({ tokens: 16, heads: 1, groups: 1, keys: 12, d: 4, e: 68 }),
  ],
  [
    "attention with keys so long that invocations share them",
    attention({ tokens: 2, heads: 4, groups: 2, keys: 150, d: 45, e: 7 }),
  ],
])("%s", (_, build) => {
  check(moduleOf(build));
});

test.each<[string, Build]>([
  ["of fours", attention({ tokens: 1, heads: 4, groups: 2, keys: 300, d: 16, e: 16 })],
  ["with fours left over", attention({ tokens: 2, heads: 2, groups: 1, keys: 140, d: 36, e: 32 })],
  ["with more values than registers", attention({ tokens: 1, heads: 1, groups: 1, keys: 150, d: 8, e: 512 })],
  [
    "of tokens that see few keys or none",
    (m, p) =>
      m.attention(
        p("q", "f32", 6, 2, 8),
        p("k", "f32", 2, 9, 1, 8),
        p("v", "f32", 2, 9, 1, 16),
        p("t", "i32", 6),
        p("b", "i32", 6),
        0.5,
      ),
  ],
])("attention by teams, %s", (_, build) => {
  const module = moduleOf(build);
  check(module);
  const texts = lowerModule(module, { target }).kernels.map(({ kernel }) => printKernel(kernel));
  expect(texts.join()).toContain("invocations a key");
});

/** What the largest GPUs offer. */
const large = webgpuTargetOf({ ...leastWebGpu, invocations: 1024, sharedBytes: 49152, buffers: 16 });
test.each([
  [64, 4, webgpuTarget],
  [1536, 4, webgpuTarget],
  [1536, 8, large],
  [2240, 4, large],
] as const)("a product of %i codes of %i bits quantises its input itself", (length, bits, on) => {
  const [groups, rows] = [length / 32, 16];
  const block = 32 / bits;
  const module = moduleOf((m, p) => {
    const x = m.silu(p("x", "f32", 1, length));
    const scales = m.groupScales(x, { group: 32, to: "i8", method: "range" });
    const codes = m.quantizeGroups(x, [scales], "i8", 32);
    const sums = m.reduceSum(m.reshape(m.cast(codes, "f32"), [1, groups, 32]));
    const packed = p("w", "u8", rows / block, groups, 8 / block, block, 16);
    const ofRows = p("s", "f16", rows / block, groups, block);
    const ins = [codes, scales, sums, packed, ofRows];
    return m.builder.make("dotGroups", ins, { bits, zero: bits === 8 ? 128 : 8 });
  });
  const inputs = inputsOf(module.funcs.get("main")!);
  const { kernels } = lowerModule(module, { target: on });
  expect(kernels.length).toBe(1);
  // The values reach thousands.
  const found = runLowered(module, inputs, { target: on }).results;
  close(found, interpret(module, inputs), { ulp: 4096, absolute: 0.01, finiteOnly: true });
});

test("kernels use workgroups where there is work for them", () => {
  const [, build] = contract("n i, o i -> n o", [1, 70], [9, 70]);
  const { kernels } = lowerModule(moduleOf(build), { target });
  expect(kernels.map(({ kernel }) => printKernel(kernel)).join("\n")).toMatchInlineSnapshot(`
    "kernel mul from "contract f32[1,9]", "sigmoid f32[1,9]", "mul f32[1,9]" {
      write out: f32[9] // f32[1,9]
      read y: f32[630] // f32[9,70]
      read x: f32[70] // f32[1,70]
      note "tile: 1 by 8 rows, 32 invocations a row, 1 elements at once"
      grid r in 0 .. 9 step 8 {
        workgroup lane in 0 .. 256 {
          let row = r + lane / 32
          let start = lane % 32
          let inside = min(max(row, 0), 8)
          var acc: f32 = 0.0
          let y_base = inside * 70
          for j in start .. 70 step 32 {
            let b = y[y_base + j]
            acc = acc + x[j] * b
          }
          combine total = add(acc) over 32
          if start == 0 && row < 9 {
            out[inside] = total * sigmoid(total)
          }
        }
      }
    }
    "
  `);
});
