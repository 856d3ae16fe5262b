/** What TensorFlow.js engines hold: tensors are disposed of exactly, caches stay, and the current backend is left alone. */

import { fileURLToPath } from "node:url";
import * as tf from "@tensorflow/tfjs-core";
import { afterEach, beforeAll, describe, expect, it } from "vitest";
import { compile, type Device, prepareDevice } from "../../../src/compile.ts";
import { interpret } from "../../../src/ir/interpret.ts";
import { type Tensor, tensorOf } from "../../../src/ir/tensor.ts";
import { tensorType } from "../../../src/ir/types.ts";
import { loadModel } from "../../../src/runtime/load-model.ts";
import { floats, ints, moduleOf } from "../../arb/module-of.ts";

const golden = fileURLToPath(new URL("../../fixtures/goldens/v3", import.meta.url));
const devices: Device[] = [];
const open = async (backend: string) => {
  const device = await prepareDevice(backend);
  devices.push(device);
  return device;
};
// `tf.memory` asks the current backend too.
beforeAll(async () => {
  await prepareDevice("tfjs-cpu");
  await tf.setBackend("cpu");
});
afterEach(async () => {
  for (const device of devices.splice(0)) await device.close();
});

describe.each(["tfjs-cpu", "tfjs-wasm"])("%s", (backend) => {
  it("a model holds the same tensors after every step and none when it is closed", async () => {
    const before = tf.memory().numTensors;
    const model = await loadModel(golden, { backend, contextLength: 64 });
    const step = () => model.generate([1, 2, 3], { maxTokens: 4, temperature: 0, ignoreEos: true }).collect();
    await step();
    const loaded = tf.memory().numTensors;
    expect(loaded).toBeGreaterThan(before);
    for (let i = 0; i < 3; i++) {
      await step();
      expect(tf.memory().numTensors).toBe(loaded);
    }
    await model.close();
    expect(tf.memory().numTensors).toBe(before);
  });

  it("a run that fails leaves nothing behind", async () => {
    const device = await open(backend);
    const module = moduleOf((m, p) => {
      const x = m.exp(p("x", "f32", 4));
      return m.add(x, m.builder.weight("w", "f32", [4]));
    });
    const { instantiate } = compile(module, device);
    const before = tf.memory().numTensors;
    const instance = instantiate({
      weight: () => {
        throw new Error("no weight");
      },
    });
    expect(() => instance.run()).toThrow("no weight");
    expect(tf.memory().numTensors).toBe(before);
  });

  it("an instance gives back its constants, a device the weights", async () => {
    const before = tf.memory().numTensors;
    const device = await open(backend);
    const module = moduleOf((m, p) => m.add(m.mul(p("x", "f32", 4), 3), m.builder.weight("w", "f32", [4])));
    const { instantiate } = compile(module, device);
    const weight = device.hold(tensorType("f32", [4]), floats([4], 1, 2, 3, 4).data);
    const instance = instantiate({ weight: () => weight });
    instance.params[0]!.set([1, 1, 1, 1]);
    await instance.run();
    expect([...instance.results[0]!]).toEqual([4, 5, 6, 7]);
    expect(tf.memory().numTensors).toBe(before + 2);
    instance.release();
    expect(tf.memory().numTensors).toBe(before + 1);
    device.free(weight);
    expect(tf.memory().numTensors).toBe(before);
  });

  it.each([
    ["is replaced by its update", 1],
    ["is read beside its update", 2],
    ["is read in another shape beside its update", 3],
    ["is updated twice from the same rows", 4],
  ] as const)("a cache that %s", async (_, form) => {
    const device = await open(backend);
    const module = moduleOf((m, p) => {
      const [x, rows, slots] = [p("x", "f32", 4, 2), p("rows", "f32", 2, 2), p("slots", "i32", 2)];
      const updated = m.updateRows(x, rows, slots);
      if (form === 1) return [updated, m.neg(updated)];
      if (form === 2) return [updated, m.neg(x)];
      if (form === 3) return [updated, m.add(m.reshape(x, [8]), m.reshape(updated, [8]))];
      return [m.updateRows(updated, rows, m.add(slots, 1)), m.add(updated, x)];
    });
    const inputs: Tensor[] = [
      tensorOf("f32", [4, 2], [0, 0, 0, 0, 0, 0, 0, 0]),
      floats([2, 2], 1, 2, 3, 4),
      ints([2], 2, 0),
    ];
    const { instantiate, plan } = compile(module, device);
    expect(plan.funcs.get("main")!.donated[0]).toBe(0);
    const cache = device.allocate(inputs[0]!.type, "resident");
    const instance = instantiate({
      weight: () => {
        throw new Error("none");
      },
      params: new Map([["x", cache]]),
    });
    let held = inputs[0]!;
    for (const rows of [inputs[1]!, floats([2, 2], 5, 6, 7, 8)]) {
      const expected = interpret(module, [held, rows, inputs[2]!]);
      instance.params[1]!.set(rows.data);
      instance.params[2]!.set(inputs[2]!.data);
      await instance.run();
      expect([...instance.results[1]!]).toEqual([...expected[1]!.data]);
      held = expected[0]!;
    }
    // The array of a resident value means nothing: another program reads what it holds.
    const reading = compile(
      moduleOf((m, p) => m.neg(p("x", "f32", 4, 2))),
      device,
    ).instantiate({ weight: () => cache, params: new Map([["x", cache]]) });
    await reading.run();
    expect([...reading.results[0]!]).toEqual([...held.data].map((x) => -x));
  });
});

describe("the current backend", () => {
  const current = () => tf.engine().backendName;

  it("stays what it was, while ours is loaded and runs", async () => {
    const device = await open("tfjs-wasm");
    await tf.setBackend("cpu");
    const other = await open("tfjs-wasm");
    expect(current()).toBe("cpu");
    const theirs = tf.tensor1d([1, 2, 3]);
    const module = moduleOf((m, p) => m.exp(p("x", "f32", 2)));
    for (const each of [device, other]) {
      const [result] = await compile(module, each).run([floats([2], 0, 1)]);
      expect(result!.data[0]).toBe(1);
    }
    expect(current()).toBe("cpu");
    expect([...tf.neg(theirs).dataSync()]).toEqual([-1, -2, -3]);
    theirs.dispose();
  });

  it("is put back when a run fails", async () => {
    const device = await open("tfjs-wasm");
    await tf.setBackend("cpu");
    const { instantiate } = compile(
      moduleOf((m, p) => m.add(p("x", "f32", 1), m.builder.weight("w", "f32", [1]))),
      device,
    );
    const instance = instantiate({
      weight: () => {
        throw new Error("no weight");
      },
    });
    expect(() => instance.run()).toThrow("no weight");
    expect(current()).toBe("cpu");
  });
});
