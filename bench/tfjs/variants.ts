/** Compares the variants of the tfjs step with each other: decode after a prompt of 32, and prefill of 128 tokens. */
import { decodeRun, prefillRun } from "../decode-runs.ts";
import { loadDemoModel } from "../demo-model.ts";
import { printReports, runInterleaved } from "../run-interleaved.ts";
import { createTfjsModel } from "./load-tfjs-step.ts";
import type { TfjsVariant } from "./tfjs-step.ts";

const variants: readonly TfjsVariant[] = [
  { linear: "conv1x1", cache: "latent" },
  { linear: "conv1x1", cache: "perHead" },
  { linear: "transposeB", cache: "latent" },
  { linear: "preTransposed", cache: "latent" },
];

const { config, weight } = loadDemoModel();
const sessions = variants.map((variant) => ({
  name: `${variant.linear}, ${variant.cache}`,
  session: createTfjsModel(config, weight, variant),
}));
printReports([
  runInterleaved(
    sessions.map(({ name, session }) => decodeRun(name, session)),
    { title: "decode", unit: "token", warmUps: 1, rounds: 5 },
  ),
  runInterleaved(
    sessions.map(({ name, session }) => prefillRun(name, session)),
    { title: "prefill", unit: "token", warmUps: 1, rounds: 3 },
  ),
]);
