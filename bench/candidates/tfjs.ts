/** The demo model's step on TensorFlow.js's CPU backend, from `bench/tfjs`, which has dependencies of its own. */
import { existsSync } from "node:fs";
import { loadDemoModel } from "../demo-model.ts";
import type { Candidate, Session } from "./candidate.ts";

export const installCommand = "npm --prefix bench/tfjs ci";

const folder = new URL("../tfjs/", import.meta.url);

export function isTfjsInstalled(): boolean {
  return existsSync(new URL("node_modules/@tensorflow/tfjs-backend-cpu/package.json", folder));
}

export const tfjs: Candidate = {
  name: "tfjs-cpu",
  async setup() {
    const { config, weight } = loadDemoModel();
    // By address, so that type-checking this package does not need tfjs; bench/tfjs checks the other side.
    const step = (await import(new URL("load-tfjs-step.ts", folder).href)) as {
      createTfjsModel(c: typeof config, w: typeof weight): Session;
    };
    return step.createTfjsModel(config, weight);
  },
};
