/** Threads: results do not depend on their number, and failures, deaths, aborts and closing end in errors, not in waiting. */
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, test } from "vitest";
import { startWorker } from "../../../src/backends/wasm/machine.ts";
import { type Thread, ThreadPool } from "../../../src/backends/wasm/pool.ts";
import { openDevice } from "../../../src/compile.ts";
import { InputError } from "../../../src/ir/errors.ts";
import { loadModel } from "../../../src/runtime/load-model.ts";
import { counting, endless, failing, type Loaded } from "./counting-programs.ts";

const folder = (name: string) => fileURLToPath(new URL(`../../fixtures/goldens/${name}`, import.meta.url));

test.each(["v3", "qwen2-tied"])("%s gives the same bits on 1, 2 and 3 threads", async (name) => {
  const ids = Array.from({ length: 24 }, (_, i) => (i * 7) % 32);
  const results: Float32Array[] = [];
  for (const threads of [1, 2, 3]) {
    const model = await loadModel(folder(name), { backend: "wasm", threads, contextLength: 64 });
    expect(model.device?.summary).toContain(threads === 1 ? "one thread" : `${threads} threads`);
    results.push(Float32Array.from(await model.logits(ids)));
    await model.close();
  }
  expect(results[1]).toEqual(results[0]);
  expect(results[2]).toEqual(results[0]);
});

test("merged launches of a quantised model give the same bits on 1, 2 and 3 threads", async () => {
  const demo = fileURLToPath(new URL("../../../models/tiny-deepseek", import.meta.url));
  const quantize = { weights: "int8", activations: "int8" } as const;
  // So many tokens that what quantises them is divided.
  const ids = Array.from({ length: 16 }, (_, i) => (i * 37) % 4096);
  const results: Float32Array[] = [];
  for (const threads of [1, 2, 3]) {
    const model = await loadModel(demo, { backend: "wasm", threads, contextLength: 64, quantize });
    results.push(Float32Array.from(await model.logits(ids)));
    await model.close();
  }
  expect(results[1]).toEqual(results[0]);
  expect(results[2]).toEqual(results[0]);
}, 120_000);

describe("a pool", () => {
  const pools: ThreadPool[] = [];
  afterAll(async () => {
    for (const pool of pools) await pool.close();
  });
  const open = (threads: number) => {
    const shared = new WebAssembly.Memory({ initial: 2, maximum: 65536, shared: true });
    const workers: Thread[] = [];
    const pool = new ThreadPool(shared, threads, (events) => {
      const worker = startWorker(events);
      workers.push(worker);
      return worker;
    });
    pools.push(pool);
    const load = ({ module, tickets }: Loaded) =>
      pool.load({ module, entry: "step", args: [], scratch: (each) => 4096 + 64 * each, tickets });
    return { pool, workers, load, cells: new Int32Array(shared.buffer) };
  };

  test("runs programs in turn, whatever the order they were loaded in", async () => {
    const { pool, load, cells } = open(3);
    const [a, b] = [load(counting), load(counting)];
    await Promise.all([pool.run(b), pool.run(a), pool.run(b)]);
    const c = load(counting);
    for (let i = 0; i < 50; i++) await pool.run(i % 2 === 0 ? c : a);
    expect(cells[512]).toBe(7 * 3 * 53);
    // After a pause the threads sleep, and are woken.
    await new Promise((resolve) => setTimeout(resolve, 30));
    await pool.run(a);
    expect(cells[512]).toBe(7 * 3 * 54);
  });

  test("a thread that fails fails the step, and the next step runs", async () => {
    const { pool, load, cells } = open(2);
    const [bad, good] = [load(failing), load(counting)];
    for (let i = 0; i < 20; i++) {
      cells[512] = 0;
      await expect(pool.run(bad)).rejects.toThrow(/^wasm thread [01]: a kernel failed: memory access out of bounds/);
      expect(cells[512]).toBeLessThan(7 * 3);
      cells[512] = 0;
      await pool.run(good);
      expect(cells[512]).toBe(7 * 3);
    }
  });

  test("a step is aborted in the middle, and the next one runs", async () => {
    const { pool, load, cells } = open(2);
    const [long, good] = [load(endless), load(counting)];
    const controller = new AbortController();
    const step = pool.run(long, controller.signal);
    setTimeout(() => controller.abort(new Error("enough")), 20);
    await expect(step).rejects.toThrow("enough");
    await expect(pool.run(good, AbortSignal.abort(new Error("before")))).rejects.toThrow("before");
    await pool.run(good);
    expect(cells[512]).toBe(7 * 3);
  });

  test("a thread that the system has put aside is missed by nobody", async () => {
    const shared = new WebAssembly.Memory({ initial: 2, maximum: 65536, shared: true });
    const absent: Thread = { post: () => {}, hold: () => {}, end: async () => {} };
    let started = 0;
    const pool = new ThreadPool(shared, 2, (events) => (started++ === 0 ? startWorker(events) : absent));
    pools.push(pool);
    const { module, tickets } = counting;
    const id = pool.load({ module, entry: "step", args: [], scratch: () => 4096, tickets });
    for (let i = 0; i < 20; i++) await pool.run(id);
    expect(new Int32Array(shared.buffer)[512]).toBe(7 * 3 * 20);
  });

  test("programs may be loaded while a step runs", async () => {
    const { pool, load, cells } = open(3);
    const first = load(counting);
    const steps = Array.from({ length: 40 }, async (_, i) => pool.run(i % 3 === 0 ? load(counting) : first));
    await Promise.all(steps);
    expect(cells[512]).toBe(7 * 3 * 40);
  });

  test("a worker that dies fails the step and all later ones", async () => {
    const { pool, workers, load } = open(2);
    const [long, good] = [load(endless), load(counting)];
    const step = pool.run(long);
    const later = pool.run(good);
    setTimeout(() => void workers[1]!.end(), 20);
    await expect(step).rejects.toThrow("wasm thread 1: the worker ended");
    await expect(later).rejects.toThrow("wasm thread 1: the worker ended");
    await expect(pool.run(good)).rejects.toThrow("load the model again");
  });

  test("closing ends a running step", async () => {
    const { pool, load } = open(2);
    const step = pool.run(load(endless));
    const failed = expect(step).rejects.toThrow("the device is closed");
    await pool.close();
    await failed;
    await expect(pool.run(1)).rejects.toThrow("the device is closed");
  });
});

test.each([0, 1.5, 1000])("%s threads are refused", (threads) => {
  expect(() => openDevice("wasm", { threads })).toThrow(InputError);
});
