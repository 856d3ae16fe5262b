/** What `TRACE` writes and the viewer shows: passes with their matches, kernels with their sources, and memory over a step. */
import type { Compiled } from "./compile.ts";
import type { Kernel } from "./ir/kernel/kernel.ts";
import { printKernel } from "./ir/kernel/print.ts";
import { globalBufs } from "./ir/kernel/walk.ts";
import { workOf } from "./ir/kernel/work.ts";
import { isOpName, opKind } from "./ir/ops/all.ts";
import { accesses, type FuncPlan, heldBytes, type Plan } from "./ir/plan.ts";
import { byteSize, showType } from "./ir/types.ts";
import { cutText, type Trace } from "./passes/instruments.ts";

export const traceFormat = "ciuic trace 2";

export interface TraceFile extends Trace {
  readonly format: typeof traceFormat;
  readonly name: string;
  readonly target: string;
  readonly kernels: readonly TracedKernel[];
  readonly memory: readonly TracedFunc[];
  /** Bytes: of the arena, of all weights, of all buffers of all launches of a step. */
  readonly bytes: { readonly arena: number; readonly weights: number; readonly touched: number };
}

export interface TracedKernel {
  readonly name: string;
  /** The tensor ops it came from. */
  readonly origin: readonly string[];
  /** The same, counted: "contract, 3 mul". */
  readonly ops: string;
  readonly ir: string;
  readonly source: string;
  /** Of a step. */
  readonly launches: number;
  readonly bytes: number;
  /** Milliseconds of a step, all its launches together; null where it was not run. */
  readonly ms: number | null;
}

/** A function's steps, and when its values are where in its part of the arena. */
export interface TracedFunc {
  readonly name: string;
  /** How often a step runs it. */
  readonly calls: number;
  readonly steps: readonly string[];
  readonly bytes: number;
  readonly values: readonly TracedValue[];
}

export interface TracedValue {
  readonly name: string;
  readonly offset: number;
  readonly bytes: number;
  /** First and last step that need it. */
  readonly first: number;
  readonly last: number;
}

const longestSource = 60_000;

/** `ms`: of each kernel, milliseconds of a step, where they were measured. */
export function traceFile(
  trace: Trace,
  { plan, report, target }: Compiled,
  sources: readonly string[],
  ms: readonly (number | null)[] = [],
): TraceFile {
  const use = kernelUse(plan);
  const calls = new Map<string, number>();
  const count = ({ name, steps }: FuncPlan): void => {
    calls.set(name, (calls.get(name) ?? 0) + 1);
    for (const step of steps) if (step.step === "call") count(plan.funcs.get(step.func)!);
  };
  count(plan.funcs.get(plan.entry)!);
  return {
    ...trace,
    format: traceFormat,
    name: plan.name,
    target: target.name,
    kernels: plan.kernels.map((kernel, i) => ({
      name: kernel.name,
      origin: kernel.origin,
      ops: opsOf(kernel.origin),
      ir: cutText(printKernel(kernel), longestSource),
      source: cutText(sources[i] ?? "", longestSource),
      ...use[i]!,
      ms: ms[i] ?? null,
    })),
    memory: [...plan.funcs.values()].map((func) => tracedFunc(func, plan, calls.get(func.name) ?? 0)),
    bytes: {
      arena: report.arenaBytes,
      weights: Object.values(heldBytes(plan)).reduce((sum, bytes) => sum + bytes, 0),
      touched: report.bytes,
    },
  };
}

/** Bytes that a launch reads and writes, at most. */
export function launchBytes(kernel: Kernel): number {
  const { bytesRead, bytesWritten } = workOf(kernel);
  const passed = ({ name }: { name: string }) => (bytesRead.get(name) ?? 0) + (bytesWritten.get(name) ?? 0);
  return globalBufs(kernel).reduce((sum, buf) => sum + passed(buf), 0);
}

/** How often a step launches each kernel, and what it passes over: functions count as often as they are called. */
export function kernelUse(plan: Plan): readonly { readonly launches: number; readonly bytes: number }[] {
  const use = plan.kernels.map(() => ({ launches: 0, bytes: 0 }));
  const visit = (func: FuncPlan) => {
    for (const step of func.steps) {
      if (step.step === "call") visit(plan.funcs.get(step.func)!);
      if (step.step !== "launch") continue;
      const each = use[step.kernel]!;
      each.launches++;
      each.bytes += launchBytes(plan.kernels[step.kernel]!);
    }
  };
  visit(plan.funcs.get(plan.entry)!);
  return use;
}

/** Ops of these kinds first: they are what a kernel is about. */
const mainKinds: readonly string[] = ["composite", "dot", "contract", "update", "opaque", "reduce"];

/** "contract, 3 mul" of lines such as `q = mul f32[2,3]`. */
export function opsOf(origin: readonly string[]): string {
  const counts = new Map<string, number>();
  for (const line of origin) {
    const op = line.replace(/^.*= /, "").split(" ")[0] ?? "";
    counts.set(op, (counts.get(op) ?? 0) + 1);
  }
  const place = (op: string) => {
    const at = isOpName(op) ? mainKinds.indexOf(opKind(op)) : -1;
    return at === -1 ? mainKinds.length : at;
  };
  const sorted = [...counts].sort(([a], [b]) => place(a) - place(b));
  return sorted.map(([op, times]) => (times === 1 ? op : `${times} ${op}`)).join(", ");
}

function tracedFunc(func: FuncPlan, plan: Plan, calls: number): TracedFunc {
  const ranges = new Map<number, { first: number; last: number; name: string }>();
  const values: TracedValue[] = [];
  const steps = func.steps.map((step, at) => {
    const { reads, writes } = accesses(step, plan.kernels);
    const label =
      step.step === "launch" ? plan.kernels[step.kernel]!.name : step.step === "call" ? `@${step.func}` : "copy";
    const bufs = step.step === "launch" ? globalBufs(plan.kernels[step.kernel]!) : [];
    const nameOf = (i: number) => bufs[step.step === "launch" ? step.args.indexOf(i) : -1]?.name ?? label;
    for (const i of [...writes, ...reads]) {
      const range = ranges.get(i) ?? {
        first: at,
        last: at,
        name: `${nameOf(i)}: ${showType(func.locations[i]!.type)}`,
      };
      ranges.set(i, { ...range, last: at });
    }
    if (step.step === "call") {
      const bytes = plan.funcs.get(step.func)!.arenaBytes;
      values.push({ name: `all values of @${step.func}`, offset: step.arena, bytes, first: at, last: at });
      return step.layer === null ? label : `${label} layer ${step.layer}`;
    }
    return label;
  });
  for (const [i, { first, last, name }] of ranges) {
    const location = func.locations[i]!;
    if (location.place !== "arena") continue;
    values.push({ name, offset: location.offset, bytes: byteSize(location.type), first, last });
  }
  return { name: func.name, calls, steps, bytes: func.arenaBytes, values };
}
