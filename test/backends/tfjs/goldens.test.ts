/** The models on TensorFlow.js, op by op, against what Hugging Face transformers computes. */
import { testGolden, testTinyDeepseek } from "../../models/golden-runs.ts";
import { goldenNames } from "../../models/read-golden.ts";

for (const backend of ["tfjs-cpu", "tfjs-wasm"]) {
  for (const name of goldenNames) testGolden(backend, name);
  testTinyDeepseek(backend);
}
