/** The WebAssembly device: one memory for weights, caches, arenas and results, one module per plan, perhaps threads. */
import { InputError, invariant } from "../../ir/errors.ts";
import { checkRunnable } from "../../ir/kernel/runnable.ts";
import type { Plan } from "../../ir/plan.ts";
import { wasmTarget } from "../../ir/target.ts";
import { storageLength } from "../../ir/tensor.ts";
import {
  type Backend,
  checkThreads,
  type Device,
  type DeviceOptions,
  type Instance,
  type Program,
  type ProgramMemory,
} from "../backend.ts";
import { Allotment } from "./allotment.ts";
import { type Bound, bytesOf, Home, type HomeOptions, type Placed } from "./home.ts";
import { missingWasm, rulesFor } from "./probe.ts";
import { type BuiltProgram, buildProgram, type ProgramEntry } from "./program.ts";
import { measureReading } from "./reading.ts";
import { writeRows } from "./rows.ts";
import { simdRules } from "./rules.ts";

export const wasmBackend: Backend = {
  target: wasmTarget,
  // Text alone, so for engines without vectors too.
  emit: (plan) => buildProgram(plan, { rules: missingWasm() === null ? rulesFor() : simdRules, shared: false }).sources,
  open: (options) => openWasm(options),
};

/** Opens a device; `more` is for tests of what large programs need. */
export function openWasm(options: DeviceOptions = {}, more: HomeOptions = {}): Device {
  const { threads = 1, guests = 0, threadUrl, tier } = options;
  checkThreads(threads, "wasm threads");
  if (!Number.isInteger(guests) || guests < 0 || (guests > 0 && threads > 1)) {
    throw new InputError("wasm guests", `expected a whole number, above 0 with one thread alone, got ${guests}`);
  }
  const rules = rulesFor(tier);
  const home = new Home(rules, threads, { ...more, threadUrl, guests });
  return {
    target: { ...wasmTarget, byteDots: rules.byteDots },
    get summary() {
      return home.summary;
    },
    allocate: (type) => home.memory.tensor(type),
    hold: (type, data) => {
      const held = home.memory.tensor(type);
      held.set(data);
      return held;
    },
    free: (data) => home.memory.free(home.memory.addressOf(data, () => "free")),
    expect: (bytes) => home.prepareFor(bytes),
    load: (plan) => load(home, plan),
    measureReading: () => measureReading(home),
    offer: () => home.host?.offer() ?? null,
    heldBytes: () => home.memory.bytes,
    close: () => home.close(),
  };
}

function load(home: Home, plan: Plan): Program {
  plan.kernels.forEach(checkRunnable);
  home.prepareFor(bytesOf(plan));
  const built = buildProgram(plan, home.moduleOptions);
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
  const memory = new Allotment(home.memory);
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
  const addresses = [...params, ...results].map((data) => home.memory.addressOf(data, () => `@${entry.name}`));
  const arena = memory.share(home.arenas, entry.arenaBytes);
  const args = [...addresses, arena, writeRows(memory, plan, entry, null, given)];
  const placed = (entry: ProgramEntry): Placed => ({ built: { ...built, ...entry }, module, args, memory });
  if (given.onLaunch !== undefined) {
    const run = profiledRun(home, plan, placed(built.whole), given.onLaunch);
    return { params, results, run, release: () => memory.free() };
  }
  const whole = home.bind(placed(built.whole));
  let kept: Bound | undefined;
  const runKept = (signal?: AbortSignal) => {
    kept ??= built.kept === null ? whole : home.bind(placed(built.kept));
    return kept.run(signal);
  };
  const release = () => {
    whole.forget();
    if (kept !== whole) kept?.forget();
    memory.free();
  };
  return { params, results, run: whole.run, runKept, release };
}

/** A step on the calling thread alone, which hears of every launch. */
function profiledRun(
  home: Home,
  plan: Plan,
  placed: Placed,
  onLaunch: (kernel: number, ms: number) => void,
): () => void {
  const built = buildProgram(plan, { ...home.moduleOptions, threads: 1, profiled: true });
  const module = new WebAssembly.Module(built.bytes);
  let last = 0;
  const launched = (kernel: number) => {
    const now = performance.now();
    onLaunch(kernel, now - last);
    last = performance.now();
  };
  const step = home.bindHere({ ...placed, built: { ...built, ...built.whole }, module }, { launched });
  return () => {
    last = performance.now();
    step();
  };
}
