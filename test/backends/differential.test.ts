/** Random programs on each backend against the interpreter: unoptimised, optimised without fusion, and in full. */
import fc from "fast-check";
import { afterAll, describe, it } from "vitest";
import { backendNames, type DeviceOptions, openDevice } from "../../src/compile.ts";
import { arbCase, compareWithInterpreter, modes } from "./random-programs.ts";

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
