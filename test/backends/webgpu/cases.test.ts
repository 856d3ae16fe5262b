/** The WebGPU backend on every op, on a software driver. */
import { describe } from "vitest";
import { runBackendTests } from "../run-backend-tests.ts";
import { hasGpu, openGpu } from "./gpu.ts";

const skip = [
  {
    reason: "devices may assume that there are no NaN and infinities, of which integers are made here",
    cases: [
      "groupScales of i8, values that are no numbers and zeros",
      "quantizeGroups to i8, values and scales that are no numbers and zeros",
    ],
  },
];

describe.skipIf(!hasGpu)("with a driver", () => {
  runBackendTests({ backend: "webgpu", open: openGpu, skip, finiteOnly: true, flushes: true });
});
