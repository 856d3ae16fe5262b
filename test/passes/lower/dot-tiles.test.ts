/** Products of codes for many tokens, lowered for GPUs, against the interpreter; in the executor that finds races. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { interpret } from "../../../src/ir/interpret.ts";
import { printKernel } from "../../../src/ir/kernel/print.ts";
import { leastWebGpu, webgpuTargetOf } from "../../../src/ir/target.ts";
import { runLowered } from "../lowered.ts";
import { expertsModule, inputsOf, productModule } from "./products.ts";

const { binding } = leastWebGpu;
const limits = fc.constantFrom(
  { invocations: 256, sharedBytes: 49152, buffers: 8, binding },
  { invocations: 256, sharedBytes: 16384, buffers: 8, binding },
  { invocations: 32, sharedBytes: 16384, buffers: 8, binding },
);
/** As an NVIDIA GPU and an Intel GPU list them, and what suits a subgroup of four. */
const matrices = fc.constantFrom(
  { subgroup: 32, sizes: [{ m: 16, n: 16, k: 32 }] },
  { subgroup: 16, sizes: [{ m: 8, n: 16, k: 32 }] },
  { subgroup: 4, sizes: [{ m: 16, n: 8, k: 16 }] },
);

const arbSizes = {
  blocks: fc.constantFrom(1, 3, 8, 9),
  groups: fc.constantFrom(1, 2, 3, 4, 8),
  bits: fc.constantFrom<4 | 8>(4, 8),
  affine: fc.boolean(),
};

test("products of many tokens", () => {
  const lead = fc.constantFrom([16], [17], [32], [2, 20], [64], [70]);
  fc.assert(
    fc.property(fc.record({ lead, ...arbSizes, epilogue: fc.boolean() }), limits, fc.nat(), (product, given, seed) => {
      const module = productModule(product);
      const inputs = inputsOf(module, seed);
      const { results } = runLowered(module, inputs, { target: webgpuTargetOf(given) });
      expect(results.map(({ data }) => [...data])).toEqual(interpret(module, inputs).map(({ data }) => [...data]));
    }),
    { numRuns: 12 },
  );
});

test("the same by matrix units", () => {
  const lead = fc.constantFrom([16], [17], [2, 20], [70]);
  const sizes = fc.record({ lead, ...arbSizes, epilogue: fc.boolean() });
  fc.assert(
    fc.property(sizes, limits, matrices, fc.nat(), (product, given, units, seed) => {
      const module = productModule(product);
      const inputs = inputsOf(module, seed);
      const target = webgpuTargetOf({ ...given, matrices: units });
      const { results, kernels } = runLowered(module, inputs, { target });
      expect(kernels.map(({ kernel }) => printKernel(kernel)).join()).toContain("multiply tile_sums");
      expect(results.map(({ data }) => [...data])).toEqual(interpret(module, inputs).map(({ data }) => [...data]));
    }),
    { numRuns: 12 },
  );
});

test("products of many tokens with the experts that they chose", () => {
  const lead = fc.constantFrom([8], [9, 2], [40], [30, 2]);
  fc.assert(
    fc.property(
      fc.record({ lead, ...arbSizes }),
      limits,
      fc.option(matrices),
      fc.nat(),
      (product, given, units, seed) => {
        const module = expertsModule(product);
        const inputs = inputsOf(module, seed);
        const { results, kernels } = runLowered(module, inputs, {
          target: webgpuTargetOf({ ...given, matrices: units }),
        });
        expect(kernels.map(({ kernel }) => printKernel(kernel)).join()).toContain("that chose an expert");
        expect(results.map(({ data }) => [...data])).toEqual(interpret(module, inputs).map(({ data }) => [...data]));
      },
    ),
    { numRuns: 12 },
  );
});
