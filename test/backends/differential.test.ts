/** Random programs on each backend against the interpreter: unoptimised, optimised without fusion, and in full. */
import fc from "fast-check";
import { afterAll, describe, it } from "vitest";
import { openWasm } from "../../src/backends/wasm/device.ts";
import { backendNames, type Device, openDevice } from "../../src/compile.ts";
import { arbCase, compareWithInterpreter, modes } from "./random-programs.ts";

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
