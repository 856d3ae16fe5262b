/** All ops as TensorFlow graphs: the bytes that are written are decoded and run in plain loops. */

import { graphTargetOf } from "../../../src/backends/tfjs/graph-backend.ts";
import { openGraphDevice } from "../../../src/backends/tfjs/graph-device.ts";
import { runBackendTests } from "../run-backend-tests.ts";
import { interpretedHost } from "./interpreted-host.ts";
import { noUnsigned } from "./skipped.ts";

runBackendTests({
  backend: "TensorFlow graphs",
  open: async () => openGraphDevice(graphTargetOf("tensorflow"), interpretedHost()),
  skip: [noUnsigned],
});
