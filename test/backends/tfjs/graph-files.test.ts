/** Weights that TensorFlow reads from files itself: to the bit what we make of them, and only where that is so. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { GraphBuilder, infoOf } from "../../../src/backends/tfjs/graph.ts";
import { graphTargetOf } from "../../../src/backends/tfjs/graph-backend.ts";
import { packed } from "../../../src/backends/tfjs/graph-bits.ts";
import { openGraphDevice } from "../../../src/backends/tfjs/graph-device.ts";
import { fileWeight, readFileWeight } from "../../../src/backends/tfjs/graph-files.ts";
import type { GraphHost } from "../../../src/backends/tfjs/graph-host.ts";
import { startGraphThread } from "../../../src/backends/tfjs/graph-thread.ts";
import { encodeSavedModel } from "../../../src/backends/tfjs/saved-model.ts";
import { compile } from "../../../src/compile.ts";
import { evaluateFold } from "../../../src/fold.ts";
import { type Maths, maths } from "../../../src/ir/build.ts";
import { Builder, type Node } from "../../../src/ir/graph.ts";
import { type Tensor, tensorFrom, zeros } from "../../../src/ir/tensor.ts";
import { type DType, sizeOf, tensorType } from "../../../src/ir/types.ts";
import { type StoredTensor, weightParts } from "../../../src/ir/weight.ts";
import { type Checkpoint, openCheckpoint } from "../../../src/runtime/weights/checkpoint.ts";
import { openNodeFolder } from "../../../src/runtime/weights/node-folder.ts";
import { prunedCheckpoint } from "../../../src/runtime/weights/pruned-checkpoint.ts";
import { writeSafetensors } from "../../../src/runtime/weights/safetensors.ts";
import { WeightStore } from "../../../src/runtime/weights/weight-store.ts";
import { moduleOf } from "../../arb/module-of.ts";
import { interpretedHost } from "./interpreted-host.ts";
import { tensorFlowFolder } from "./tensorflow.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "graph-files-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

/** Bits of small numbers: what a float of each of these formats may hold, and no NaN, whose bits a cast may change. */
function tensorOfBits(dtype: DType, shape: readonly number[], seed: number): Tensor {
  const { data } = zeros(dtype, shape);
  const values = data.constructor === Uint16Array ? 0x7000 : 100;
  for (let i = 0; i < data.length; i++) data[i] = ((i + 1) * 40503 * seed) % values;
  return tensorFrom(tensorType(dtype, shape), data);
}

async function openWith(tensors: ReadonlyMap<string, Tensor>): Promise<Checkpoint> {
  writeFileSync(join(folder, "model.safetensors"), writeSafetensors(tensors));
  return openCheckpoint(await openNodeFolder(folder));
}

const steps = fc.array(fc.tuple(fc.constantFrom("turn", "flatten", "twice", "cut"), fc.nat(3)), { maxLength: 4 });
type Steps = typeof steps extends fc.Arbitrary<infer T> ? T : never;

const weightOf = (m: Maths, name: string, dtype: DType, ...shape: number[]) => m.builder.weight(name, dtype, shape);

/** Moves elements about. */
function moved(m: Maths, x: Node, how: Steps): Node {
  return how.reduce((node, [step, i]) => {
    const { shape } = node.type;
    const axis = i % shape.length;
    if (step === "turn") return m.transpose(node, [...shape.keys()].reverse());
    if (step === "flatten") return m.reshape(node, [sizeOf(shape), 1]);
    if (step === "twice") return m.concat(axis, node, node);
    return m.slice(node, axis, 0, Math.ceil(shape[axis]! / 2));
  }, x);
}

const dtypes = ["bf16", "f16", "f32", "i8", "u8", "i32"] as const;

function storedBy(checkpoint: Checkpoint, layer = 0) {
  return ({ attrs, type }: Node<"weight">): readonly StoredTensor[] =>
    weightParts(attrs.name, type.shape, layer).names.map((name) => checkpoint.locate(name)!);
}

/** The bytes of the value as a session of the host computes them. */
async function computed(host: GraphHost, expr: Node, stored: ReturnType<typeof storedBy>): Promise<Uint8Array> {
  const weight = fileWeight(expr, stored);
  expect(weight).not.toBeNull();
  const graph = new GraphBuilder();
  const signature = { inputs: {}, outputs: { value: infoOf(packed(graph, readFileWeight(graph, weight!, []))) } };
  const signatures = { read: signature };
  const session = await host.open(encodeSavedModel({ nodes: graph.nodes, signatures }), signatures);
  const { value } = await host.run(session, "read", {});
  await host.drop(session);
  return new Uint8Array(value!.buffer, value!.byteOffset, value!.byteLength);
}

async function sameAsOurs(host: GraphHost, runs: number): Promise<void> {
  const dtype = fc.constantFrom(...dtypes);
  const size = fc.integer({ min: 1, max: 4 });
  const one = fc.record({ dtype, rows: size, width: size, experts: size, how: steps, widen: fc.boolean() });
  await fc.assert(
    fc.asyncProperty(one, async ({ dtype, rows, width, experts, how, widen }) => {
      const shape = [rows, width];
      const names = Array.from({ length: experts }, (_, i) => `e.${i}`);
      const tensors = new Map(names.map((name, i) => [name, tensorOfBits(dtype, shape, i + 1)]));
      // What comes first makes offsets differ.
      const checkpoint = await openWith(new Map([["a", tensorOfBits("f32", [rows], 1)], ...tensors]));
      const m = maths(new Builder());
      const table = moved(m, weightOf(m, "e.{0}", dtype, experts, ...shape), how);
      const expr = widen && dtype !== "f32" ? m.cast(table, "f32") : table;
      const [ours] = evaluateFold([expr], (name) => tensors.get(name)!);
      const bytes = await computed(host, expr, storedBy(checkpoint));
      expect([...bytes.subarray(0, ours!.byteLength)]).toEqual([...new Uint8Array(ours!.buffer, 0, ours!.byteLength)]);
      await checkpoint.close();
    }),
    { numRuns: runs },
  );
}

it("gives what folding gives, in plain loops", () => sameAsOurs(interpretedHost(), 60));

it.skipIf(tensorFlowFolder === null)("gives what folding gives, on TensorFlow", { timeout: 60_000 }, async () => {
  const thread = await startGraphThread({ kind: "tensorflow", packageFolder: tensorFlowFolder, threads: 1 });
  await sameAsOurs({ ...thread, summary: "", moves: true }, 25);
  await thread.close();
});

describe("what is not read by TensorFlow", () => {
  const m = maths(new Builder());
  const bf16 = weightOf(m, "w", "bf16", 4, 4);
  const at = (dtype: DType, offset: number) => () => [
    { type: tensorType(dtype, [4, 4]), path: "/f", offset, fileBytes: 1000 },
  ];

  it.each([
    ["arithmetic, which rounds", m.mul(m.cast(bf16, "f32"), m.cast(bf16, "f32")), at("bf16", 8)],
    ["casts that round", m.cast(weightOf(m, "w", "f32", 4, 4), "bf16"), at("f32", 8)],
    ["floats that no type of TensorFlow's is", weightOf(m, "w", "f8e4m3", 4, 4), at("f8e4m3", 8)],
    ["what is checked when it is read", weightOf(m, "w", "bool", 4, 4), at("bool", 8)],
    ["elements that begin between two", bf16, at("bf16", 9)],
    ["what is in no file", bf16, () => null],
    ["what needs no file", m.reshape(m.full("f32", [2], 0), [2, 1]), () => null],
  ])("%s", (_, expr, stored) => {
    expect(fileWeight(expr, stored)).toBeNull();
  });

  it("tensors that pruning reads otherwise, and numbers that are narrowed", async () => {
    const gate = tensorOfBits("f32", [2, 2], 1);
    const checkpoint = await openWith(new Map([["model.layers.1.mlp.gate.weight", gate]]));
    const name = "model.layers.1.mlp.gate.weight";
    expect(checkpoint.locate(name)?.path).toBe(join(folder, "model.safetensors"));
    expect(prunedCheckpoint(checkpoint, { "1": [1] }).locate(name)).toBeNull();
    expect(checkpoint.locate("another")).toBeNull();
    await checkpoint.close();
  });
});

describe("a weight of a program", () => {
  const openProduct = () => openWith(new Map([["w", tensorOfBits("bf16", [4, 2], 3)]]));

  /** The weights of an input times `w`, and an instance with an input. */
  async function loaded(checkpoint: Checkpoint, locate: Checkpoint["locate"], reads: string[]) {
    const device = openGraphDevice(graphTargetOf("tensorflow"), interpretedHost());
    const module = moduleOf((b, p) =>
      b.contract("m k, k n -> m n", p("x", "f32", 1, 4), b.cast(weightOf(b, "w", "bf16", 4, 2), "f32")),
    );
    const { plan, instantiate } = compile(module, device);
    const weights = new WeightStore(
      async (name, range, into) => {
        reads.push(name);
        await checkpoint.readInto(name, range, into);
        return checkpoint.find(name);
      },
      device,
      { locate },
    );
    await weights.load(plan);
    const instance = instantiate({ weight: weights.lookup(plan) });
    instance.params[0]!.set([1, 2, 3, 4]);
    const run = async () => {
      await instance.run();
      return [...instance.results[0]!];
    };
    return { weights, plan, run };
  }

  it("is left out of what is loaded through JavaScript, and can be computed here all the same", async () => {
    const checkpoint = await openProduct();
    const reads: string[] = [];
    const { weights, plan, run } = await loaded(checkpoint, checkpoint.locate, reads);
    expect(reads).toEqual([]);
    expect(weights.bytes).toBeGreaterThan(0);
    const [expr] = plan.funcs.get(plan.entry)!.weights;
    expect((await weights.evaluate(expr!, null)).length).toBe(8);
    expect(reads).toEqual(["w"]);
    expect(await run()).toEqual(await (await loaded(checkpoint, () => null, reads)).run());
    await checkpoint.close();
  });

  it("is not read from a file that was cut short meanwhile, and read once that is whole again", async () => {
    const checkpoint = await openProduct();
    const wanted = await (await loaded(checkpoint, () => null, [])).run();
    const { run } = await loaded(checkpoint, checkpoint.locate, []);
    const path = join(folder, "model.safetensors");
    const whole = readFileSync(path);
    writeFileSync(path, whole.subarray(0, -4));
    await expect(run()).rejects.toThrow(`${path}: expected ${whole.length} bytes, as before, got ${whole.length - 4}`);
    rmSync(path);
    await expect(run()).rejects.toThrow(`${path}: expected ${whole.length} bytes, as before, got no file`);
    writeFileSync(path, whole);
    expect(await run()).toEqual(wanted);
    await checkpoint.close();
  });
});
