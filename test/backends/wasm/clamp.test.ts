/** min and max of lanes with a constant, and what is cast after them: the executor's results for NaN, infinities and zeros of both signs. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { rulesFor } from "../../../src/backends/wasm/probe.ts";
import { parseKernel } from "../../../src/ir/kernel/parse.ts";
import { runKernel } from "../../../src/ir/kernel/run.ts";
import { compileKernel } from "./run-kernel.ts";

const special = [0, -0, 1, -1, 2, -2, Number.NaN, Infinity, -Infinity, 1e-40, -1e-40, 3e38];
const values = fc.array(fc.oneof(fc.constantFrom(...special), fc.float()), { minLength: 4, maxLength: 4 });
const clamps = (c: string) =>
  parseKernel(`kernel k {
  read x: f32[4]
  write y: f32[24]
  let c = splat4(${c})
  let d = c
  y[0] = max(x[0]:4, c)
  y[4] = min(x[0]:4, c)
  y[8] = max(c, x[0]:4)
  y[12] = min(splat4(${c}), x[0]:4)
  y[16] = min(max(x[0]:4, splat4(${c})), c)
  y[20] = max(x[0]:4, d)
}
`);

describe.each(["relaxed", "simd"])("on %s", (tier) => {
  test.each(["0.0", "-0.0", "1.0", "-2.5", "inf", "-inf", "NaN", "1e-40"])("with %s", (c) => {
    const kernel = clamps(c);
    const compiled = compileKernel(kernel, rulesFor(tier));
    const fast = !["0.0", "-0.0", "NaN"].includes(c);
    expect(compiled.source.includes("f32x4.pmax")).toBe(fast);
    expect(compiled.source.includes("f32x4.pmin")).toBe(fast);
    fc.assert(
      fc.property(values, (x) => {
        const data = () => [Float32Array.from(x), new Float32Array(24)];
        const [want, got] = [data(), data()];
        runKernel(kernel, want);
        compiled.run(got);
        expect([...got[1]!]).toEqual([...want[1]!]);
      }),
      { numRuns: 300, examples: [[special.slice(0, 4)], [special.slice(4, 8)], [special.slice(8)]] },
    );
  });

  test.each([
    ["min(max(x[0]:4, splat4(-127.0)), splat4(127.0))", true],
    ["max(min(splat4(2147483520.0), x[0]:4), splat4(-2147483520.0))", true],
    ["min(max(round(x[0]:4), splat4(0.0)), splat4(15.0))", true],
    ["min(max(x[0]:4, splat4(-127.0)), splat4(2147483648.0))", false],
    ["max(x[0]:4, splat4(-127.0))", false],
    ["max(max(x[0]:4, splat4(-127.0)), splat4(0.0))", false],
  ])("integers of %s", (value, fits) => {
    const kernel = parseKernel(`kernel k {\n  read x: f32[4]\n  write y: i32[4]\n  y[0] = i32(${value})\n}\n`);
    const compiled = compileKernel(kernel, rulesFor(tier));
    expect(compiled.source.includes("i32x4.relaxed_trunc_f32x4_s")).toBe(fits && tier === "relaxed");
    fc.assert(
      fc.property(values, (x) => {
        const data = () => [Float32Array.from(x), new Int32Array(4)];
        const [want, got] = [data(), data()];
        runKernel(kernel, want);
        compiled.run(got);
        expect([...got[1]!]).toEqual([...want[1]!]);
      }),
      { numRuns: 300, examples: [[special.slice(0, 4)], [special.slice(4, 8)], [special.slice(8)]] },
    );
  });
});
