/**
 * Which form of a dot-product kernel plain JavaScript runs fastest: rows per iteration, tokens per tile, and whether sums
 * are kept as doubles or rounded to f32. The kernels go through the kernel passes and the emitter as a model's do.
 *
 *     node bench/kitchen/js-dot.ts
 */
import { compileKernel, type JsKernel } from "../../src/backends/js/emit.ts";
import {
  type Buf,
  cast,
  type Expr,
  iadd,
  imul,
  int,
  type Kernel,
  load,
  num,
  op,
  ref,
  type Stmt,
} from "../../src/ir/kernel/kernel.ts";
import { assign, bind, loop, store, variable } from "../../src/ir/kernel/stmt.ts";
import { hoistInvariants } from "../../src/passes/kernel/hoist.ts";
import { simplifyIndices } from "../../src/passes/kernel/indices.ts";

const [K, N] = [1536, 8960];

/** y[m,n] = sum over k of x[m,k] * w[n,k], `tokens` x `rows` sums at a time. */
function dotKernel(M: number, tokens: number, rows: number, sum: "f32" | "f64"): Kernel {
  const buf = (name: string, shape: readonly [number, number], access: Buf["access"]): Buf => {
    return { name, dtype: "f32", size: shape[0] * shape[1], shape, access, space: "global" };
  };
  const [x, w, y] = [buf("x", [M, K], "read"), buf("w", [N, K], "read"), buf("y", [M, N], "write")];
  const at = (name: string, i: number) => iadd(ref(name), int(i));
  const each = <T>(f: (t: number, r: number) => T): T[] =>
    Array.from({ length: tokens * rows }, (_, i) => f(Math.floor(i / rows), i % rows));
  const value = (from: Buf, row: Expr): Expr => cast(sum, load(from, iadd(imul(row, int(K)), ref("k"))));
  const inner: Stmt[] = [
    ...Array.from({ length: tokens }, (_, t) => bind(`x${t}`, value(x, at("m", t)))),
    ...Array.from({ length: rows }, (_, r) => bind(`w${r}`, value(w, at("n", r)))),
    ...each((t, r) => {
      const name = `s${t}_${r}`;
      return assign(name, op("add", ref(name, sum), op("mul", ref(`x${t}`, sum), ref(`w${r}`, sum))));
    }),
  ];
  const tile: Stmt[] = [
    ...each((t, r) => variable(`s${t}_${r}`, num(sum, 0))),
    loop("k", 0, K, inner),
    ...each((t, r) => store(y, iadd(imul(at("m", t), int(N)), at("n", r)), ref(`s${t}_${r}`, sum))),
  ];
  const body = [loop("n", 0, N, [loop("m", 0, M, tile, "serial", tokens)], "grid", rows)];
  return { name: `dot_${tokens}x${rows}_${sum}`, origin: [], bufs: [x, w, y], body };
}

const compile = (kernel: Kernel): JsKernel => compileKernel(hoistInvariants(simplifyIndices(kernel)));
const random = (n: number) => Float32Array.from({ length: n }, () => Math.random() - 0.5);
// Several sets of weights in turn, so that they come from memory as in a model.
const weights = Array.from({ length: 4 }, () => random(N * K));

function measure(M: number, shapes: readonly (readonly [number, number])[], rounds: number): void {
  const cases = (["f64", "f32"] as const).flatMap((sum) => shapes.map(([t, r]) => compile(dotKernel(M, t, r, sum))));
  const [x, y] = [random(M * K), new Float32Array(M * N)];
  const times = cases.map(() => [] as number[]);
  for (let round = 0; round < rounds + 2; round++) {
    cases.forEach((kernel, i) => {
      const start = performance.now();
      kernel.run([x, weights[round % weights.length]!, y]);
      if (round >= 2) times[i]!.push(performance.now() - start);
    });
  }
  cases.forEach((kernel, i) => {
    const sorted = times[i]!.sort((a, b) => a - b);
    const show = (ms: number) =>
      `${((K * N * 4) / ms / 1e6).toFixed(2)} GB/s ${((2 * K * N * M) / ms / 1e6).toFixed(2)} GFLOP/s`;
    console.log(kernel.name.padEnd(14), "median", show(sorted[sorted.length >> 1]!), "best", show(sorted[0]!));
  });
}

if (process.argv.includes("--source")) console.log(compile(dotKernel(1, 1, 4, "f64")).source);
console.log(`one token: ${N} x ${K}`);
measure(
  1,
  [
    [1, 1],
    [1, 2],
    [1, 4],
    [1, 8],
  ],
  9,
);
console.log("16 tokens");
measure(
  16,
  [
    [1, 4],
    [2, 2],
    [4, 2],
    [2, 4],
    [4, 4],
  ],
  3,
);
