/** Plans on plain JavaScript: kernels as functions, memory as typed arrays, a step as a flat list of bound launches. */
import { invariant } from "../../ir/errors.ts";
import { checkRunnable } from "../../ir/kernel/runnable.ts";
import type { FuncPlan, Location, Plan, Step } from "../../ir/plan.ts";
import { jsTarget } from "../../ir/target.ts";
import { storageLength, type TensorData, zeros } from "../../ir/tensor.ts";
import type { TensorType } from "../../ir/types.ts";
import type { Backend, Device, Instance, Program, ProgramMemory } from "../backend.ts";
import { Workspace } from "../workspace.ts";
import { compileKernel, emitKernel, type JsKernel } from "./emit.ts";

export const jsBackend: Backend = {
  target: jsTarget,
  emit: ({ kernels }) => kernels.map(emitKernel),
  open: openJs,
};

/** Any typed array is memory of such a device. */
function openJs(): Device {
  const arenas = new Workspace(
    (bytes) => new ArrayBuffer(bytes),
    () => {},
  );
  return {
    target: jsTarget,
    summary: "JavaScript, one thread",
    allocate: ({ dtype, shape }) => zeros(dtype, shape).data,
    hold: (_, data) => data,
    free: () => {},
    load: (plan) => load(arenas, plan),
    close: () => {},
  };
}

function load(arenas: Workspace<ArrayBuffer>, plan: Plan): Program {
  plan.kernels.forEach(checkRunnable);
  const kernels = plan.kernels.map(compileKernel);
  return {
    sources: kernels.map((kernel) => kernel.source),
    instantiate: (memory) => instantiate(arenas, plan, kernels, memory),
  };
}

type Launch = () => void;

function instantiate(
  arenas: Workspace<ArrayBuffer>,
  plan: Plan,
  kernels: readonly JsKernel[],
  memory: ProgramMemory,
): Instance {
  const entry = plan.funcs.get(plan.entry)!;
  const allocate = ({ dtype, shape }: TensorType) => zeros(dtype, shape).data;
  const params = entry.params.map(({ name, type }) => {
    const given = memory.params?.get(name);
    invariant(
      given === undefined || given.length === storageLength(type),
      () => `memory of ${name} has the wrong length`,
    );
    return given ?? allocate(type);
  });
  const results = entry.results.map(({ type }, i) => {
    const param = entry.donated[i] ?? null;
    return param === null ? (memory.results?.get(i) ?? allocate(type)) : params[param]!;
  });
  const { memory: arena, release } = arenas.take(entry.arenaBytes);
  const launches: Launch[] = [];
  bindFunc({ plan, kernels, memory, arena, launches }, entry, { params, results, base: 0, layer: null });
  return {
    params,
    results,
    run: () => {
      for (let i = 0; i < launches.length; i++) launches[i]!();
    },
    release,
  };
}

interface Binding {
  readonly plan: Plan;
  readonly kernels: readonly JsKernel[];
  readonly memory: ProgramMemory;
  readonly arena: ArrayBuffer;
  readonly launches: Launch[];
}

/** One call of a function: its caller's memory, and where its part of the arena begins. */
interface Frame {
  readonly params: readonly TensorData[];
  readonly results: readonly TensorData[];
  readonly base: number;
  readonly layer: number | null;
}

/** Appends a launch for every step, with the memory of each argument looked up once and for all. */
function bindFunc(binding: Binding, func: FuncPlan, frame: Frame): void {
  const data = func.locations.map((location) => once(() => memoryOf(binding, func, frame, location)));
  for (const step of func.steps) bindStep(binding, frame, step, (i) => data[i]!());
}

function bindStep(binding: Binding, frame: Frame, step: Step, at: (location: number) => TensorData): void {
  switch (step.step) {
    case "launch": {
      const { run } = binding.kernels[step.kernel]!;
      const args = step.args.map(at);
      const { onLaunch } = binding.memory;
      binding.launches.push(onLaunch === undefined ? () => run(args) : timed(() => run(args), step.kernel, onLaunch));
      return;
    }
    case "copy": {
      const [from, to] = [at(step.from), at(step.to)];
      binding.launches.push(() => to.set(from));
      return;
    }
    case "call": {
      const callee = binding.plan.funcs.get(step.func)!;
      const [params, results] = [step.args.map(at), step.results.map(at)];
      bindFunc(binding, callee, { params, results, base: frame.base + step.arena, layer: step.layer });
    }
  }
}

function timed(launch: Launch, kernel: number, report: (kernel: number, ms: number) => void): Launch {
  return () => {
    const start = performance.now();
    launch();
    report(kernel, performance.now() - start);
  };
}

function memoryOf(binding: Binding, func: FuncPlan, frame: Frame, location: Location): TensorData {
  switch (location.place) {
    case "param":
      return frame.params[location.index]!;
    case "result":
      return frame.results[location.index]!;
    case "weight":
      return binding.memory.weight(func.name, location.index, frame.layer);
    case "arena": {
      const model = zeros(location.type.dtype, [0]).data;
      // Every typed-array constructor takes a buffer, an offset and a length.
      const View = model.constructor as new (buffer: ArrayBuffer, offset: number, length: number) => TensorData;
      return new View(binding.arena, frame.base + location.offset, storageLength(location.type));
    }
  }
}

function once<T>(make: () => T): () => T {
  let value: { readonly made: T } | undefined;
  return () => {
    value ??= { made: make() };
    return value.made;
  };
}
