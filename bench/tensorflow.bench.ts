/**
 * The demo model on TensorFlow, whole steps as graphs against op by op on the same engine, and WebAssembly:
 * `node bench/tensorflow.bench.ts [--threads 1] [--rounds 12]`, after `node scripts/install-tensorflow.ts`. Engines take
 * turns in one process; figures are of the middle round, on the wall and of the processor.
 */
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { loadModel } from "../src/runtime/load-model.ts";
import type { Model } from "../src/runtime/model.ts";

const { values: flags } = parseArgs({
  options: { threads: { type: "string", default: "1" }, rounds: { type: "string", default: "12" } },
});
const packageFolder = fileURLToPath(new URL("../.cache/tensorflow", import.meta.url));
const folder = fileURLToPath(new URL("../models/tiny-deepseek", import.meta.url));
// The graph first: TensorFlow's threads are made when it starts, and it says how many.
const names = ["tensorflow", "tensorflow-ops", "wasm"] as const;
const decoded = 20;
const prompted = 256;

interface Times {
  readonly wall: number[];
  readonly cpu: number[];
}

async function timed(times: Times, units: number, work: () => Promise<unknown>): Promise<void> {
  const [start, used] = [performance.now(), process.cpuUsage()];
  await work();
  const { user, system } = process.cpuUsage(used);
  times.wall.push((performance.now() - start) / units);
  times.cpu.push((user + system) / 1000 / units);
}

const middle = (values: readonly number[]) => values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
const none = (): Times => ({ wall: [], cpu: [] });

const models: { readonly name: string; readonly model: Model; decode: Times; prompt: Times }[] = [];
for (const name of names) {
  const model = await loadModel(folder, { backend: name, threads: Number(flags.threads), packageFolder });
  models.push({ name, model, decode: none(), prompt: none() });
}
for (let round = 0; round < Number(flags.rounds) + 2; round++) {
  for (const each of models) {
    // The first rounds make programs.
    if (round === 2) Object.assign(each, { decode: none(), prompt: none() });
    const options = { temperature: 0, ignoreEos: true };
    // Prompts differ, so that nothing of them is in the cache.
    const prompt = Array.from({ length: prompted }, (_, i) => (i * 37 + round * 11) % 4000);
    await timed(each.decode, decoded, () => each.model.generate([1], { ...options, maxTokens: decoded }).collect());
    await timed(each.prompt, prompted, () => each.model.generate(prompt, { ...options, maxTokens: 1 }).collect());
  }
}
console.log(`milliseconds a token, ${flags.threads} threads; Node ${process.version}`);
for (const { name, model, decode, prompt } of models) {
  const show = ({ wall, cpu }: Times) => `${middle(wall).toFixed(2)} (processor ${middle(cpu).toFixed(2)})`;
  console.log(`${name.padEnd(16)} decode ${show(decode)}, prompt of ${prompted} ${show(prompt)}`);
  await model.close();
}
