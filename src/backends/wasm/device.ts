/** The WebAssembly device: one memory for weights, caches, arenas and results, one module per plan, perhaps threads. */
import { InputError, invariant } from "../../ir/errors.ts";
import { checkRunnable } from "../../ir/kernel/verify.ts";
import type { Plan } from "../../ir/plan.ts";
import { wasmTarget } from "../../ir/target.ts";
import { storageLength } from "../../ir/tensor.ts";
import type { Backend, Device, DeviceOptions, Instance, Program, ProgramMemory } from "../backend.ts";
import { Home, type HomeOptions } from "./home.ts";
import { missingWasm, rulesFor } from "./probe.ts";
import { type BuiltProgram, buildProgram } from "./program.ts";
import { measureReading } from "./reading.ts";
import { writeRows } from "./rows.ts";
import { rulesOf } from "./rules.ts";

export const wasmBackend: Backend = {
  target: wasmTarget,
  // Text alone, so for engines without vectors too.
  emit: (plan) =>
    buildProgram(plan, { rules: missingWasm() === null ? rulesFor() : rulesOf.simd, shared: false }).sources,
  open: (options) => openWasm(options),
};

/** Opens a device; `more` is for tests of what large programs need. */
export function openWasm(options: DeviceOptions = {}, more: HomeOptions = {}): Device {
  const { threads = 1, tier } = options;
  if (!Number.isInteger(threads) || threads < 1 || threads > 64) {
    throw new InputError("wasm threads", `expected a whole number from 1 to 64, got ${threads}`);
  }
  const home = new Home(rulesFor(tier), threads, more);
  return {
    target: wasmTarget,
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
    load: (plan) => load(home, plan),
    measureReading: () => measureReading(home),
    close: () => home.close(),
  };
}

function load(home: Home, plan: Plan): Program {
  plan.kernels.forEach(checkRunnable);
  home.prepareFor(plan);
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
  const { memory } = home;
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
  const args = [...addresses, arena, writeRows(memory, plan, entry, null, given)];
  const run =
    given.onLaunch === undefined ? home.bind({ built, module, args }) : profiledRun(home, plan, args, given.onLaunch);
  return { params, results, run };
}

/** A step on the calling thread alone, which hears of every launch. */
function profiledRun(
  home: Home,
  plan: Plan,
  args: readonly number[],
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
  const step = home.bindHere({ built, module, args }, { launched });
  return () => {
    last = performance.now();
    step();
  };
}
