/** The compiled models on every backend against what Hugging Face transformers computes. */
import { backendNames } from "../../src/compile.ts";
import { testGolden, testTinyDeepseek } from "./golden-runs.ts";
import { goldenNames } from "./read-golden.ts";

for (const backend of backendNames) {
  for (const name of goldenNames) testGolden(backend, name);
  testTinyDeepseek(backend);
}
