/** What is built for published models: its size, its weights, its signature, and the errors of wrong buckets. */
import { describe, expect, test } from "vitest";
import { getFunc, isOp, type Module, type Node, topoOrder } from "../../src/ir/graph.ts";
import { parseModule } from "../../src/ir/parse.ts";
import { printModule } from "../../src/ir/print.ts";
import { tensorOf } from "../../src/ir/tensor.ts";
import { type DType, showType, tensorType } from "../../src/ir/types.ts";
import { verifyModule } from "../../src/ir/verify.ts";
import { weightParts } from "../../src/ir/weight.ts";
import { type Bucket, cacheSpecs, checkBucket } from "../../src/models/deepseek/bucket.ts";
import { parseModelConfig } from "../../src/models/deepseek/config.ts";
import { checkpointDTypes } from "../../src/models/deepseek/layers.ts";
import { buildModel } from "../../src/models/deepseek/model.ts";
import { deriveWeights, isDerivedWeight, withDerivedWeights } from "../../src/models/deepseek/rope-tables.ts";
import { namesOf, scaleSuffix, weightSpecs } from "../../src/models/deepseek/weights.ts";
import { published, publishedWith } from "./published-configs.ts";

const decode: Bucket = {
  tokens: 4,
  sequences: 4,
  blocks: 64,
  outputs: 4,
  blockSize: 64,
  slots: 64 * 512,
  ropeRows: 163840,
};

const configOf = (name: string) => parseModelConfig(publishedWith(name, { torch_dtype: "bfloat16" }));

/** Checkpoint tensors that a module reads, with their types. */
function tensorsRead(module: Module): Map<string, string> {
  const read = new Map<string, string>();
  const add = (node: Node<"weight">, layer?: number) => {
    const { name, dtype, shape } = node.attrs;
    const parts = weightParts(name, shape, layer);
    for (const part of parts.names) read.set(part, showType(tensorType(dtype, parts.shape)));
  };
  for (const node of topoOrder(getFunc(module, module.entry).outs)) {
    if (isOp(node, "weight")) add(node);
    if (!isOp(node, "call") || node.attrs.result !== 0) continue;
    for (const inner of topoOrder(getFunc(module, node.attrs.func).outs)) {
      if (isOp(inner, "weight")) add(inner, node.attrs.layer);
    }
  }
  return read;
}

test("DeepSeek-V3 prints on a few screens, builds at once, verifies, and is read back", () => {
  const start = performance.now();
  const module = buildModel(configOf("DeepSeek-V3"), decode);
  expect(performance.now() - start).toBeLessThan(1000);
  verifyModule(module);
  const text = printModule(module);
  expect(text.split("\n").length).toBeLessThan(400);
  expect([...module.funcs.keys()]).toEqual(["dense_block", "moe_block", "step"]);
  const back = parseModule(text);
  verifyModule(back);
  expect(printModule(back)).toBe(text);
});

describe.each(Object.keys(published))("%s", (name) => {
  const config = configOf(name);
  const module = buildModel(config, decode);

  test("verifies, and takes and returns what it says", () => {
    verifyModule(module);
    const { params, outs } = getFunc(module, "step");
    const caches = cacheSpecs(config, decode).map(({ name, dtype, shape }) => `${name}: ${dtype}[${shape}]`);
    expect(params.map((param) => `${param.attrs.name}: ${showType(param.type)}`)).toEqual([
      "tokens: i32[4]",
      "positions: i32[4]",
      "sequence: i32[4]",
      "slots: i32[4]",
      "blockTable: i32[4,64]",
      "outputs: i32[4]",
      ...caches,
    ]);
    expect(outs.map((out) => showType(out.type))).toEqual([
      `f32[4,${config.vocab_size}]`,
      ...cacheSpecs(config, decode).map((spec) => showType(spec)),
    ]);
  });

  test("reads each weight of the config once, and no other", () => {
    const read = tensorsRead(module);
    const wanted = weightSpecs(config).flatMap((spec) => [...namesOf(spec)]);
    const scales = [...read.keys()].filter((key) => key.endsWith(scaleSuffix));
    expect([...read.keys()].filter((key) => !isDerivedWeight(key) && !key.endsWith(scaleSuffix)).sort()).toEqual(
      wanted.sort(),
    );
    const quantized = weightSpecs(config).filter((spec) => spec.quantized);
    expect(scales.length).toBe(quantized.flatMap((spec) => [...namesOf(spec)]).length);
  });
});

test("dtypes are those of the checkpoint's headers, and differing layers are refused", () => {
  const config = configOf("DeepSeek-V2-Lite");
  const types = weightSpecs(config).flatMap((spec) => {
    const dtype: DType = spec.name.includes("norm") ? "f32" : "f16";
    return [...namesOf(spec)].map((name) => [name, tensorType(dtype, spec.shape)] as const);
  });
  const headers = new Map(types);
  const read = tensorsRead(buildModel(config, decode, { weightDType: checkpointDTypes(config, headers) }));
  for (const [name, type] of types) expect(read.get(name), name).toBe(showType(type));

  const odd = "model.layers.3.mlp.experts.5.up_proj.weight";
  headers.set(odd, tensorType("bf16", [1408, 2048]));
  expect(() => checkpointDTypes(config, headers)).toThrow(
    `weight ${odd}: expected f16 as in the layers before, got bf16`,
  );
});

test("FP8 without scales is refused", () => {
  const weightDType = (): DType => "f8e4m3";
  expect(() => buildModel(configOf("DeepSeek-V2-Lite"), decode, { weightDType })).toThrow(/f8e4m3 without scales/);
});

test("a tied head is the embedding's own node", () => {
  const config = parseModelConfig(publishedWith("R1-Distill-Qwen-1.5B", { tie_word_embeddings: true }));
  const nodes = topoOrder(getFunc(buildModel(config, decode), "step").outs);
  const vocab = nodes.filter((node) => isOp(node, "weight") && node.type.shape[0] === config.vocab_size);
  expect(vocab.length).toBe(1);
});

describe("buckets", () => {
  test.each([
    [{ tokens: 0 }, "bucket: tokens: expected a whole number from 1 to 2^31 - 1, got 0"],
    [{ blockSize: 1.5 }, "bucket: blockSize: expected a whole number from 1 to 2^31 - 1, got 1.5"],
    [{ ropeRows: Number.NaN }, "bucket: ropeRows: expected a whole number from 1 to 2^31 - 1, got NaN"],
    [{ slots: 2 ** 31 }, "bucket: slots: expected a whole number from 1 to 2^31 - 1, got 2147483648"],
    [{ sequences: 5 }, "bucket: sequences: expected at most tokens = 4, got 5"],
    [{ outputs: 5 }, "bucket: outputs: expected at most tokens = 4, got 5"],
    [{ slots: 65 }, "bucket: slots: expected a multiple of blockSize = 64, got 65"],
    [{ blocks: 2 ** 30 }, "bucket: blocks: expected at most 33554431, got 1073741824"],
  ])("%j", (change, message) => {
    expect(() => checkBucket({ ...decode, ...change })).toThrow(message);
    expect(() => buildModel(configOf("deepseek-llm-7b"), { ...decode, ...change })).toThrow(message);
  });
});

describe("rope tables", () => {
  test("hold the cosine and sine of position * frequency", () => {
    const config = configOf("R1-0528-Qwen3-8B");
    const derived = deriveWeights(config, 3);
    const [cos, sin] = [derived("rope.cos"), derived("rope.sin")];
    expect([showType(cos.type), showType(sin.type)]).toEqual(["f32[3,64]", "f32[3,64]"]);
    const factor = 0.1 * Math.log(4) + 1; // YaRN by 4
    expect([cos.data[0], sin.data[0]]).toEqual([Math.fround(factor), 0]);
    // Pair 0 turns by one radian per position under every scaling.
    expect([cos.data[128], sin.data[128]]).toEqual([
      Math.fround(Math.cos(2) * factor),
      Math.fround(Math.sin(2) * factor),
    ]);
  });

  test("are added to a checkpoint", () => {
    const config = configOf("deepseek-llm-7b");
    const one = tensorOf("f32", [1], [1]);
    const weights = withDerivedWeights(() => one, config, 2);
    expect(weights("lm_head.weight")).toBe(one);
    expect(showType(weights("rope.sin").type)).toBe("f32[2,64]");
    expect(() => deriveWeights(config, 2)("rope.tan")).toThrow(/expected one of rope.cos, rope.sin, got rope.tan/);
  });
});
