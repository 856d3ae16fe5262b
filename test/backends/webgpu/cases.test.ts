/** The WebGPU backend on every op, on a software driver. */
import { describe } from "vitest";
import { runBackendTests } from "../run-backend-tests.ts";
import { hasGpu, openGpu } from "./gpu.ts";

describe.skipIf(!hasGpu)("with a driver", () => {
  runBackendTests({ backend: "webgpu", open: openGpu, finiteOnly: true, flushes: true });
});
