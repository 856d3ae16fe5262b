/** The WebAssembly device: one memory for weights, caches, arenas and results, one module per plan. */
import { InputError, invariant } from "../../ir/errors.ts";
import { checkRunnable } from "../../ir/kernel/verify.ts";
import type { FuncPlan, Plan } from "../../ir/plan.ts";
import { wasmTarget } from "../../ir/target.ts";
import { storageLength } from "../../ir/tensor.ts";
import { byteSize, showType, type TensorType } from "../../ir/types.ts";
import type { Backend, Device, DeviceOptions, Instance, Program, ProgramMemory } from "../backend.ts";
import { rowLength } from "./driver.ts";
import { DeviceMemory } from "./memory.ts";
import { startWorker, ThreadPool } from "./pool.ts";
import { missingWasm, rulesFor } from "./probe.ts";
import { type BuiltProgram, buildProgram } from "./program.ts";
import { type Rules, simdRules } from "./rules.ts";

export const wasmBackend: Backend = {
  target: wasmTarget,
  // Text alone, so for engines without vectors too.
  emit: (plan) =>
    buildProgram(plan, { rules: missingWasm() === null ? rulesFor() : simdRules, shared: false, threaded: false })
      .sources,
  open: openDevice,
};

/** What a program needs of its device. */
interface Home {
  readonly memory: DeviceMemory;
  readonly rules: Rules;
  /** Null where the calling thread computes alone. */
  readonly pool: ThreadPool | null;
}

function openDevice(options: DeviceOptions = {}): Device {
  const { threads = 1, threadUrl, tier } = options;
  if (!Number.isInteger(threads) || threads < 1 || threads > 64) {
    throw new InputError("wasm threads", `expected a whole number from 1 to 64, got ${threads}`);
  }
  const rules = rulesFor(tier);
  const memory = new DeviceMemory();
  const pool =
    threads > 1 && memory.shared
      ? new ThreadPool(memory.memory, threads, (events) => startWorker(events, threadUrl))
      : null;
  const why = threads > 1 && pool === null ? " (no shared memory: the page is not cross-origin isolated)" : "";
  return {
    target: { ...wasmTarget, byteDots: rules.byteDots },
    summary: `WebAssembly, ${rules.tier === "relaxed" ? "relaxed SIMD" : "SIMD"}, ${pool === null ? "one thread" : `${threads} threads`}${why}`,
    allocate: (type) => memory.tensor(type),
    hold: (type, data) => {
      const held = memory.tensor(type);
      held.set(data);
      return held;
    },
    free: (data) => memory.free(memory.addressOf(data, () => "free")),
    load: (plan) => load({ memory, rules, pool }, plan),
    close: () => pool?.close(),
  };
}

function load(home: Home, plan: Plan): Program {
  plan.kernels.forEach(checkRunnable);
  const { memory, rules, pool } = home;
  const built = buildProgram(plan, { rules, shared: memory.shared, threaded: pool !== null });
  const module = new WebAssembly.Module(built.bytes);
  return { sources: built.sources, instantiate: (given) => instantiate(home, plan, built, module, given) };
}

function instantiate(
  home: Home,
  plan: Plan,
  built: BuiltProgram,
  module: WebAssembly.Module,
  given: ProgramMemory,
): Instance {
  const { memory, pool } = home;
  const entry = plan.funcs.get(plan.entry)!;
  const own: number[] = [];
  const allocate: Allocate = (bytes, what) => {
    const at = memory.allocate(bytes, what);
    own.push(at);
    return at;
  };
  const tensor = (type: TensorType) =>
    memory.view(
      type.dtype,
      allocate(byteSize(type), () => showType(type)),
      storageLength(type),
    );
  const params = entry.params.map(({ name, type }) => {
    const data = given.params?.get(name) ?? tensor(type);
    invariant(data.length === storageLength(type), () => `memory of ${name} has the wrong length`);
    return data;
  });
  const results = entry.results.map(({ type }, i) => {
    const param = entry.donated[i] ?? null;
    return param === null ? (given.results?.get(i) ?? tensor(type)) : params[param]!;
  });
  const addresses = [...params, ...results].map((data) => memory.addressOf(data, () => `@${entry.name}`));
  const arena = allocate(entry.arenaBytes, () => "the arena");
  // Each thread's scratch begins a cache line of its own.
  const scratchBytes = Math.ceil(built.scratchBytes / 64) * 64;
  const scratch = allocate(scratchBytes * (pool?.threads ?? 1), () => "scratch");
  const args = [...addresses, arena, writeRows({ memory, allocate }, plan, entry, null, given)];
  const free = () => {
    for (const at of own.splice(0)) memory.free(at);
  };
  if (given.onLaunch !== undefined) {
    return { params, results, run: profiledRun(home, plan, args, scratch, given), release: free };
  }
  if (pool !== null) {
    const id = pool.load(module, built.entry, args, scratch, scratchBytes);
    const release = () => {
      pool.forget(id);
      free();
    };
    return { params, results, run: (signal) => pool.run(id, signal), release };
  }
  const run = bindStep(module, built.entry, { memory: memory.memory }, args, scratch);
  return { params, results, run, release: free };
}

/** A step on the calling thread. */
function bindStep(
  module: WebAssembly.Module,
  entry: string,
  env: WebAssembly.ModuleImports,
  args: readonly number[],
  scratch: number,
): () => void {
  const { exports } = new WebAssembly.Instance(module, { env });
  // The driver and the global are exported by `buildProgram`.
  const step = exports[entry] as (...args: readonly number[]) => void;
  (exports.scratch as WebAssembly.Global<"i32">).value = scratch | 0;
  return () => step(...args);
}

/** The same on the calling thread alone, which hears of every launch. */
function profiledRun(
  { memory, rules }: Home,
  plan: Plan,
  args: readonly number[],
  scratch: number,
  { onLaunch }: ProgramMemory,
): () => void {
  const built = buildProgram(plan, { rules, shared: memory.shared, threaded: false, profiled: true });
  let last = 0;
  const launched = (kernel: number) => {
    const now = performance.now();
    onLaunch?.(kernel, now - last);
    last = performance.now();
  };
  const step = bindStep(
    new WebAssembly.Module(built.bytes),
    built.entry,
    { memory: memory.memory, launched },
    args,
    scratch,
  );
  return () => {
    last = performance.now();
    step();
  };
}

type Allocate = (bytes: number, what: () => string) => number;

/** Writes a function's row and those of what it calls (see `driver.ts`); gives its address. */
function writeRows(
  home: { readonly memory: DeviceMemory; readonly allocate: Allocate },
  plan: Plan,
  func: FuncPlan,
  layer: number | null,
  given: ProgramMemory,
): number {
  const { memory, allocate } = home;
  const where = () => `@${func.name}${layer === null ? "" : ` of layer ${layer}`}`;
  const weights = func.weights.map((_, i) => memory.addressOf(given.weight(func.name, i, layer), where));
  const callees = func.steps.flatMap((step) =>
    step.step === "call" ? [writeRows(home, plan, plan.funcs.get(step.func)!, step.layer, given)] : [],
  );
  const at = allocate(4 * rowLength(func), () => `the table of ${where()}`);
  new Int32Array(memory.memory.buffer, at, rowLength(func)).set([...weights, ...callees]);
  return at;
}
