import fc from "fast-check";
import { expect, test } from "vitest";
import { compileKernel } from "../../../src/backends/js/emit.ts";
import { printKernel } from "../../../src/ir/kernel/print.ts";
import { runKernel } from "../../../src/ir/kernel/run.ts";
import { arbData, arbKernel, contentsOf, storageOf } from "../../arb/kernel.ts";

test("emitted JavaScript computes exactly what the executor does", () => {
  fc.assert(
    fc.property(arbKernel, arbData, (kernel, contents) => {
      const [a, b] = [storageOf(kernel, contents), storageOf(kernel, contents)];
      runKernel(kernel, a);
      const compiled = compileKernel(kernel);
      try {
        compiled.run(b);
        expect(contentsOf(kernel, b)).toEqual(contentsOf(kernel, a));
      } catch (error) {
        throw new Error(`${printKernel(kernel)}\n${compiled.source}\n${error}`);
      }
    }),
    { numRuns: 300 },
  );
});
