/** The WebAssembly device: one memory for weights, caches, arenas and results, one module per plan. */
import { invariant } from "../../ir/errors.ts";
import { checkRunnable } from "../../ir/kernel/verify.ts";
import type { FuncPlan, Plan } from "../../ir/plan.ts";
import { wasmTarget } from "../../ir/target.ts";
import { storageLength } from "../../ir/tensor.ts";
import type { Backend, Device, DeviceOptions, Instance, Program, ProgramMemory } from "../backend.ts";
import { rowLength } from "./driver.ts";
import { DeviceMemory } from "./memory.ts";
import { type BuiltProgram, buildProgram } from "./program.ts";
import { rulesOf } from "./rules.ts";

export const wasmBackend: Backend = {
  target: wasmTarget,
  emit: (plan) => buildProgram(plan, { rules: rulesOf.relaxed, shared: false, threaded: false }).sources,
  open: openDevice,
};

function openDevice(_options: DeviceOptions = {}): Device {
  const memory = new DeviceMemory();
  return {
    target: wasmTarget,
    summary: "WebAssembly, one thread",
    allocate: (type) => memory.tensor(type),
    hold: (type, data) => {
      const held = memory.tensor(type);
      held.set(data);
      return held;
    },
    free: (data) => memory.free(memory.addressOf(data, () => "free")),
    load: (plan) => load(memory, plan),
    close: () => {},
  };
}

function load(memory: DeviceMemory, plan: Plan): Program {
  plan.kernels.forEach(checkRunnable);
  const built = buildProgram(plan, { rules: rulesOf.relaxed, shared: memory.shared, threaded: false });
  const module = new WebAssembly.Module(built.bytes);
  return { sources: built.sources, instantiate: (given) => instantiate(memory, plan, built, module, given) };
}

function instantiate(
  memory: DeviceMemory,
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
  const scratch = memory.allocate(built.scratchBytes, () => "scratch");
  const args = [...addresses, arena, writeRows(memory, plan, entry, null, given)];
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
