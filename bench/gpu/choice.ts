/** All backends on one model, and whether the probe's choice is the fastest; opens the GPU as `loadModel` does. */
import { measureChoice } from "../choice.ts";
import type { Mode } from "./mode.ts";

export const choiceMode: Mode = {
  name: "choice",
  does: "all backends on one model; flags in bench/choice.bench.ts",
  flags: null,
  // Whatever a backend left running ends with the process.
  run: async (_, args) => process.exit((await measureChoice([...args])) ? 0 : 1),
};
