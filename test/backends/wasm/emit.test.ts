import fc from "fast-check";
import { expect, test } from "vitest";
import { printKernel } from "../../../src/ir/kernel/print.ts";
import { runKernel } from "../../../src/ir/kernel/run.ts";
import { ulpDistance } from "../../arb/compare.ts";
import { arbData, arbKernel, contentsOf, storageOf } from "../../arb/kernel.ts";
import { compileKernel } from "./run-kernel.ts";

/** Equal, or the last bit of an f32 off: exp and the like are within 2 units of a double, not correctly rounded. */
function near(a: number, b: number): boolean {
  return Object.is(a, b) || ulpDistance(a, b) <= 1;
}

test("emitted WebAssembly computes what the executor does", () => {
  fc.assert(
    fc.property(arbKernel, arbData, (kernel, contents) => {
      const [a, b] = [storageOf(kernel, contents), storageOf(kernel, contents)];
      runKernel(kernel, a);
      const compiled = compileKernel(kernel);
      try {
        compiled.run(b);
        const [want, got] = [contentsOf(kernel, a), contentsOf(kernel, b)];
        const same = want.every((values, i) => values.every((value, j) => near(got[i]![j]!, value)));
        if (!same) expect(got).toEqual(want);
      } catch (error) {
        throw new Error(`${printKernel(kernel)}\n${compiled.source}\n${error}`);
      }
    }),
    { numRuns: 300 },
  );
});
