/**
 * A model divided over threads against the same model on one device of as many threads: `node bench/mesh.bench.ts
 * [--folder F | --layers 4] [--devices 2] [--weights int4] [--rounds 5] [--json]`. Without a folder, random weights of the
 * shape of R1-Distill-Qwen-1.5B, cut to a few layers. Decode after 128 tokens, a prompt of 128; ratios of the same round.
 */
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { loadModel } from "../src/runtime/load-model.ts";
import { shardAndDeploy } from "../src/runtime/mesh/shard-and-deploy.ts";
import type { Model } from "../src/runtime/model.ts";
import type { RaggedBatch } from "../src/runtime/steps/step.ts";
import { makeCheckpoint } from "./cpu/make/make-models.ts";
import { shapeOf } from "./cpu/make/shapes.ts";
import { describeMachine } from "./run-interleaved.ts";

const { values } = parseArgs({
  options: {
    folder: { type: "string" },
    layers: { type: "string", default: "4" },
    devices: { type: "string", default: "2" },
    weights: { type: "string", default: "int4" },
    rounds: { type: "string", default: "5" },
    json: { type: "boolean", default: false },
  },
});
const devices = Number(values.devices);
const context = 256;
const prompt = 128;
const tokensPerRound = 16;

function batch(from: number, count: number): RaggedBatch {
  const count32 = (value: (i: number) => number) => Int32Array.from({ length: count }, (_, i) => value(i));
  return {
    tokens: count32((i) => (7 * (from + i)) % 1000),
    positions: count32((i) => from + i),
    sequence: count32(() => 0),
    slots: count32((i) => from + i),
    blockTables: [Int32Array.from({ length: context / 16 }, (_, i) => i)],
    outputs: Int32Array.of(count - 1),
  };
}

interface Round {
  readonly decodeMs: number;
  readonly promptMs: number;
  /** Of a decoded token, in exchanges: the rank that waits least. */
  readonly exchangeMs: number;
}

async function round({ runner }: Model): Promise<Round> {
  const start = performance.now();
  await runner.step(batch(0, prompt));
  const prompted = performance.now();
  let exchangeMs = 0;
  for (let i = 0; i < tokensPerRound; i++) {
    await runner.step(batch(prompt + i, 1));
    if ("exchangeMs" in runner) exchangeMs += Math.min(...runner.exchangeMs) / tokensPerRound;
  }
  return { promptMs: prompted - start, decodeMs: (performance.now() - prompted) / tokensPerRound, exchangeMs };
}

const folder =
  values.folder ??
  makeCheckpoint(shapeOf("qwen", Number(values.layers)), "bf16", join(tmpdir(), "ciuic-mesh"), console.error);
const quantize =
  values.weights === "none"
    ? undefined
    : ({ weights: values.weights as "int4" | "int8", activations: "int8", method: "range" } as const); // checked by the loader
const limits = { contextLength: context, maxSequences: 1, maxBatchTokens: prompt };
const candidates: [name: string, model: Model][] = [
  [`${devices} threads`, await loadModel(folder, { ...limits, quantize, backend: "wasm", threads: devices })],
  [`tp ${devices}`, await shardAndDeploy(folder, { ...limits, quantize, devices: { tp: devices } })],
  ["1 thread", await loadModel(folder, { ...limits, quantize, backend: "wasm", threads: 1 })],
];
const rounds = candidates.map((): Round[] => []);
for (let i = 0; i <= Number(values.rounds); i++) {
  for (const [at, [, model]] of candidates.entries()) {
    const measured = await round(model);
    if (i > 0) rounds[at]!.push(measured); // the first warms up
  }
}
await Promise.all(candidates.map(([, model]) => model.close()));

const median = (numbers: number[]) => numbers.sort((a, b) => a - b)[numbers.length >> 1]!;
const results = candidates.map(([name], at) => ({
  name,
  decodeMs: median(rounds[at]!.map(({ decodeMs }) => decodeMs)),
  promptMs: median(rounds[at]!.map(({ promptMs }) => promptMs)),
  exchangeMs: median(rounds[at]!.map(({ exchangeMs }) => exchangeMs)),
  decodeRatio: median(rounds[at]!.map(({ decodeMs }, i) => rounds[0]![i]!.decodeMs / decodeMs)),
  promptRatio: median(rounds[at]!.map(({ promptMs }, i) => rounds[0]![i]!.promptMs / promptMs)),
}));
const machine = describeMachine();
if (values.json) console.log(JSON.stringify({ machine, weights: values.weights, folder, results }));
else {
  console.log(`${machine.cpu}, ${machine.cores} cores; ${values.weights}; medians of ${values.rounds} rounds`);
  for (const { name, decodeMs, promptMs, exchangeMs, decodeRatio, promptRatio } of results) {
    console.log(
      `  ${name.padEnd(12)} ${decodeMs.toFixed(2)} ms a token, ${exchangeMs.toFixed(2)} of it exchanging (speed ${decodeRatio.toFixed(2)}), prompt of ${prompt} ${promptMs.toFixed(0)} ms (${promptRatio.toFixed(2)})`,
    );
  }
}
