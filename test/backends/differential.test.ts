/** Random programs on each backend against the interpreter: unoptimised, optimised without fusion, and in full. */
import fc from "fast-check";
import { afterAll, describe, it } from "vitest";
import {
  backendNames,
  type CompileOptions,
  compile,
  type Device,
  type DeviceOptions,
  openDevice,
} from "../../src/compile.ts";
import type { Module } from "../../src/ir/graph.ts";
import { interpret } from "../../src/ir/interpret.ts";
import { printModule } from "../../src/ir/print.ts";
import { close } from "../arb/compare.ts";
import { arbInputs, type Inputs } from "../arb/inputs.ts";
import { arbModule } from "../arb/program.ts";

const modes: Record<string, CompileOptions> = {
  "NOOPT: expand, legalize, lower": { optimize: false },
  "optimised, a kernel for every op": { optimize: true, fuse: false },
  "optimised and fused": {},
};

/** A random module with inputs and weights. */
function arbCase(options: Parameters<typeof arbModule>[0]): fc.Arbitrary<{ module: Module; given: Inputs }> {
  return arbModule(options).chain((module) => arbInputs(module, options).map((given) => ({ module, given })));
}

async function compareWithInterpreter(
  device: Device,
  module: Module,
  { inputs, weights }: Inputs,
  options: CompileOptions,
): Promise<void> {
  const expected = interpret(module, inputs, { weights });
  try {
    const actual = await compile(module, device, { ...options, verify: 1 }).run(inputs, weights);
    // Sums are kept in double on both sides, but expanded composites round between their steps: softmax and attention
    // have five roundings of relative size 2^-24 each, amplified where a score differs from the largest by up to 2^6.
    close(actual, expected, { ulp: 512, absolute: 1e-5, finiteOnly: options.optimize !== false });
  } catch (error) {
    throw new Error(`${error instanceof Error ? error.stack : error}\n${printModule(module)}`);
  }
}

const devices: readonly (readonly [string, string, DeviceOptions])[] = [
  ...backendNames.map((name) => [name, name, {}] as const),
  ["wasm without relaxed SIMD", "wasm", { tier: "simd" }],
  ["wasm on 2 threads", "wasm", { threads: 2 }],
];
const cases = devices.flatMap(([device, backend, deviceOptions]) =>
  Object.entries(modes).map(([mode, options]) => ({ device, backend, deviceOptions, mode, options })),
);

describe.each(cases)("$device, $mode", ({ backend, deviceOptions, options }) => {
  const device = openDevice(backend, deviceOptions);
  afterAll(() => device.close());

  it("computes what the interpreter computes on random programs", async () => {
    await fc.assert(
      // Sums of codes reach 2^20, so that cancelling groups leave more than this comparison allows: see the op cases.
      fc.asyncProperty(arbCase({ finite: true, without: ["dotGroups"] }), ({ module, given }) =>
        compareWithInterpreter(device, module, given, options),
      ),
      { numRuns: 300 },
    );
  });
});
