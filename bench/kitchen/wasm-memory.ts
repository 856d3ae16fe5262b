/**
 * What memory beyond 4 GiB costs in kernels: one memory of 32-bit addresses, one of 64-bit addresses (memory64), and two
 * of 32-bit addresses with the weights in the second. A matrix-vector product that streams its weights from main memory,
 * and a product of matrices that stay in the cache, each the same instructions but for the addresses.
 *
 *     node bench/kitchen/wasm-memory.ts
 */
import { signedLeb } from "../../src/backends/wasm/encode.ts";
import { unsignedLeb } from "../../src/backends/wasm/instr.ts";
import { printReports, runInterleaved } from "../run-interleaved.ts";

interface Form {
  readonly name: string;
  readonly wide: boolean;
  /** The memory that the weights lie in. */
  readonly weights: 0 | 1;
}

const forms: readonly Form[] = [
  { name: "32-bit, one memory", wide: false, weights: 0 },
  { name: "64-bit, one memory", wide: true, weights: 0 },
  { name: "32-bit, second of two", wide: false, weights: 1 },
];

const [rows, tile] = [4, 4];
/** Columns, in floats; a step of a row is 16 bytes. */
const [K, streamed, cached] = [1536, 32768, 64];
const weightsAt = 1 << 20;

const vector = (items: readonly (readonly number[])[]) => [...unsignedLeb(items.length), ...items.flat()];
const text = (name: string) => [name.length, ...new TextEncoder().encode(name)];
const simd = (op: number) => [0xfd, ...unsignedLeb(op)];
const [get, set, tee] = [0x20, 0x21, 0x22];

/**
 * `step(x, w, y, n)`: y[t, r] += x[t, :] . w[r, :] for `tile` tokens t and `rows` rows r at a time, over n rows; rows of x
 * and w have K floats. With one token it is the matrix-vector product.
 */
function moduleOf({ wide, weights }: Form, tokens: number): Uint8Array<ArrayBuffer> {
  const address = wide ? 0x7e : 0x7f;
  const constant = (value: number) => [wide ? 0x42 : 0x41, ...signedLeb(value)];
  const [add, lessThan] = wide ? [0x7c, 0x54] : [0x6a, 0x49];
  const access = (op: number, offset: number, memory: 0 | 1) =>
    memory === 0 ? [...simd(op), 4, ...unsignedLeb(offset)] : [...simd(op), 4 | 0x40, 1, ...unsignedLeb(offset)];
  const [x, w, y, end, rowEnd] = [0, 1, 2, 3, 4];
  const vec = (i: number) => 5 + i;
  const sums = Array.from({ length: tokens * rows }, (_, i) => vec(i));
  const xs = Array.from({ length: tokens }, (_, i) => vec(sums.length + i));
  const each = <T>(n: number, f: (i: number) => readonly T[]) => Array.from({ length: n }, (_, i) => f(i)).flat();
  const inner = [
    ...each(tokens, (t) => [get, x, ...access(0, 4 * K * t, 0), set, xs[t]!]),
    ...each(rows, (r) => [
      ...[get, w, ...access(0, 4 * K * r, weights), set, vec(sums.length + tokens)],
      ...each(tokens, (t) => [
        ...[get, xs[t]!, get, vec(sums.length + tokens), get, sums[t * rows + r]!],
        ...[...simd(0x105), set, sums[t * rows + r]!],
      ]),
    ]),
    ...[get, x, ...constant(16), add, set, x, get, w, ...constant(16), add, tee, w, get, rowEnd, lessThan],
  ];
  const body = [
    ...[0x03, 0x40], // for each tile of rows
    ...each(sums.length, (i) => [0xfd, 0x0c, ...new Array<number>(16).fill(0), set, sums[i]!]),
    ...[get, w, ...constant(4 * K), add, set, rowEnd],
    ...[0x03, 0x40, ...inner, 0x0d, 0, 0x0b],
    ...each(sums.length, (i) => [get, y, get, sums[i]!, ...access(11, 16 * i, 0)]),
    ...[get, x, ...constant(-4 * K), add, set, x, get, w, ...constant(4 * K * (rows - 1)), add, tee, w],
    ...[get, end, lessThan, 0x0d, 0, 0x0b, 0x0b],
  ];
  const code = [2, 1, address, sums.length + tokens + 1, 0x7b, ...body];
  const limits = [wide ? 7 : 3, 1, ...unsignedLeb(wide ? 262144 : 65536)];
  const section = (id: number, items: readonly (readonly number[])[]) => {
    const bytes = vector(items);
    return [id, ...unsignedLeb(bytes.length), ...bytes];
  };
  const memories = Array.from({ length: weights + 1 }, (_, i) => [...text("env"), ...text(`m${i}`), 2, ...limits]);
  return Uint8Array.from([
    ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(1, [[0x60, 4, address, address, address, address, 0]]),
    ...section(2, memories),
    ...section(3, [[0]]),
    ...section(7, [[...text("step"), 0, 0]]),
    ...section(10, [[...unsignedLeb(code.length), ...code]]),
  ]);
}

/** One run over `count` rows of weights, `times` times. */
function timed(form: Form, tokens: number, count: number, times: number) {
  const pages = Math.ceil((weightsAt + 4 * K * count) / 65536);
  const address = form.wide ? { address: "i64", initial: BigInt(pages), maximum: 262144n } : {};
  // The types of the language do not know 64-bit memories yet.
  const descriptor = { initial: pages, maximum: 65536, shared: true, ...address } as WebAssembly.MemoryDescriptor;
  const env = Object.fromEntries([0, 1].map((i) => [`m${i}`, new WebAssembly.Memory(descriptor)]));
  const memory = env[`m${form.weights}`]!;
  new Float32Array(memory.buffer, weightsAt, K * count).fill(0.01);
  new Float32Array(env.m0!.buffer, 1024, K * tokens).fill(0.01);
  const module = new WebAssembly.Module(moduleOf(form, tokens));
  const { exports } = new WebAssembly.Instance(module, { env });
  const step = exports.step as (...args: readonly (number | bigint)[]) => void; // exported above
  const args = [1024, weightsAt, 65536, weightsAt + 4 * K * count].map((each) => (form.wide ? BigInt(each) : each));
  const sum = new Float32Array(env.m0!.buffer, 65536, 1);
  const run = () => {
    for (let i = 0; i < times; i++) step(...args);
    return sum[0]!;
  };
  return { name: form.name, units: 2e-9 * tokens * K * count * times, run };
}

printReports([
  runInterleaved(
    forms.map((form) => timed(form, 1, streamed, 3)),
    { title: `matrix times vector, ${K} x ${streamed} floats from main memory`, unit: "GFLOP", warmUps: 2, rounds: 21 },
  ),
  runInterleaved(
    forms.map((form) => timed(form, tile, cached, 600)),
    {
      title: `matrix times ${tile} tokens, ${K} x ${cached} floats in the cache`,
      unit: "GFLOP",
      warmUps: 2,
      rounds: 41,
    },
  ),
]);
