/** The WebAssembly device: one memory for weights, caches, arenas and results, one module per plan. */
import { InputError, invariant } from "../../ir/errors.ts";
import { checkRunnable } from "../../ir/kernel/verify.ts";
import type { FuncPlan, Plan } from "../../ir/plan.ts";
import { wasmTarget } from "../../ir/target.ts";
import { storageLength } from "../../ir/tensor.ts";
import type { Backend, Device, DeviceOptions, Instance, Program, ProgramMemory } from "../backend.ts";
import { rowLength } from "./driver.ts";
import { DeviceMemory } from "./memory.ts";
import { startWorker, ThreadPool } from "./pool.ts";
import { rulesFor } from "./probe.ts";
import { type BuiltProgram, buildProgram } from "./program.ts";
import type { Rules } from "./rules.ts";

export const wasmBackend: Backend = {
  target: wasmTarget,
  emit: (plan) => buildProgram(plan, { rules: rulesFor(undefined), shared: false, threaded: false }).sources,
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
    target: wasmTarget,
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
  { memory, pool }: Home,
  plan: Plan,
  built: BuiltProgram,
  module: WebAssembly.Module,
  given: ProgramMemory,
): Instance {
  const entry = plan.funcs.get(plan.entry)!;
  const params = entry.params.map(({ name, type }) => {
    const data = given.params?.get(name) ?? memory.tensor(type);
    invariant(data.length === storageLength(type), () => `memory of ${name} has the wrong length`);
    return data;
  });
  const results = entry.results.map(({ type }, i) => {
    const param = entry.donated[i] ?? null;
    return param === null ? (given.results?.get(i) ?? memory.tensor(type)) : params[param]!;
  });
  const addresses = [...params, ...results].map((data) => memory.addressOf(data, () => `@${entry.name}`));
  const arena = memory.allocate(entry.arenaBytes, () => "the arena");
  // Each thread's scratch begins a cache line of its own.
  const scratchBytes = Math.ceil(built.scratchBytes / 64) * 64;
  const scratch = memory.allocate(scratchBytes * (pool?.threads ?? 1), () => "scratch");
  const args = [...addresses, arena, writeRows(memory, plan, entry, null, given)];
  if (pool !== null) {
    const id = pool.load(module, built.entry, args, scratch, scratchBytes);
    return { params, results, run: (signal) => pool.run(id, signal) };
  }
  const { exports } = new WebAssembly.Instance(module, { env: { memory: memory.memory } });
  // The driver and the global are exported by `buildProgram`.
  const step = exports[built.entry] as (...args: number[]) => void;
  (exports.scratch as WebAssembly.Global<"i32">).value = scratch | 0;
  return { params, results, run: () => step(...args) };
}

/** Writes a function's row and those of what it calls (see `driver.ts`); gives its address. */
function writeRows(
  memory: DeviceMemory,
  plan: Plan,
  func: FuncPlan,
  layer: number | null,
  given: ProgramMemory,
): number {
  const where = () => `@${func.name}${layer === null ? "" : ` of layer ${layer}`}`;
  const weights = func.weights.map((_, i) => memory.addressOf(given.weight(func.name, i, layer), where));
  const callees = func.steps.flatMap((step) =>
    step.step === "call" ? [writeRows(memory, plan, plan.funcs.get(step.func)!, step.layer, given)] : [],
  );
  const at = memory.allocate(4 * rowLength(func), () => `the table of ${where()}`);
  new Int32Array(memory.memory.buffer, at, rowLength(func)).set([...weights, ...callees]);
  return at;
}
