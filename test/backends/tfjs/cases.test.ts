/** TensorFlow.js's engines on every op. */
import { prepareDevice } from "../../../src/compile.ts";
import { runBackendTests } from "../run-backend-tests.ts";
import { noUnsigned } from "./skipped.ts";

runBackendTests({ backend: "tfjs-cpu", open: () => prepareDevice("tfjs-cpu"), skip: [noUnsigned] });
runBackendTests({
  backend: "tfjs-wasm",
  open: () => prepareDevice("tfjs-wasm"),
  // Its kernels for min, max and pow take numbers as they compare, without a case for NaN.
  finiteOnly: true,
  skip: [noUnsigned, { reason: "large angles are reduced in f32, 3.4e38 among them", cases: ["sin f32", "cos f32"] }],
});
