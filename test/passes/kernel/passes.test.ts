import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Kernel } from "../../../src/ir/kernel/kernel.ts";
import { printKernel } from "../../../src/ir/kernel/print.ts";
import { runKernel } from "../../../src/ir/kernel/run.ts";
import { verifyKernel } from "../../../src/ir/kernel/verify.ts";
import { loadFours } from "../../../src/passes/kernel/fours.ts";
import { hoistInvariants } from "../../../src/passes/kernel/hoist.ts";
import { simplifyIndices } from "../../../src/passes/kernel/indices.ts";
import { splitLoops } from "../../../src/passes/kernel/split.ts";
import { arbData, arbKernel, contentsOf, storageOf } from "../../arb/kernel.ts";

const passes: Record<string, (kernel: Kernel) => Kernel> = {
  simplifyIndices,
  hoistInvariants,
  splitLoops,
  loadFours,
  both: (kernel) => hoistInvariants(simplifyIndices(kernel)),
  twice: (kernel) => simplifyIndices(hoistInvariants(simplifyIndices(hoistInvariants(kernel)))),
};

describe.each(Object.entries(passes))("%s", (_name, pass) => {
  test("changes no result, and its kernel still verifies", () => {
    fc.assert(
      fc.property(arbKernel, arbData, (kernel, contents) => {
        const after = pass(kernel);
        verifyKernel(after);
        const [a, b] = [storageOf(kernel, contents), storageOf(kernel, contents)];
        runKernel(kernel, a);
        try {
          runKernel(after, b);
          expect(contentsOf(kernel, b)).toEqual(contentsOf(kernel, a));
        } catch (error) {
          throw new Error(`${printKernel(kernel)}\n${printKernel(after)}\n${error}`);
        }
      }),
      { numRuns: 300 },
    );
  });
});
