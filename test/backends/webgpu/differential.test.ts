/** Random programs on WebGPU against the interpreter. */
import fc from "fast-check";
import { afterAll, beforeAll, describe, it } from "vitest";
import type { Device } from "../../../src/compile.ts";
import { arbCase, compareWithInterpreter, modes } from "../random-programs.ts";
import { hasGpu, openGpu } from "./gpu.ts";

describe.skipIf(!hasGpu).each(Object.entries(modes))("webgpu, %s", (_, options) => {
  let device: Device;
  beforeAll(async () => {
    device = await openGpu();
  });
  afterAll(() => device.close());

  it("computes what the interpreter computes on random programs", async () => {
    await fc.assert(
      // As on other backends; that devices may take NaN and infinities as absent and flush subnormals is WGSL's rule.
      fc.asyncProperty(arbCase({ finite: true, without: ["dotGroups"] }), ({ module, given }) =>
        compareWithInterpreter(device, module, given, options, { finiteOnly: true, flushes: true }),
      ),
      { numRuns: 40 },
    );
  });
});
