/** TensorFlow.js's engines on every op. */
import { prepareDevice } from "../../../src/compile.ts";
import { runBackendTests } from "../run-backend-tests.ts";

runBackendTests({ backend: "tfjs-cpu", open: () => prepareDevice("tfjs-cpu") });
runBackendTests({ backend: "tfjs-wasm", open: () => prepareDevice("tfjs-wasm") });
