/**
 * How fast this machine's memory can be read from WebAssembly: a loop that only loads, over several streams at once,
 * since one stream keeps fewer reads in flight than the memory can serve.
 */
import { Worker } from "node:worker_threads";

export interface Bandwidth {
  readonly threads: number;
  readonly streams: number;
  /** 10^9 bytes per second, the best of several passes. */
  readonly gigabytesPerSecond: number;
}

const passes = 5;
const streamCounts = [1, 4, 8, 16];

/** The best of several counts of streams, over `bytes` bytes in all, which should be far more than the caches hold. */
export async function measureBandwidth(threads: number, bytes = 2 ** 30): Promise<Bandwidth> {
  const memory = new WebAssembly.Memory({ initial: bytes / 65536, maximum: bytes / 65536, shared: true });
  new Uint8Array(memory.buffer).fill(1); // pages exist once they are written
  const cells = new Int32Array(new SharedArrayBuffer(8));
  let best: Bandwidth = { threads, streams: 0, gigabytesPerSecond: 0 };
  for (const streams of streamCounts) {
    const streamBytes = bytes / threads / streams;
    const module = new WebAssembly.Module(readLoop(streams, streamBytes, bytes / 65536));
    const workers = Array.from({ length: threads }, (_, thread) => {
      const workerData = { module, memory, cells, base: thread * streams * streamBytes, passes };
      return new Worker(readerSource, { eval: true, workerData });
    });
    await Promise.all(workers.map((worker) => new Promise((resolve) => worker.once("message", resolve))));
    for (let pass = 1; pass <= passes; pass++) {
      Atomics.store(cells, 1, 0);
      const start = performance.now();
      Atomics.store(cells, 0, pass);
      Atomics.notify(cells, 0);
      while (Atomics.load(cells, 1) < threads) await new Promise((resolve) => setTimeout(resolve, 1));
      const gigabytesPerSecond = bytes / (performance.now() - start) / 1e6;
      if (gigabytesPerSecond > best.gigabytesPerSecond) best = { threads, streams, gigabytesPerSecond };
    }
    Atomics.store(cells, 0, 0);
    await Promise.all(workers.map((worker) => worker.terminate()));
  }
  return best;
}

const readerSource = `
const { workerData: { module, memory, cells, base, passes }, parentPort } = require("node:worker_threads");
const { read } = new WebAssembly.Instance(module, { env: { memory } }).exports;
parentPort.postMessage("ready");
for (let pass = 1; pass <= passes; pass++) {
  while (Atomics.load(cells, 0) !== pass) Atomics.wait(cells, 0, pass - 1);
  read(base);
  Atomics.add(cells, 1, 1);
}
`;

/** A module whose `read(base)` loads `streams` stretches of `streamBytes` bytes that follow each other, in step. */
function readLoop(streams: number, streamBytes: number, pages: number): Uint8Array<ArrayBuffer> {
  const u = (value: number): number[] => (value < 128 ? [value] : [(value & 127) | 128, ...u(Math.floor(value / 128))]);
  const i = (value: number): number[] => {
    const low = value & 127;
    const rest = value >> 7;
    const last = (rest === 0 && (low & 64) === 0) || (rest === -1 && (low & 64) !== 0);
    return last ? [low] : [low | 128, ...i(rest)];
  };
  const section = (id: number, bytes: readonly number[]) => [id, ...u(bytes.length), ...bytes];
  const name = (text: string) => [...u(text.length), ...new TextEncoder().encode(text)];
  const [base, end, first] = [0, 1, 2];
  const get = (local: number) => [0x20, ...u(local)];
  const set = (local: number) => [0x21, ...u(local)];
  const load = (stream: number, offset: number) => {
    // v128.load align=16, then v128.or into the stream's sum, so that no load can be left out.
    const from = [...get(base), 0xfd, 0, 4, ...u(stream * streamBytes + offset)];
    return [...get(first + stream), ...from, 0xfd, ...u(0x50), ...set(first + stream)];
  };
  const line = Array.from({ length: streams }, (_, stream) =>
    [0, 16, 32, 48].flatMap((offset) => load(stream, offset)),
  );
  const sums = Array.from({ length: streams }, (_, stream) => get(first + stream)).map((part, stream) =>
    stream === 0 ? part : [...part, 0xfd, ...u(0x50)],
  );
  const body = [
    ...[2, 1, 0x7f, ...u(streams), 0x7b], // locals: end, then a v128 for each stream
    ...[...get(base), 0x41, ...i(streamBytes), 0x6a, ...set(end)],
    ...[0x03, 0x40, ...line.flat()],
    ...[...get(base), 0x41, ...i(64), 0x6a, 0x22, base, ...get(end), 0x49, 0x0d, 0, 0x0b],
    ...[...sums.flat(), 0xfd, 0x53, 0x0b], // whether any bit was set
  ];
  return Uint8Array.from([
    ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(1, [1, 0x60, 1, 0x7f, 1, 0x7f]),
    ...section(2, [1, ...name("env"), ...name("memory"), 2, 3, ...u(pages), ...u(pages)]),
    ...section(3, [1, 0]),
    ...section(7, [1, ...name("read"), 0, 0]),
    ...section(10, [1, ...u(body.length), ...body]),
  ]);
}
