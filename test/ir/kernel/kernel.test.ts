import fc from "fast-check";
import { expect, test } from "vitest";
import { parseKernel } from "../../../src/ir/kernel/parse.ts";
import { printKernel } from "../../../src/ir/kernel/print.ts";
import { runKernel } from "../../../src/ir/kernel/run.ts";
import { verifyKernel } from "../../../src/ir/kernel/verify.ts";
import { arbData, arbKernel, storageOf } from "../../arb/kernel.ts";

test("random kernels verify, run in bounds, print and parse back", () => {
  fc.assert(
    fc.property(arbKernel, arbData, (kernel, contents) => {
      verifyKernel(kernel);
      runKernel(kernel, storageOf(kernel, contents));
      expect(parseKernel(printKernel(kernel))).toEqual(kernel);
    }),
    { numRuns: 300 },
  );
});
