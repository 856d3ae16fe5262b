/**
 * A matrix of floats times one vector on WebAssembly: bytes of weights read per second for tiles of so many rows, with so
 * many sums along each row, of rows that are neighbours or far apart (so that each stream of memory goes on from tile to
 * tile); medians, and the best in brackets, of rounds in turn.
 *
 *     node bench/kitchen/wasm-rows.ts [--dtypes f32,bf16] [--tiles 4x1,8x1,2x4far] [--threads 1,2] [--rounds 9]
 */
import { parseArgs } from "node:util";
import { compileToPlan, type Device, type Instance, openDevice } from "../../src/compile.ts";
import { maths } from "../../src/ir/build.ts";
import { Builder, makeModule } from "../../src/ir/graph.ts";
import {
  type Expr,
  iadd,
  imul,
  int,
  intrinsic,
  type Kernel,
  load,
  num,
  op,
  ref,
  splat,
  sum,
} from "../../src/ir/kernel/kernel.ts";
import { assign, bind, loop, store, variable } from "../../src/ir/kernel/stmt.ts";
import type { Plan } from "../../src/ir/plan.ts";

const { values } = parseArgs({
  options: {
    dtypes: { type: "string", default: "f32,bf16,f16" },
    tiles: { type: "string", default: "4x1,8x1,1x4,2x2far,2x4far,4x1far,4x2far,8x1far,8x2far,16x1far" },
    threads: { type: "string", default: "1,2" },
    shapes: { type: "string", default: "1536x8960,8960x1536" },
    rounds: { type: "string", default: "9" },
    megabytes: { type: "string", default: "110" },
  },
});

interface Tile {
  readonly rows: number;
  /** Vectors of a row at a time, each with a sum of its own. */
  readonly sums: number;
  readonly far: boolean;
}

const tiles = values.tiles.split(",").map((text): [string, Tile] => {
  const [rows, sums] = text.split("x").map((part) => Number.parseInt(part, 10)) as [number, number]; // two numbers
  return [text, { rows, sums, far: text.endsWith("far") }];
});

/** `copies` products of one input with weights of their own. */
function planOf(inner: number, rows: number, copies: number, device: Device): Plan {
  const builder = new Builder();
  const x = builder.param("x", "f32", [1, inner]);
  const ws = Array.from({ length: copies }, (_, i) => builder.param(`w${i}`, "f32", [rows, inner]));
  const outs = ws.map((w) => maths(builder).contract("n i, o i -> n o", x, w));
  const module = makeModule("rows", [{ name: "main", params: [x, ...ws], outs }], "main");
  return compileToPlan(module, device.target, { disabledPasses: ["merge-launches"] }).plan;
}

/** The plan with kernels that take the memory of weights for this dtype. */
function stored(plan: Plan, dtype: "f32" | "bf16" | "f16"): Plan {
  const kernels = plan.kernels.map((kernel) => ({
    ...kernel,
    bufs: kernel.bufs.map((buf) => (/^w\d/.test(buf.name) ? { ...buf, dtype } : buf)),
  }));
  return { ...plan, kernels };
}

/** The plan with kernels of this tile. */
function tiled(plan: Plan, inner: number, rows: number, tile: Tile): Plan {
  const kernels = plan.kernels.map((kernel): Kernel => {
    const [out] = kernel.bufs;
    const x = kernel.bufs.find(({ name }) => name === "x")!;
    const w = kernel.bufs.find(({ name }) => /^w\d/.test(name))!;
    const count = rows / tile.rows;
    const each = range(tile.rows).flatMap((r) => range(tile.sums).map((s) => ({ r, s, name: `acc${r}_${s}` })));
    const four = splat(num("f32", 0), 4);
    const row = (r: number): Expr =>
      tile.far ? iadd(ref("o"), int(r * count)) : iadd(imul(ref("o"), int(tile.rows)), int(r));
    const total = (r: number): Expr =>
      range(tile.sums)
        .map((s): Expr => ref(`acc${r}_${s}`, four.type))
        .reduce((a, b) => op("add", a, b));
    const body = [
      loop(
        "o",
        0,
        count,
        [
          ...each.map(({ name }) => variable(name, four)),
          loop(
            "i",
            0,
            inner,
            [
              ...range(tile.sums).map((s) => bind(`x${s}`, load(x, iadd(ref("i"), int(4 * s)), 4))),
              ...each.map(({ r, s, name }) => {
                const at = iadd(imul(row(r), int(inner)), iadd(ref("i"), int(4 * s)));
                return assign(name, intrinsic("fma", ref(`x${s}`, four.type), load(w, at, 4), ref(name, four.type)));
              }),
            ],
            "serial",
            4 * tile.sums,
          ),
          ...range(tile.rows).map((r) => store(out!, row(r), sum(total(r)))),
        ],
        "grid",
      ),
    ];
    return { ...kernel, body };
  });
  return { ...plan, kernels };
}

const range = (length: number): number[] => Array.from({ length }, (_, i) => i);

function instantiate(device: Device, plan: Plan, given?: Instance): Instance {
  const params =
    given && new Map([...plan.funcs.get(plan.entry)!.params].map(({ name }, i) => [name, given.params[i]!]));
  return device.load(plan).instantiate({
    ...(params && { params }),
    weight: () => {
      throw new Error("no weights");
    },
  });
}

const median = (times: readonly number[]) => [...times].sort((a, b) => a - b)[times.length >> 1]!;

async function measure(dtype: "f32" | "bf16" | "f16", inner: number, rows: number, threads: number): Promise<void> {
  const bytes = inner * rows * (dtype === "f32" ? 4 : 2);
  const copies = Math.max(1, Math.round((Number(values.megabytes) * 1e6) / bytes));
  const device = openDevice("wasm", { threads });
  const plan = stored(planOf(inner, rows, copies, device), dtype);
  const first = instantiate(device, plan);
  for (const data of first.params) data.fill(0.01);
  const runs = [
    ["own", first] as const,
    ...tiles.map(([name, tile]) => [name, instantiate(device, tiled(plan, inner, rows, tile), first)] as const),
  ];
  const times = runs.map((): number[] => []);
  for (const [, instance] of runs) {
    const start = performance.now();
    for (let i = 0; i < 3 || performance.now() - start < 50; i++) await instance.run();
  }
  for (let i = 0; i < Number(values.rounds); i++) {
    for (const [j, [, instance]] of runs.entries()) {
      const before = performance.now();
      await instance.run();
      times[j]!.push((performance.now() - before) / copies);
    }
  }
  const shown = runs.map(([name], j) => {
    const rate = (ms: number) => (bytes / ms / 1e6).toFixed(1);
    return `${name} ${rate(median(times[j]!))} [${rate(Math.min(...times[j]!))}]`;
  });
  console.log(`${dtype} ${inner}x${rows}, ${threads} threads, GB/s: ${shown.join("; ")}`);
  await device.close();
}

for (const threads of values.threads.split(",").map(Number)) {
  for (const dtype of values.dtypes.split(",") as ("f32" | "bf16" | "f16")[]) {
    // as the flag's text says
    for (const shape of values.shapes.split(",")) {
      const [inner, rows] = shape.split("x").map(Number) as [number, number];
      await measure(dtype, inner, rows, threads);
    }
  }
}
