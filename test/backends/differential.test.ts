/** Random programs on each backend against the interpreter: unoptimised, optimised without fusion, and in full. */
import fc from "fast-check";
import { afterAll, describe, it } from "vitest";
import { openWasm } from "../../src/backends/wasm/device.ts";
import { backendNames, type CompileOptions, compile, type Device, openDevice } from "../../src/compile.ts";
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

const gibibyte = 2 ** 30;
const devices: readonly (readonly [string, () => Device])[] = [
  ...backendNames.map((name) => [name, () => openDevice(name)] as const),
  ["wasm without relaxed SIMD", () => openDevice("wasm", { tier: "simd" })],
  // However small a launch is, it is shared.
  ["wasm on 2 threads", () => openWasm({ threads: 2 }, { smallest: 1 })],
  // Addresses that do not fit in 32 bits.
  ["wasm beyond 4 GiB", () => openWasm({}, { narrowBytes: 0, start: 5 * gibibyte })],
];
const cases = devices.flatMap(([device, open]) =>
  Object.entries(modes).map(([mode, options]) => ({ device, open, mode, options })),
);

describe.each(cases)("$device, $mode", ({ open, options }) => {
  const device = open();
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
