/** Threads that help a program's own: every chunk is computed once, by whoever takes it, and failures are the host's too. */
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { expect, test } from "vitest";
import { openWasm } from "../../../src/backends/wasm/device.ts";
import { Guest, Host } from "../../../src/backends/wasm/guests.ts";
import { compile } from "../../../src/compile.ts";
import { maths } from "../../../src/ir/build.ts";
import { Builder, makeModule } from "../../../src/ir/graph.ts";
import { type Tensor, tensorFrom } from "../../../src/ir/tensor.ts";
import { counting, failing, type Loaded } from "./counting-programs.ts";

/** A host of one program. */
function hostOf({ module, tickets }: Loaded) {
  const memory = new WebAssembly.Memory({ initial: 2, maximum: 65536, shared: true });
  const host = new Host(memory);
  const run = host.bind({ module, entry: "step", args: [], scratches: [4096, 4160], tickets }, 4224);
  return { host, run, cells: new Int32Array(memory.buffer) };
}

/** Threads that help until `end`, which gives what each says. */
async function guestsOf(offer: ReturnType<Host["offer"]>, count: number) {
  const guests = await Promise.all(
    Array.from({ length: count }, async (_, number) => {
      const stop = new SharedArrayBuffer(8);
      const worker = new Worker(new URL("./guest-thread.ts", import.meta.url), { workerData: { offer, number, stop } });
      const said = once(worker, "message");
      await Atomics.waitAsync(new Int32Array(stop), 1, 0).value;
      return { stop, worker, said };
    }),
  );
  return async (): Promise<readonly { helped?: number; error?: string }[]> => {
    for (const { stop } of guests) Atomics.store(new Int32Array(stop), 0, 1);
    const said = await Promise.all(guests.map(({ said: each }) => each));
    await Promise.all(guests.map(({ worker }) => worker.terminate()));
    return said.map(([message]) => message);
  };
}

test("chunks are computed once each, some by guests", async () => {
  const { host, run, cells } = hostOf(counting);
  const end = await guestsOf(host.offer(), 2);
  let steps = 0;
  for (const until = performance.now() + 200; performance.now() < until; steps++) run();
  expect(cells[512]).toBe(7 * 3 * steps);
  const said = await end();
  expect(said.reduce((sum, { helped = 0 }) => sum + helped, 0)).toBeGreaterThan(0);
});

test("a host needs no guest, and a guest finds nothing in a host that does nothing", () => {
  const { host, run, cells } = hostOf(counting);
  const offer = host.offer();
  const guest = new Guest(offer.memory, 0);
  expect(guest.help()).toBe(false);
  run();
  // Before it has heard of the program, and after.
  expect(guest.help()).toBe(false);
  guest.add(offer.programs);
  expect(guest.help()).toBe(false);
  expect(host.offer().programs).toEqual([]);
  expect(cells[512]).toBe(7 * 3);
});

test("a chunk that fails ends the step on its host, whoever computed it, and all later ones", async () => {
  for (let i = 0; i < 4; i++) {
    const { host, run } = hostOf(failing);
    const end = await guestsOf(host.offer(), 1);
    expect(run).toThrow(/memory access out of bounds|unreachable/);
    expect(run).toThrow("after one that failed");
    await end();
  }
});

test("a product has the same bits with guests", async () => {
  const builder = new Builder();
  const [x, w] = [builder.param("x", "f32", [4, 256]), builder.param("w", "f32", [512, 256])];
  const outs = [maths(builder).contract("n k, m k -> n m", x, w)];
  const module = makeModule("product", [{ name: "main", params: [x, w], outs }], "main");
  const random = (length: number, seed: number) =>
    Float32Array.from({ length }, (_, i) => Math.sin(i * 12.9898 + seed));
  const inputs: readonly Tensor[] = [tensorFrom(x.type, random(4 * 256, 1)), tensorFrom(w.type, random(512 * 256, 2))];
  const results: Float32Array[] = [];
  for (const guests of [0, 1]) {
    const device = openWasm({ guests }, { smallest: 100 });
    const instance = compile(module, device).instantiate({ weight: () => new Float32Array() });
    for (const [i, { data }] of inputs.entries()) instance.params[i]!.set(data as Float32Array);
    const offer = device.offer?.() ?? null;
    expect(offer === null).toBe(guests === 0);
    const end = offer === null ? null : await guestsOf(offer, 1);
    for (let i = 0; i < 200; i++) await instance.run();
    results.push(Float32Array.from(instance.results[0] as Float32Array));
    await end?.();
    await device.close();
  }
  expect(results[1]).toEqual(results[0]);
});

test.each([-1, 0.5])("%s guests are refused", (guests) => {
  expect(() => openWasm({ guests })).toThrow("wasm guests");
});

test("guests are for one thread", () => {
  expect(() => openWasm({ guests: 1, threads: 2 })).toThrow("one thread");
});
