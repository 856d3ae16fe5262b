/** Our own compiled step of the demo model, in its variants, and the interpreter that defines it. */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import {
  type CompileOptions,
  type CompileReport,
  compile,
  compileToPlan,
  type Instance,
  openDevice,
} from "../../src/compile.ts";
import { interpret } from "../../src/ir/interpret.ts";
import { jsTarget } from "../../src/ir/target.ts";
import { type Tensor, type TensorData, tensorFrom, tensorOf, zeros } from "../../src/ir/tensor.ts";
import { type Bucket, cacheSpecs } from "../../src/models/deepseek/bucket.ts";
import { parseModelConfigText } from "../../src/models/deepseek/config.ts";
import { buildModel } from "../../src/models/deepseek/model.ts";
import { deriveWeights, isDerivedWeight } from "../../src/models/deepseek/rope-tables.ts";
import { openCheckpoint } from "../../src/runtime/weights/checkpoint.ts";
import { openNodeFolder } from "../../src/runtime/weights/node-folder.ts";
import { WeightStore } from "../../src/runtime/weights/weight-store.ts";
import type { Candidate, Session } from "./candidate.ts";

const folder = fileURLToPath(new URL("../../models/tiny-deepseek", import.meta.url));
const [blockSize, blocks] = [16, 16];
const slots = blockSize * blocks;

function bucketOf(tokens: number): Bucket {
  return { tokens, sequences: 1, blocks, outputs: 1, blockSize, slots, ropeRows: slots };
}

async function openDemo() {
  const source = await openNodeFolder(folder);
  const config = parseModelConfigText(await source.readText("config.json", 1_000_000));
  const checkpoint = await openCheckpoint(source);
  const derived = deriveWeights(config, slots);
  const read = async (name: string): Promise<Tensor> => (isDerivedWeight(name) ? derived(name) : checkpoint.read(name));
  return { config, checkpoint, read };
}

/** The inputs of a step of one sequence whose cache rows are its positions, in the order of the parameters. */
function stepInputs(ids: readonly number[], start: number): number[][] {
  const positions = ids.map((_, i) => start + i);
  const table = Array.from({ length: blocks }, (_, i) => i);
  return [[...ids], positions, ids.map(() => 0), positions, table, [ids.length - 1]];
}

/** A candidate compiled with these options, for prompts of `lengths` tokens. */
export function compiled(name: string, options: CompileOptions, lengths: readonly number[], backend = "js"): Candidate {
  return {
    name,
    setup: async (): Promise<Session> => {
      const { config, checkpoint, read } = await openDemo();
      const device = openDevice(backend);
      const weights = new WeightStore(read, device);
      const caches = new Map<string, TensorData>(
        cacheSpecs(config, { slots }).map((cache) => [cache.name, device.allocate(cache)]),
      );
      const instances = new Map<number, Instance>();
      for (const tokens of [1, ...lengths]) {
        const executable = compile(buildModel(config, bucketOf(tokens)), device, options);
        await weights.load(executable.plan);
        instances.set(tokens, executable.instantiate({ weight: weights.lookup(executable.plan), params: caches }));
      }
      await checkpoint.close();
      let position = 0;
      const step = (ids: readonly number[]): Float32Array => {
        const instance = instances.get(ids.length)!;
        for (const [i, values] of stepInputs(ids, position).entries()) instance.params[i]!.set(values);
        instance.run();
        position += ids.length;
        return instance.results[0] as Float32Array; // logits are f32
      };
      return { prefill: step, decode: (id) => step([id]), reset: () => (position = 0) };
    },
  };
}

/** What a step of one token costs by count: kernels launched and bytes of the buffers they are launched with. */
export function stepCost(options: CompileOptions): CompileReport {
  const config = parseModelConfigText(readFileSync(`${folder}/config.json`, "utf8"));
  return compileToPlan(buildModel(config, bucketOf(1)), jsTarget, options).report;
}

/** The slow, plain definition of the same step. */
export const interpreter: Candidate = {
  name: "interpreter",
  setup: async (): Promise<Session> => {
    const { config, checkpoint, read } = await openDemo();
    const held = new Map<string, Tensor>();
    for (const name of [...checkpoint.tensors.keys(), "rope.cos", "rope.sin"]) held.set(name, await read(name));
    await checkpoint.close();
    let caches: readonly Tensor[] = [];
    let position = 0;
    const step = (ids: readonly number[]): Float32Array => {
      const module = buildModel(config, bucketOf(ids.length));
      const inputs = stepInputs(ids, position).map((values) => tensorOf("i32", [values.length], values));
      inputs[4] = tensorFrom({ dtype: "i32", shape: [1, blocks] }, inputs[4]!.data);
      const [logits, ...next] = interpret(module, [...inputs, ...caches], { weights: (name) => held.get(name)! });
      caches = next;
      position += ids.length;
      return logits!.data as Float32Array; // logits are f32
    };
    const reset = () => {
      position = 0;
      caches = cacheSpecs(config, { slots }).map((cache) => zeros(cache.dtype, cache.shape));
    };
    return { prefill: step, decode: (id) => step([id]), reset };
  },
};
