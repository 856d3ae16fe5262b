/** Memory of models: against compiled plans, from headers as from configs, and where nothing fits. */
import fc from "fast-check";
import { describe, expect, it, test } from "vitest";
import { allBackendNames, compileToPlan, findBackend } from "../../src/compile.ts";
import { InputError } from "../../src/ir/errors.ts";
import { type Plan, planTotals } from "../../src/ir/plan.ts";
import { type Target, wasmTarget, webgpuTargetOf } from "../../src/ir/target.ts";
import { byteSize, type TensorType, tensorType } from "../../src/ir/types.ts";
import { cacheSpecs } from "../../src/models/deepseek/bucket.ts";
import { type ModelConfig, parseModelConfig } from "../../src/models/deepseek/config.ts";
import { buildModel } from "../../src/models/deepseek/model.ts";
import { namesOf, weightSpecs } from "../../src/models/deepseek/weights.ts";
import { backendHoldings, memoryOn } from "../../src/plan/backend-memory.ts";
import { expectedSpeed } from "../../src/plan/expected-speed.ts";
import { memoryTable, showMemoryTable } from "../../src/plan/memory-table.ts";
import { modelMemory, type Precision } from "../../src/plan/model-memory.ts";
import { sizesOfConfig, sizesOfHeaders } from "../../src/plan/weight-groups.ts";
import { tokenCost } from "../../src/runtime/report/token-cost.ts";
import { compiledWeightBytes } from "../../src/runtime/weights/weight-store.ts";
import { published } from "../models/published-configs.ts";
import { someFigures } from "../runtime/probe/rows.ts";

const configs = Object.entries(published).map(([name, { config }]) => ({ name, config: parseModelConfig(config) }));
const context = 256;
const narrow = wasmTarget.narrowWeights!;

/** A GPU of a desktop or a server, as speeds are expected of. */
const largeGpu = webgpuTargetOf({
  ...{ invocations: 1024, sharedBytes: 49152, buffers: 16 },
  binding: { most: 2 ** 31 - 4, part: 2 ** 31 - 4 },
});

/** A step of that many tokens of one sequence. */
function planOf(
  config: ModelConfig,
  tokens: number,
  backend: string,
  precision: Precision,
  { target }: { readonly target: Target } = findBackend(backend),
): Plan {
  const slots = context;
  const bucket = { tokens, sequences: 1, blocks: slots / 16, outputs: 1, blockSize: 16, slots, ropeRows: context };
  const quantize =
    precision === "stored"
      ? {}
      : { quantize: { weights: precision, ...(precision !== "f32" && { activations: "int8" as const }) } };
  return compileToPlan(buildModel(config, bucket), target, { verify: 0, ...quantize }).plan;
}

/** One of each family, of the sizes that a test can compile. */
const compiled = configs.filter(({ name }) => /Qwen-1\.5B|V2-Lite|R1-0528-Qwen3/.test(name));

describe.each(compiled)("$name", ({ config }) => {
  it.each(["stored", "f32", "int8", "int4"] as const)(
    "%s: the bytes of its weights are those of its compiled plan",
    (precision) => {
      const { weights, cachePerToken } = modelMemory(
        sizesOfConfig(config),
        { precision, hostCopy: false, narrow },
        {
          slots: context,
          context,
          tokens: 1,
          buckets: 1,
        },
      );
      const plan = planOf(config, 1, "webgpu", precision);
      // Latent attention's prefill reads kv_b whole, beside the two parts that decoding reads.
      const whole = weightSpecs(config).filter(({ name }) => name.endsWith(".kv_b_proj.weight"));
      const bits = { stored: 16, f32: 32, int8: 8.5, int4: 8.5 }[precision];
      const again = whole.reduce(
        (sum, { shape, layers }) => sum + (shape[0]! * shape[1]! * layers!.length * bits) / 8,
        0,
      );
      expect(Math.abs(weights / (compiledWeightBytes(plan) + again) - 1)).toBeLessThan(0.002);
      const caches = cacheSpecs(config, { slots: 1 }).reduce(
        (sum, { dtype, shape }) => sum + byteSize(tensorType(dtype, shape)),
        0,
      );
      expect(cachePerToken).toBe(caches);
    },
  );

  it.each([
    ["wasm", "stored"],
    ["wasm", "f32"],
    ["wasm", "int4"],
    ["webgpu", "stored"],
    ["webgpu", "int8"],
  ] as const)("%s %s: launches and bytes of a token are about those of its plan", (backend, precision) => {
    const launching = backend === "wasm" ? "merged" : "divided";
    const question = { config, precision, launching, narrow, attended: 1 } as const;
    const { launches, bytes, promptLaunches } = expectedSpeed(question, someFigures);
    const device = backend === "webgpu" ? { target: largeGpu } : findBackend(backend);
    const counted = tokenCost(planOf(config, 1, backend, precision, device));
    // A table of four kinds of layers: what is fused depends on more.
    expect(launches / counted.launches).toBeGreaterThan(0.75);
    expect(launches / counted.launches).toBeLessThan(1.25);
    const prompt = planTotals(planOf(config, 128, backend, precision, device)).launches;
    expect(promptLaunches / prompt).toBeGreaterThan(0.75);
    expect(promptLaunches / prompt).toBeLessThan(1.25);
    // The count is of what loops read, which for codes of experts on a GPU is some of it twice.
    const twice =
      backend === "webgpu" && precision === "int8" && config.feed_forward.some(({ kind }) => kind === "moe");
    expect(Math.abs(bytes / counted.weightBytes - 1)).toBeLessThan(twice ? 0.25 : 0.05);
  });
});

it("TensorFlow keeps a widened block, and of codes what the largest matrix was expanded from until others lie there", () => {
  const config = configs.find(({ name }) => /Qwen-1\.5B/.test(name))!.config;
  const working = (backend: string, precision: Precision, layers: number) => {
    const cut = { ...config, num_hidden_layers: layers, feed_forward: config.feed_forward.slice(0, layers) };
    const holding = backendHoldings.find((each) => each.backend === backend)!;
    return memoryOn(holding, precision, sizesOfConfig(cut), { context, sequences: 1, tokens: 128 }).working;
  };
  const kept = (precision: Precision, layers: number) =>
    working("tensorflow", precision, layers) - working("wasm", precision, layers);
  expect(kept("stored", 3)).toBe(2 ** 27);
  expect(kept("f32", 3)).toBe(0);
  // Measured: 0.92 and 0.2 GB more than without this.
  expect(kept("int8", 3)).toBeGreaterThan(6e8);
  expect(kept("int8", 10)).toBeLessThan(2e8);
  expect(kept("int8", 28)).toBe(0);
});

/** Bytes of the variables of a graph, those of all layers: what a session holds. */
function variableBytes(plan: Plan): number {
  const text = findBackend("tensorflow").emit(plan)[0]!;
  const width: Record<string, number> = { float: 4, int32: 4, bfloat16: 2, half: 2, int8: 1, uint8: 1, bool: 1 };
  const made = text.matchAll(
    /VarHandleOp\(\) \{dtype=(\w+), shape=\[([\d,]*)\], container=, shared_name=(?:step|\w+_block)\./g,
  );
  return [...made].reduce(
    (sum, [, type, shape]) => sum + shape!.split(",").reduce((a, b) => a * Number(b), width[type!]!),
    0,
  );
}

/** Ops of a step, layers inlined. */
function opsOf(plan: Plan): number {
  const count = (name: string): number =>
    plan.tensors!.get(name)!.order.length +
    plan.funcs.get(name)!.steps.reduce((sum, step) => sum + (step.step === "call" ? count(step.func) - 1 : 0), 0);
  return count(plan.entry);
}

describe.each(compiled)("$name on engines that take tensors", ({ config }) => {
  const request = { context, sequences: 1, tokens: 1 };
  const holding = (backend: string) => backendHoldings.find((each) => each.backend === backend)!;
  // Latent attention's prefill reads kv_b whole, beside the two parts that decoding reads.
  const again = (bits: number) =>
    weightSpecs(config)
      .filter(({ name }) => name.endsWith(".kv_b_proj.weight"))
      .reduce((sum, { shape, layers }) => sum + (shape[0]! * shape[1]! * layers!.length * bits) / 8, 0);

  it.each(["stored", "int8"] as const)("a graph's session and the host hold what is planned, %s", (precision) => {
    const plan = planOf(config, 1, "tensorflow", precision);
    const { weights, host } = memoryOn(holding("tensorflow"), precision, sizesOfConfig(config), request);
    const narrow = precision === "stored" ? 16 : 32;
    expect(Math.abs(weights / (variableBytes(plan) + again(narrow)) - 1)).toBeLessThan(0.01);
    // TensorFlow reads files itself; codes are made here.
    const codes = precision === "stored" ? 0 : compiledWeightBytes(plan) + again(8.5);
    expect(Math.abs(host - codes)).toBeLessThanOrEqual(0.01 * codes);
  });

  it.each(["stored", "int8"] as const)("ops of a token are about those of its plan, %s", (precision) => {
    const { launches } = expectedSpeed({ config, precision, launching: "ops", narrow: null, attended: 1 }, someFigures);
    const counted = opsOf(planOf(config, 1, "tfjs-cpu", precision));
    expect(launches / counted).toBeGreaterThan(0.75);
    expect(launches / counted).toBeLessThan(1.25);
  });
});

/** What runs of a step's graph. */
function graphOps(plan: Plan): number {
  const text = findBackend("tensorflow").emit(plan)[0]!;
  return [...text.matchAll(/ = (?!Const\(|VarHandleOp\(|Placeholder\()\w+\(/g)].length;
}

test("a graph's prompts are computed with all experts, and its codes with what quantising inputs leaves of the rate", () => {
  const { config } = configs.find(({ name }) => /V2-Lite/.test(name))!;
  const prompts = (launching: "ops" | "graph", precision: Precision, rates = someFigures) =>
    expectedSpeed({ config, precision, launching, narrow: null, attended: 1 }, { ...rates, launch: 1e-12 }).prefill;
  // Of 64 experts 6 and 2 shared ones are chosen.
  expect(prompts("ops", "f32") / prompts("graph", "f32")).toBeGreaterThan(3);
  const slow = { ...someFigures, int8Matrix: someFigures.f32Matrix / 4 };
  expect(prompts("graph", "f32") / prompts("graph", "int8", slow)).toBeGreaterThan(2);
  expect(prompts("ops", "int8", slow)).toBeCloseTo(prompts("ops", "f32")); // but for launches
});

describe.each(compiled)("the graph of $name", ({ config }) => {
  test.each(["f32", "int8"] as const)("has about as many ops as its speed is computed from, %s", (precision) => {
    const question = { config, precision, launching: "graph", narrow: null, attended: 1 } as const;
    const { launches } = expectedSpeed(question, someFigures);
    const counted = graphOps(planOf(config, 1, "tensorflow", precision));
    expect(launches / counted).toBeGreaterThan(0.75);
    expect(launches / counted).toBeLessThan(1.25);
  });
});

test("every backend that loadModel takes has a row, and fits by its own memory where it has some", () => {
  expect(backendHoldings.map(({ backend }) => backend).sort()).toEqual([...allBackendNames].sort());
  const config = configs.find(({ name }) => /R1-Distill-Qwen-1\.5B/.test(name))!.config;
  const limits = ["tensorflow", "tensorflow-gpu", "tfjs-cpu"].map((backend) => ({
    backend,
    memory: 6e9,
    binding: null,
  }));
  const { rows } = memoryTable("qwen", sizesOfConfig(config), { context: 512 }, limits);
  // bf16 stays bf16 in graphs, and is there once. Op by op everything becomes f32, whatever its codes.
  expect(rows.map(({ backend, precision, fits }) => `${backend} ${precision} ${fits}`)).toEqual([
    ...["tensorflow stored true", "tensorflow f32 false", "tensorflow int8 false", "tensorflow int4 false"],
    ...[
      "tensorflow-gpu stored true",
      "tensorflow-gpu f32 false",
      "tensorflow-gpu int8 false",
      "tensorflow-gpu int4 false",
    ],
    ...["tfjs-cpu stored false", "tfjs-cpu int8 false", "tfjs-cpu int4 false"],
  ]);
});

function headersOf(config: ModelConfig): Map<string, TensorType> {
  return new Map(
    weightSpecs(config).flatMap((spec) =>
      [...namesOf(spec)].map((name) => [name, tensorType("bf16", spec.shape)] as const),
    ),
  );
}

test.each(configs.filter(({ config }) => config.num_hidden_layers < 50))(
  "$name: headers say what the config says",
  ({ config }) => {
    const [a, b] = [sizesOfConfig(config), sizesOfHeaders(headersOf(config), "x")];
    for (const precision of ["stored", "f32", "int8", "int4"] as const) {
      const step = { slots: 4096, context: 4096, tokens: 128, buckets: 1 };
      const memory = [{ ...a, rope: 0, groups: a.groups.map((each) => ({ ...each, stored: "bf16" as const })) }, b].map(
        (sizes) => modelMemory(sizes, { precision, hostCopy: false, narrow }, step),
      );
      expect(memory[1]!.weights / memory[0]!.weights).toBeCloseTo(1, 9);
      expect({ ...memory[1], weights: 0, device: 0 }).toEqual({ ...memory[0], weights: 0, device: 0 });
    }
  },
);

test("headers of other models are refused", () => {
  expect(() => sizesOfHeaders(new Map([["wte.weight", tensorType("f32", [2, 2])]]), "x")).toThrow(
    /x: there is no tensor model\.embed_tokens/,
  );
  const only = new Map([["model.embed_tokens.weight", tensorType("f32", [2, 2])]]);
  expect(() => sizesOfHeaders(only, "x")).toThrow(InputError);
});

test("a layer that predicts further tokens is not counted", () => {
  const config = configs.find(({ name }) => /Qwen-1\.5B/.test(name))!.config;
  const headers = headersOf(config);
  const before = sizesOfHeaders(headers, "x");
  headers.set("model.layers.28.eh_proj.weight", tensorType("bf16", [1536, 3072]));
  headers.set("model.layers.28.input_layernorm.weight", tensorType("bf16", [1536]));
  expect(sizesOfHeaders(headers, "x")).toEqual(before);
});

describe("the table", () => {
  const limits = [
    { backend: "webgpu", memory: null, binding: 2 ** 27 },
    { backend: "wasm", memory: 3.6e9, binding: null },
    { backend: "js", memory: null, binding: null },
  ];
  const own = sizesOfConfig(configs.find(({ name }) => /R1-Distill-Qwen-1\.5B/.test(name))!.config);
  const qwen = { ...own, maxContext: 131072 };

  it("has every backend and precision, and says what would fit", () => {
    const table = memoryTable("qwen", qwen, { context: 32768 }, limits);
    expect(table.rows.map(({ backend, precision, fits }) => `${backend} ${precision} ${fits}`)).toEqual([
      // An f32 head is more than a kernel can see; the others are seen in parts.
      ...["webgpu stored true", "webgpu f32 false", "webgpu int8 true", "webgpu int4 true"],
      ...["wasm stored false", "wasm f32 false", "wasm int8 false", "wasm int4 true"],
      ...["stored", "int8", "int4"].map((each) => `js ${each} true`),
    ]);
    const text = showMemoryTable(table);
    expect(text).toMatch(
      /wasm +int8 .*does not fit: needs \d\.\d+ GB of 3\.60 GB; fits with a context of \d+; fits in int4\n/,
    );
    expect(text).toMatch(/webgpu +f32 .*takes 933 MB, a kernel reads at most 671 MB; fits as stored/);
    const long = memoryTable("qwen", qwen, { context: 131072, sequences: 2 }, limits);
    expect(showMemoryTable(long)).toMatch(/webgpu +int8 .*layer's cache takes \d+ MB, a kernel writes at most 134 MB/);
  });

  it("advice holds: the context it names fits, and one more token would not", () => {
    const [row] = memoryTable("q", qwen, { context: 100_000 }, [{ ...limits[1]!, memory: 4e9 }]).rows.filter(
      ({ precision }) => precision === "int8",
    );
    const [, named] = /context of (\d+)/.exec(row!.advice.join()) ?? [];
    const resident = (context: number) =>
      memoryOn(backendHoldings.find(({ backend }) => backend === "wasm")!, "int8", qwen, {
        context,
        sequences: 1,
        tokens: 128,
      }).resident;
    expect(resident(Number(named))).toBeLessThanOrEqual(4e9);
    expect(resident(Number(named) + 16)).toBeGreaterThan(4e9);
  });

  it("refuses sizes that make no sense", () => {
    for (const request of [
      { context: 0 },
      { context: 1.5 },
      { context: 131073 },
      { sequences: -1 },
      { tokens: Number.NaN },
    ]) {
      expect(() => memoryTable("q", qwen, request, limits)).toThrow(
        /plan-memory \w+: expected a whole number from 1 to/,
      );
    }
  });

  it("stays finite for the largest config that is one, and quick", () => {
    const { config: base } = Object.values(published).find(({ config }) => "n_routed_experts" in config)!;
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 2 ** 17 }), fc.integer({ min: 1, max: 1024 }), (hidden, layers) => {
        let config: ModelConfig;
        try {
          config = parseModelConfig({ ...base, hidden_size: hidden, num_hidden_layers: layers, vocab_size: 2 ** 22 });
        } catch (error) {
          expect(error).toBeInstanceOf(Error);
          return;
        }
        const text = showMemoryTable(memoryTable("huge", sizesOfConfig(config), {}, limits));
        expect(text).not.toMatch(/NaN|Infinity|undefined/);
      }),
      { numRuns: 20 },
    );
  });
});
