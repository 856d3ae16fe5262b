/**
 * Binds a plan to buffers: a flat list of launches and copies, each with its bind group made once. WebGPU allows a buffer
 * one kind of access per launch and no overlap of what is written with anything: a value that is read from the buffer that
 * is written (the arena) is bound for writing too, and one that is read twice there is read from a copy.
 */
import { invariant, UnsupportedError } from "../../ir/errors.ts";
import type { FuncPlan, Location, Plan, Step } from "../../ir/plan.ts";
import type { TensorData } from "../../ir/tensor.ts";
import { byteSize } from "../../ir/types.ts";
import type { ProgramMemory } from "../backend.ts";
import type { GpuContext } from "./context.ts";
import { GPUBufferUse } from "./flags.ts";
import type { GpuMemory } from "./memory.ts";
import type { Pipelines } from "./pipelines.ts";

/** Part of a buffer; sizes are whole words, as bindings must be. */
export interface Range {
  readonly buffer: GPUBuffer;
  readonly offset: number;
  readonly size: number;
  /** The buffers of a weight or a cache that no buffer can hold, `buffer` the first of them. */
  readonly buffers?: readonly GPUBuffer[];
}

export type Bound =
  | {
      readonly kind: "launch";
      readonly kernel: number;
      readonly pipeline: Promise<GPUComputePipeline>;
      readonly group: GPUBindGroup;
      readonly workgroups: readonly [number, number];
    }
  | { readonly kind: "copy"; readonly from: Range; readonly to: Range };

export interface Binding {
  readonly context: GpuContext;
  readonly memory: GpuMemory;
  readonly plan: Plan;
  readonly pipelines: Pipelines;
  readonly given: ProgramMemory;
  readonly arena: GPUBuffer;
  readonly bound: Bound[];
  /** Buffers made on the way, which live as long as the instance. */
  readonly extra: GPUBuffer[];
}

/** One call of a function: its caller's memory, and where its part of the arena begins. */
export interface Frame {
  readonly params: readonly Range[];
  readonly results: readonly Range[];
  readonly base: number;
  readonly layer: number | null;
}

export function wholeRange(memory: GpuMemory, data: TensorData, what: () => string): Range {
  return rangeOfAll(memory.buffersOf(data, what));
}

function rangeOfAll(buffers: readonly GPUBuffer[]): Range {
  const size = buffers.reduce((sum, each) => sum + each.size, 0);
  return { buffer: buffers[0]!, offset: 0, size, ...(buffers.length > 1 && { buffers }) };
}

/** Appends what runs for every step of a function. */
export function bindFunc(binding: Binding, func: FuncPlan, frame: Frame): void {
  const ranges = func.locations.map((location) => once(() => rangeOf(binding, func, frame, location)));
  for (const step of func.steps) bindStep(binding, frame, step, (i) => ranges[i]!());
}

function bindStep(binding: Binding, frame: Frame, step: Step, at: (location: number) => Range): void {
  switch (step.step) {
    case "launch":
      bindLaunch(binding, step.kernel, step.args.map(at));
      return;
    case "copy":
      bindCopy(binding, at(step.from), at(step.to));
      return;
    case "call": {
      const callee = binding.plan.funcs.get(step.func)!;
      const [params, results] = [step.args.map(at), step.results.map(at)];
      bindFunc(binding, callee, { params, results, base: frame.base + step.arena, layer: step.layer });
    }
  }
}

function rangeOf({ plan: _, memory, given, arena }: Binding, func: FuncPlan, frame: Frame, location: Location): Range {
  switch (location.place) {
    case "param":
      return frame.params[location.index]!;
    case "result":
      return frame.results[location.index]!;
    case "weight": {
      const data = given.weight(func.name, location.index, frame.layer);
      return rangeOfAll(memory.filled(data, () => `weight ${location.index} of @${func.name}, layer ${frame.layer}`));
    }
    case "arena":
      return { buffer: arena, offset: frame.base + location.offset, size: bindingSize(byteSize(location.type)) };
  }
}

function bindingSize(bytes: number): number {
  return Math.max(Math.ceil(bytes / 4) * 4, 4);
}

function bindLaunch(binding: Binding, kernel: number, args: readonly Range[]): void {
  const { context, plan, pipelines } = binding;
  const { name, bufs } = plan.kernels[kernel]!;
  const globals = bufs.filter(({ space }) => space === "global");
  invariant(globals.length === args.length, () => `kernel ${name} takes ${globals.length} buffers, got ${args.length}`);
  const written = new Set(args.filter((_, i) => globals[i]!.access !== "read").map(({ buffer }) => buffer));
  const ranges: Range[] = [];
  const shared = new Set<string>();
  for (const [i, range] of args.entries()) {
    const beside = globals[i]!.access === "read" && written.has(range.buffer);
    const again =
      beside && args.some((other, j) => j !== i && (j < i || globals[j]!.access !== "read") && overlap(range, other));
    if (again) ranges.push(copyOf(binding, range));
    else {
      ranges.push(range);
      if (beside) shared.add(globals[i]!.name);
    }
  }
  const { emitted, layout, pipeline } = pipelines.get(kernel, shared);
  const group = context.watch(
    () => `the buffers of kernel ${name}`,
    () =>
      context.device.createBindGroup({
        label: name,
        layout,
        entries: emitted.bindings.map(({ buf, part }, binding) => {
          const parted = emitted.bindings.some((other) => other.buf === buf && other.part > 0);
          return { binding, resource: parted ? partOf(ranges[buf]!, part, context.limits.binding.part) : ranges[buf]! };
        }),
      }),
  );
  binding.bound.push({ kind: "launch", kernel, pipeline, group, workgroups: emitted.workgroups });
}

/** What a binding shows of a range that is larger than bindings are. */
function partOf({ buffer, offset, size, buffers }: Range, part: number, bytes: number): Range {
  const own = Math.min(bytes, size - part * bytes);
  if (buffers === undefined) return { buffer, offset: offset + part * bytes, size: own };
  return { buffer: buffers[part]!, offset: 0, size: own };
}

function overlap(a: Range, b: Range): boolean {
  return a.buffer === b.buffer && a.offset < b.offset + b.size && b.offset < a.offset + a.size;
}

function copyOf(binding: Binding, from: Range): Range {
  const buffer = binding.memory.buffer(from.size, GPUBufferUse.tensor, () => "a copy of a value");
  binding.extra.push(buffer);
  const to = { buffer, offset: 0, size: from.size };
  binding.bound.push({ kind: "copy", from, to });
  return to;
}

/** WebGPU copies between different buffers only. */
function bindCopy(binding: Binding, from: Range, to: Range): void {
  const parted = from.buffers ?? to.buffers;
  if (parted !== undefined) {
    throw new UnsupportedError("webgpu", `a value of ${from.size} bytes in ${parted.length} buffers is not copied`, {
      hint: "Use a smaller cache or a shorter context.",
    });
  }
  const source = from.buffer === to.buffer ? copyOf(binding, from) : from;
  binding.bound.push({ kind: "copy", from: source, to });
}

function once<T>(make: () => T): () => T {
  let value: { readonly made: T } | undefined;
  return () => {
    value ??= { made: make() };
    return value.made;
  };
}
