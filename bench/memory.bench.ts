/**
 * Memory as planned and as measured: `node bench/memory.bench.ts [--folder F] [--layers 4] [--backends wasm,js]
 * [--formats stored,f32,int8,int4] [--packages FOLDER]` (Linux: memory is read from /proc/self/status). The demo model and a made-up one of
 * the shape of R1-Distill-Qwen-1.5B, each loaded in a process of its own, where a prompt and an answer fill its caches.
 */
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { parseModelConfigText } from "../src/models/deepseek/config.ts";
import { backendHoldings, memoryOn, tokenizerBytes } from "../src/plan/backend-memory.ts";
import type { Precision } from "../src/plan/model-memory.ts";
import { showBytes } from "../src/plan/show.ts";
import { sizesOfConfig } from "../src/plan/weight-groups.ts";
import { loadModel } from "../src/runtime/load-model.ts";
import { makeCheckpoint } from "./cpu/make/make-models.ts";
import { shapeOf } from "./cpu/make/shapes.ts";

interface Job {
  readonly folder: string;
  readonly backend: string;
  readonly precision: Precision;
  readonly threads: number;
  readonly context: number;
  readonly packageFolder: string;
}

interface Measured {
  readonly resident: number;
  readonly peak: number;
  readonly weights: number;
  /** What the device manages, where it does. */
  readonly held: number | null;
}

function statusBytes(field: string): number {
  const line = new RegExp(`^${field}:\\s+(\\d+) kB`, "m").exec(readFileSync("/proc/self/status", "utf8"));
  return 1024 * Number(line?.[1] ?? Number.NaN);
}

/** Garbage goes, and with it what the heap keeps for more: a process is measured by what it needs. */
async function collect(): Promise<void> {
  const gc = globalThis.gc as unknown as (how: object) => void; // with --expose-gc, of Node 22 and later
  for (let i = 0; i < 3; i++) {
    gc({ type: "major", execution: "sync", flavor: "last-resort" });
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

async function perform({ folder, backend, precision, threads, context, packageFolder }: Job): Promise<Measured> {
  const activations = precision === "f32" ? {} : { activations: "int8" as const };
  const quantize = precision === "stored" ? {} : { quantize: { weights: precision, ...activations } };
  const size = { contextLength: context, maxSequences: 1 };
  const model = await loadModel(folder, { backend, threads, ...size, ...quantize, packageFolder });
  // Plain JavaScript takes minutes for a long prompt of a large model; what is left empty of its cache is not resident.
  const length = backend === "js" || backend === "tfjs-cpu" || backend === "webgpu" ? 16 : context - 4;
  const prompt = Array.from({ length }, (_, i) => 7 + ((i * 2654435761) % 4001));
  await model.generate(prompt, { maxTokens: 4, ignoreEos: true, temperature: 0 }).result;
  await collect();
  const held = model.device?.heldBytes?.() ?? null;
  return { resident: statusBytes("VmRSS"), peak: statusBytes("VmHWM"), weights: model.memory.weights, held };
}

function inProcess(job: Job): Measured {
  const { stdout, stderr, status } = spawnSync(
    process.execPath,
    ["--expose-gc", ...process.execArgv, fileURLToPath(import.meta.url)],
    {
      env: { ...process.env, CIUIC_MEMORY_JOB: JSON.stringify(job) },
      encoding: "utf8",
    },
  );
  if (status !== 0) throw new Error(stderr);
  return JSON.parse(stdout) as Measured; // what the child prints
}

const percent = (planned: number, measured: number) => `${(100 * (planned / measured - 1)).toFixed(1)} %`;

function main(): void {
  const { values } = parseArgs({
    options: {
      folder: { type: "string" },
      layers: { type: "string", default: "4" },
      backends: { type: "string", default: "wasm,js" },
      formats: { type: "string", default: "stored,f32,int8,int4" },
      threads: { type: "string", default: "2" },
      context: { type: "string", default: "1024" },
      packages: { type: "string", default: fileURLToPath(new URL("../.cache/tensorflow", import.meta.url)) },
      demo: { type: "boolean", default: true },
      made: { type: "boolean", default: true },
      keep: { type: "boolean", default: false },
    },
    allowNegative: true,
  });
  const shape = shapeOf("qwen", Number(values.layers));
  const made = values.made ? makeCheckpoint(shape, "bf16", values.folder ?? tmpdir(), console.error) : null;
  const folders = [
    ...(values.demo ? [fileURLToPath(new URL("../models/tiny-deepseek", import.meta.url))] : []),
    ...(made === null ? [] : [made]),
  ];
  const context = Number(values.context);
  console.log(
    "| model | backend | weights | planned resident | measured | error | peak while loading | buffers planned, measured |",
  );
  console.log("| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |");
  try {
    for (const folder of folders) {
      const sizes = sizesOfConfig(parseModelConfigText(readFileSync(join(folder, "config.json"), "utf8")));
      for (const backend of values.backends.split(",")) {
        for (const format of values.formats.split(",")) {
          const precision = format as Precision; // of the flag; a wrong one is refused below
          const holding = backendHoldings.find((each) => each.backend === backend)!;
          const threads = backend === "wasm" ? Number(values.threads) : 1;
          const planned = memoryOn(holding, precision, sizes, { context, sequences: 1, tokens: 128, threads });
          // A made-up model has no tokenizer.
          const without = existsSync(join(folder, "tokenizer.json")) ? 0 : tokenizerBytes(sizes.vocab);
          const resident = planned.resident - without;
          const measured = inProcess({ folder, backend, precision, threads, context, packageFolder: values.packages });
          const held =
            measured.held === null
              ? ""
              : `${showBytes(planned.device)}, ${showBytes(measured.held)}: ${percent(planned.device, measured.held)}`;
          console.log(
            `| ${folder.split("/").at(-1)} | ${backend} | ${precision} | ${showBytes(resident)} | ${showBytes(measured.resident)} | ${percent(resident, measured.resident)} | ${showBytes(measured.peak)} | ${held} |`,
          );
        }
      }
    }
  } finally {
    if (made !== null && !values.keep) rmSync(made, { recursive: true });
  }
}

const given = process.env.CIUIC_MEMORY_JOB;
if (given === undefined) main();
else {
  console.log(JSON.stringify(await perform(JSON.parse(given) as Job))); // what `inProcess` wrote
  process.exit(0);
}
