/**
 * Loading: time and memory, `node bench/load.bench.ts [--layers 4] [--vocab 32768] [--folder F] [--threads 1,2] [--json]`
 * (Linux: memory is read from /proc/self/status). The demo model and a made-up one of the shape of R1-Distill-Qwen-1.5B are
 * loaded quantised, each in a process of its own. Beside it stand a process that compiles the same step and loads nothing,
 * whose memory is the overhead that does not depend on weights, and one that only reads the files: no load can be faster.
 */
import { spawnSync } from "node:child_process";
import { closeSync, openSync, readdirSync, readFileSync, readSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { openDevice } from "../src/compile.ts";
import { parseModelConfigText } from "../src/models/deepseek/config.ts";
import { loadModel } from "../src/runtime/load-model.ts";
import { ModelRunner } from "../src/runtime/steps/model-runner.ts";
import { WeightStore } from "../src/runtime/weights/weight-store.ts";
import { makeCheckpoint } from "./cpu/make/make-models.ts";
import { shapeOf } from "./cpu/make/shapes.ts";

interface Job {
  readonly what: "load" | "compile" | "read";
  readonly folder: string;
  readonly threads: number;
  readonly weights: "int4" | "int8";
  readonly method: "range" | "mse";
}

interface Measured {
  readonly seconds: number;
  /** Resident bytes at the end, and at most. */
  readonly resident: number;
  readonly peak: number;
  /** Of the file, of compiled weights and of caches. */
  readonly file: number;
  readonly packed: number;
  readonly caches: number;
  /** Reserved by the memory of the device, not resident. */
  readonly virtual: number;
}

const contextLength = 256;

function statusBytes(field: string): number {
  const line = new RegExp(`^${field}:\\s+(\\d+) kB`, "m").exec(readFileSync("/proc/self/status", "utf8"));
  return 1024 * Number(line?.[1] ?? Number.NaN);
}

function weightFiles(folder: string): string[] {
  return readdirSync(folder)
    .filter((name) => name.endsWith(".safetensors"))
    .map((name) => join(folder, name));
}

async function perform({ what, folder, threads, weights, method }: Job): Promise<Measured> {
  const quantize = { weights, activations: "int8", method } as const;
  const file = weightFiles(folder).reduce((sum, name) => sum + statSync(name).size, 0);
  let [packed, caches] = [0, 0];
  const start = performance.now();
  if (what === "read") {
    const block = new Uint8Array(2 ** 21);
    for (const name of weightFiles(folder)) {
      const handle = openSync(name, "r");
      while (readSync(handle, block) > 0);
      closeSync(handle);
    }
  } else if (what === "load") {
    const model = await loadModel(folder, { backend: "wasm", threads, contextLength, maxSequences: 1, quantize });
    packed = model.memory.weights;
    caches = model.memory.caches;
  } else {
    const config = parseModelConfigText(readFileSync(join(folder, "config.json"), "utf8"));
    const device = openDevice("wasm", { threads });
    const limits = { tokens: 128, sequences: 1, blocks: 16, outputs: 128, blockSize: 16, slots: 256, ropeRows: 256 };
    const store = new WeightStore(() => Promise.reject(new Error("nothing is read")), device);
    new ModelRunner(config, store, { device, limits, build: {}, compile: { quantize } }).compile({
      tokens: 1,
      sequences: 1,
      blocks: 1,
      outputs: 1,
    });
  }
  const seconds = (performance.now() - start) / 1000;
  const memory = { resident: statusBytes("VmRSS"), peak: statusBytes("VmHWM"), virtual: statusBytes("VmSize") };
  return { seconds, file, packed, caches, ...memory };
}

function inProcess(job: Job): Measured {
  const script = fileURLToPath(import.meta.url);
  const { stdout, stderr, status } = spawnSync(process.execPath, [...process.execArgv, script], {
    env: { ...process.env, CIUIC_LOAD_JOB: JSON.stringify(job) },
    encoding: "utf8",
  });
  if (status !== 0) throw new Error(stderr);
  return JSON.parse(stdout) as Measured; // what the child prints
}

const megabytes = (bytes: number) => `${(bytes / 1e6).toFixed(0)} MB`;

function report(name: string, job: Job, empty: Measured, read: Measured): string {
  const loaded = inProcess(job);
  const kept = loaded.packed + loaded.caches;
  const over = (bytes: number) => `${((bytes - empty.resident) / kept).toFixed(2)}`;
  const rate = (loaded.file / 1e6 / loaded.seconds).toFixed(0);
  return [
    `${name}, ${job.weights} ${job.method}, ${job.threads} thread${job.threads > 1 ? "s" : ""}: ${loaded.seconds.toFixed(2)} s`,
    `(compiling ${empty.seconds.toFixed(2)} s of it; reading alone ${read.seconds.toFixed(2)} s), ${rate} MB/s of ${megabytes(loaded.file)};`,
    `packed and caches ${megabytes(kept)}, resident ${megabytes(loaded.resident)}, at most ${megabytes(loaded.peak)},`,
    `without weights ${megabytes(empty.resident)}: what weights add is ${over(loaded.resident)} of them, at most ${over(loaded.peak)}; virtual ${megabytes(loaded.virtual)}`,
  ].join(" ");
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      layers: { type: "string", default: "4" },
      vocab: { type: "string", default: "32768" },
      folder: { type: "string" },
      threads: { type: "string", default: "1,2" },
      method: { type: "string", default: "range,mse" },
      keep: { type: "boolean", default: false },
      demo: { type: "boolean", default: true },
    },
    allowNegative: true,
  });
  const shape = shapeOf("qwen", Number(values.layers), Number(values.vocab));
  const made = makeCheckpoint(shape, "bf16", values.folder ?? join(tmpdir(), "ciuic-load"), console.error);
  const demo = fileURLToPath(new URL("../models/tiny-deepseek", import.meta.url));
  const folders = [...(values.demo ? [["demo model", demo] as const] : []), ["made-up model", made] as const];
  try {
    for (const [name, folder] of folders) {
      for (const threads of values.threads.split(",").map(Number)) {
        const job: Job = { what: "load", folder, threads, weights: "int4", method: "range" };
        const empty = inProcess({ ...job, what: "compile" });
        const read = inProcess({ ...job, what: "read" });
        for (const method of values.method.split(",")) {
          console.log(report(name, { ...job, method: method === "mse" ? "mse" : "range" }, empty, read));
        }
      }
    }
  } finally {
    if (!values.keep) rmSync(made, { recursive: true });
  }
}

const given = process.env.CIUIC_LOAD_JOB;
if (given === undefined) await main();
else {
  console.log(JSON.stringify(await perform(JSON.parse(given) as Job))); // what `inProcess` wrote
  process.exit(0);
}
