/** Random programs on TensorFlow.js against the interpreter. */
import fc from "fast-check";
import { afterAll, beforeAll, describe, it } from "vitest";
import { type Device, prepareDevice } from "../../../src/compile.ts";
import { arbCase, compareWithInterpreter, modes } from "../random-programs.ts";
import { hasUnsigned } from "./skipped.ts";

const arbProgram = arbCase({ finite: true, without: ["dotGroups"] }).filter(({ module }) => !hasUnsigned(module));

describe.each(["tfjs-cpu", "tfjs-wasm"])("%s", (backend) => {
  let device: Device;
  beforeAll(async () => {
    device = await prepareDevice(backend);
  });
  afterAll(() => device.close());

  // Fusion is nothing to it, so the second mode would be the third.
  it.each(["NOOPT: expand, legalize, lower", "optimised and fused"])("computes random programs, %s", async (mode) => {
    await fc.assert(
      fc.asyncProperty(arbProgram, ({ module, given }) => compareWithInterpreter(device, module, given, modes[mode]!)),
      { numRuns: 150 },
    );
  });
});
