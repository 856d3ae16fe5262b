/**
 * Products of codes on WebAssembly, one matrix at a time: bytes of packed weights read per second and operations per
 * second at real shapes, for each kind of products that the engine has, against a loop that only reads the same bytes:
 * medians, and the best in brackets, of rounds in turn.
 *
 *     node bench/kitchen/wasm-dots.ts [--bits 4,8] [--tokens 1] [--threads 1,2] [--tiers quads,pairs,simd] [--rounds 5]
 */
import { parseArgs } from "node:util";
import { compileToPlan, type Device, type Instance, openDevice } from "../../src/compile.ts";
import { Builder, makeModule } from "../../src/ir/graph.ts";
import { type Buf, type Expr, iadd, type Kernel, load, num, op, ref, splat, sum } from "../../src/ir/kernel/kernel.ts";
import { assign, loop, store, variable } from "../../src/ir/kernel/stmt.ts";
import { dotBlock } from "../../src/ir/ops/dot.ts";
import type { Plan } from "../../src/ir/plan.ts";

const { values } = parseArgs({
  allowNegative: true,
  options: {
    bits: { type: "string", default: "4,8" },
    tokens: { type: "string", default: "1" },
    threads: { type: "string", default: "1,2" },
    tiers: { type: "string", default: "quads,pairs,simd" },
    shapes: { type: "string", default: "1536x8960,8960x1536,1536x18992" },
    rounds: { type: "string", default: "5" },
    megabytes: { type: "string", default: "96" },
    read: { type: "boolean", default: true },
    text: { type: "boolean", default: false },
  },
});
const list = (text: string) => text.split(",").map(Number);
/** Bytes of weights that one step reads, so that they come from memory and not from a cache. */
const stepBytes = Number(values.megabytes) * 1e6;

interface Setting {
  readonly inner: number;
  readonly rows: number;
  readonly bits: number;
  readonly tokens: number;
}

/** `copies` products of one input with weights of their own. */
function planOf({ inner, rows, bits, tokens }: Setting, copies: number, device: Device): Plan {
  const builder = new Builder();
  const groups = inner / 32;
  const x = builder.param("x", "i8", [tokens, inner]);
  const xScale = builder.param("x_scale", "f32", [tokens, groups]);
  const xSum = builder.param("x_sum", "f32", [tokens, groups]);
  const params = [x, xScale, xSum];
  const outs = Array.from({ length: copies }, (_, i) => {
    const block = dotBlock(bits);
    const w = builder.param(`w${i}`, "u8", [rows / block, groups, 8, 4, 4]);
    const wScale = builder.param(`w_scale${i}`, "f16", [rows / block, groups, block]);
    params.push(w, wScale);
    return builder.make("dotGroups", [x, xScale, xSum, w, wScale], { bits, zero: bits === 8 ? 128 : 8 });
  });
  const module = makeModule("dots", [{ name: "main", params, outs }], "main");
  return compileToPlan(module, device.target).plan;
}

/** The same plan with kernels that add up the bytes of the weights and their scales, and do nothing else. */
function readingPlan(plan: Plan): Plan {
  const kernels = plan.kernels.map((kernel): Kernel => {
    const bufs = kernel.bufs.filter(({ space }) => space === "global").map(asWords);
    const weights = bufs.find(({ name }) => /^w\d/.test(name))!;
    const count = weights.size / 4096;
    const accs = Array.from({ length: 8 }, (_, i) => ({ name: `acc${i}`, type: splat(num("i32", 0), 4).type }));
    const at = (row: Expr, offset: number) =>
      load(weights, iadd(op("mul", row, num("i32", 4096)), iadd(ref("i"), num("i32", offset))), 4);
    const body = [
      loop(
        "q",
        0,
        Math.floor(count / 4),
        [
          ...accs.map(({ name }) => variable(name, splat(num("i32", 0), 4))),
          loop(
            "i",
            0,
            4096,
            [0, 1, 2, 3].flatMap((stream) =>
              accs.map(({ name, type }, i) =>
                assign(
                  name,
                  op("add", ref(name, type), at(iadd(op("mul", ref("q"), num("i32", 4)), num("i32", stream)), 4 * i)),
                ),
              ),
            ),
            "serial",
            32,
          ),
          ...accs.map(({ name, type }) => store(bufs[0]!, ref("q"), sum(ref(name, type)))),
        ],
        "grid",
      ),
    ];
    return { ...kernel, bufs, body };
  });
  return { ...plan, kernels };
}

const asWords = (buf: Buf): Buf => {
  const bytes = { f32: 4, i32: 4, i8: 1, u8: 1, f16: 2 }[buf.dtype as "f32"];
  return { ...buf, dtype: "i32", size: Math.floor((buf.size * bytes) / 4) };
};

function instantiate(device: Device, plan: Plan): Instance {
  const program = device.load(plan);
  if (values.text) console.log(plan.kernels[0] && program.sources[0]);
  return program.instantiate({
    weight: () => {
      throw new Error("no weights");
    },
  });
}

function fill(instance: Instance): void {
  let state = 1;
  for (const data of instance.params) {
    if (data instanceof Float32Array) data.fill(0.01);
    else if (data instanceof Uint16Array) data.fill(0x2100);
    else {
      for (let i = 0; i < data.length; i++) {
        state = (Math.imul(state, 1664525) + 1013904223) | 0;
        data[i] = state >> 24;
      }
    }
  }
}

const median = (times: readonly number[]) => [...times].sort((a, b) => a - b)[times.length >> 1]!;

async function measure(setting: Setting, threads: number): Promise<void> {
  const { inner, rows, bits, tokens } = setting;
  const bytes = (rows * inner * bits) / 8 + (rows * inner) / 16;
  const copies = tokens > 1 ? 1 : Math.max(1, Math.round(stepBytes / bytes));
  const runs: { name: string; device: Device; instance: Instance; times: number[] }[] = [];
  for (const tier of values.tiers.split(",")) {
    const device = openDevice("wasm", { threads, tier });
    const plan = planOf(setting, copies, device);
    const instance = instantiate(device, plan);
    fill(instance);
    runs.push({ name: tier, device, instance, times: [] });
    if (runs.length === 1 && values.read) {
      const reading = instantiate(device, readingPlan(plan));
      fill(reading);
      runs.push({ name: "read", device, instance: reading, times: [] });
    }
  }
  const rounds = Number(values.rounds);
  // The first calls run code that the engine has not optimised yet, which it does beside them.
  for (const { instance } of runs) {
    const start = performance.now();
    for (let i = 0; i < 5 || performance.now() - start < 400; i++) await instance.run();
  }
  for (let i = 0; i < rounds; i++) {
    for (const { instance, times } of runs) {
      const before = performance.now();
      await instance.run();
      times.push((performance.now() - before) / copies);
    }
  }
  const shown = runs.map(({ name, times }) => {
    const rate = bytes / median(times) / 1e6;
    const best = bytes / Math.min(...times) / 1e6;
    const gops = (2 * rows * inner * tokens) / median(times) / 1e6;
    const most = (2 * rows * inner * tokens) / Math.min(...times) / 1e6;
    const operations = name === "read" ? "" : ` ${gops.toFixed(0)} [${most.toFixed(0)}] GOP/s`;
    return `${name} ${rate.toFixed(1)} [${best.toFixed(1)}] GB/s${operations}`;
  });
  console.log(`int${bits} ${inner}x${rows}, ${tokens} tokens, ${threads} threads: ${shown.join("; ")}`);
  for (const { device } of runs) await device.close();
}

for (const threads of list(values.threads)) {
  for (const bits of list(values.bits)) {
    for (const shape of values.shapes.split(",")) {
      const [inner, rows] = shape.split("x").map(Number) as [number, number];
      for (const tokens of list(values.tokens)) await measure({ inner, rows, bits, tokens }, threads);
    }
  }
}
