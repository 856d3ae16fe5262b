/**
 * The plan: what runs in which order and where every value lives. A function has *locations* (a parameter's memory, a
 * result's, a weight, or a place in the arena) and *steps* that read and write them. The arena holds all intermediate
 * values of a step of the model, those of called functions included, so running allocates nothing.
 */
import { type Func, type Node, nameOf } from "./graph.ts";
import type { Kernel } from "./kernel/kernel.ts";
import { globalBufs } from "./kernel/walk.ts";
import { printNode } from "./print.ts";
import { byteSize, showType, type TensorType } from "./types.ts";

export type Location =
  /** Memory of the caller: parameter or result number `index`. */
  | { readonly place: "param" | "result"; readonly index: number; readonly type: TensorType }
  /** Weight expression number `index` of the function. */
  | { readonly place: "weight"; readonly index: number; readonly type: TensorType }
  /** Bytes from the start of the function's part of the arena. */
  | { readonly place: "arena"; readonly offset: number; readonly type: TensorType };

export type Step =
  /** Runs a kernel on locations, one per global buffer; those whose buffers are not just read are written. */
  | { readonly step: "launch"; readonly kernel: number; readonly args: readonly number[] }
  /** Runs a function whose part of the arena starts `arena` bytes into this one's. */
  | {
      readonly step: "call";
      readonly func: string;
      readonly layer: number | null;
      readonly args: readonly number[];
      readonly results: readonly number[];
      readonly arena: number;
    }
  | { readonly step: "copy"; readonly from: number; readonly to: number };

export interface FuncPlan {
  readonly name: string;
  readonly params: readonly { readonly name: string; readonly type: TensorType }[];
  readonly results: readonly { readonly name: string; readonly type: TensorType }[];
  /** For each result, the parameter whose memory it is left in (an update in place), or null. */
  readonly donated: readonly (number | null)[];
  /** What the loader evaluates, once per layer. */
  readonly weights: readonly Node[];
  readonly locations: readonly Location[];
  readonly steps: readonly Step[];
  readonly arenaBytes: number;
}

export interface Plan {
  readonly name: string;
  readonly entry: string;
  readonly funcs: ReadonlyMap<string, FuncPlan>;
  readonly kernels: readonly Kernel[];
  /**
   * For targets of level `tensor`, by function: what is run op by op. There are no kernels then, no locations, and no
   * steps but calls.
   */
  readonly tensors?: ReadonlyMap<string, TensorFunc>;
}

/** A function as ops to run. */
export interface TensorFunc {
  readonly func: Func;
  /** What a step computes, operands first; leaves (parameters, weight expressions, constants) are not among them. */
  readonly order: readonly Node[];
  /** What is known to the compiler, to be computed once. */
  readonly constants: readonly Node[];
}

/** Arena offsets are multiples of this many bytes: whole cache lines, and the most that WebGPU asks of a binding's offset. */
export const arenaAlignment = 256;

/**
 * A step's reads and writes as locations. What a launch both loads and stores counts as written: it loads what it has
 * stored itself, or replaces part of what is there.
 */
export function accesses(
  step: Step,
  kernels: readonly Kernel[],
): { reads: readonly number[]; writes: readonly number[] } {
  switch (step.step) {
    case "launch": {
      const bufs = globalBufs(kernels[step.kernel]!);
      return {
        reads: step.args.filter((_, i) => bufs[i]?.access === "read"),
        writes: step.args.filter((_, i) => bufs[i]?.access !== "read"),
      };
    }
    case "call":
      return { reads: step.args, writes: step.results };
    case "copy":
      return { reads: [step.from], writes: [step.to] };
  }
}

/** Parameters whose memory the function's steps write. */
export function writtenParams(func: FuncPlan, kernels: readonly Kernel[]): number[] {
  const written = new Set(func.steps.flatMap((step) => accesses(step, kernels).writes));
  return func.locations.flatMap((location, i) =>
    location.place === "param" && written.has(i) ? [location.index] : [],
  );
}

/** Readable text: per function its locations and steps. */
export function printPlan(plan: Plan): string {
  const funcs = [...plan.funcs.values()].map((func) => printFuncPlan(func, plan.kernels));
  return `plan @${plan.name} entry @${plan.entry} {\n${funcs.join("\n")}\n}\n`;
}

function printFuncPlan(func: FuncPlan, kernels: readonly Kernel[]): string {
  const at = (i: number) => showLocation(func, func.locations[i]!);
  const show = (step: Step): string => {
    switch (step.step) {
      case "launch": {
        const { reads, writes } = accesses(step, kernels);
        const call = `launch ${kernels[step.kernel]!.name}#${step.kernel} ${reads.map(at).join(", ")}`;
        return `${writes.map(at).join(", ")} = ${call}`.trimEnd();
      }
      case "call": {
        const layer = step.layer === null ? "" : ` {layer=${step.layer}}`;
        return `${step.results.map(at).join(", ")} = call @${step.func} ${step.args.map(at).join(", ")}${layer} arena+${step.arena}`;
      }
      case "copy":
        return `${at(step.to)} = copy ${at(step.from)}`;
    }
  };
  const results = func.results.map(({ name, type }, i) => {
    const param = func.donated[i] ?? null;
    return `${name}: ${showType(type)}${param === null ? "" : ` in ${func.params[param]!.name}`}`;
  });
  return [
    `  func @${func.name}(${func.params.map(({ name, type }) => `${name}: ${showType(type)}`).join(", ")}) {`,
    ...func.weights.map((node, i) => `    w${i}: ${showType(node.type)} = ${nameOf(node) ?? printNode(node)}`),
    ...func.steps.map((step) => `    ${show(step)}`),
    `    return ${results.join(", ")}`,
    `  } // arena ${func.arenaBytes} bytes, ${func.steps.length} steps`,
  ].join("\n");
}

function showLocation(func: FuncPlan, location: Location): string {
  switch (location.place) {
    case "param":
      return func.params[location.index]!.name;
    case "result":
      return func.results[location.index]!.name;
    case "weight":
      return `w${location.index}`;
    case "arena":
      return `arena+${location.offset}:${showType(location.type)}`;
  }
}

/** Launches and bytes of one run of the entry, calls counted each time. */
export interface PlanTotals {
  /** Of kernels; of ops where these are run as they are. */
  readonly launches: number;
  readonly copies: number;
  /** Bytes of all buffers of all launches: an upper bound of what kernels move. */
  readonly bytes: number;
  readonly arenaBytes: number;
}

export function planTotals(plan: Plan): PlanTotals {
  const done = new Map<string, { launches: number; copies: number; bytes: number }>();
  for (const func of plan.funcs.values()) {
    const ops = plan.tensors?.get(func.name)?.order ?? [];
    const total = { launches: ops.filter(({ op }) => op !== "call").length, copies: 0, bytes: 0 };
    const size = (i: number) => byteSize(func.locations[i]!.type);
    for (const step of func.steps) {
      if (step.step === "call") {
        const callee = done.get(step.func)!;
        total.launches += callee.launches;
        total.copies += callee.copies;
        total.bytes += callee.bytes;
      } else if (step.step === "launch") {
        total.launches++;
        total.bytes += step.args.reduce((sum, i) => sum + size(i), 0);
      } else {
        total.copies++;
        total.bytes += 2 * size(step.from);
      }
    }
    done.set(func.name, total);
  }
  return { ...done.get(plan.entry)!, arenaBytes: plan.funcs.get(plan.entry)!.arenaBytes };
}

/** Bytes of the weight expressions by dtype, those of every call. */
export function heldBytes(plan: Plan): Readonly<Record<string, number>> {
  const held: Record<string, number> = {};
  const visit = (func: FuncPlan): void => {
    for (const { type } of func.weights) held[type.dtype] = (held[type.dtype] ?? 0) + byteSize(type);
    for (const step of func.steps) if (step.step === "call") visit(plan.funcs.get(step.func)!);
  };
  visit(plan.funcs.get(plan.entry)!);
  return held;
}
