/**
 * Functions that run a plan inside WebAssembly, so that JavaScript enters once per step: one per function of the plan,
 * which launches kernels, copies and calls with the addresses of its locations. Parameters and results are addresses;
 * `arena` is where its part of the arena begins, `row` the address of its row: the addresses of its weights, then for
 * each call the row of the function called, so that layers share code and have their own weights.
 *
 * With threads every thread runs the same driver. A launch that is worth it is shared: its grid is cut into chunks that
 * threads take (see `sync.ts`), and nothing after it begins before all are done. The rest the first thread runs alone.
 */
import { workOf } from "../../ir/kernel/work.ts";
import type { FuncPlan, Plan, Step } from "../../ir/plan.ts";
import { byteSize } from "../../ir/types.ts";
import type { AddressType } from "./address-type.ts";
import { apply, assign, type Code, choose, int, local } from "./code.ts";
import type { WasmKernel } from "./emit.ts";
import {
  block,
  branch,
  branchIf,
  call,
  ifElse,
  loopBlock,
  memory,
  other,
  type Typed,
  type WasmFunc,
  type WasmImport,
} from "./instr.ts";
import { finishChunk, takeChunk } from "./sync.ts";

export function driverName(func: string): string {
  return `run ${func}`;
}

/** Entries of a function's row: its weights, then its calls. */
export function rowLength(func: FuncPlan): number {
  return func.weights.length + func.steps.filter(({ step }) => step === "call").length;
}

/** Operations that a chunk has at least: a few microseconds, many times what taking it costs. */
export const smallestChunk = 4000;
/** Chunks per thread, so that one that is put aside in the middle of a launch leaves most of its share to others. */
const chunksPerThread = 8;

export interface DriverOptions {
  readonly address: AddressType;
  /** Threads that run it together. */
  readonly threads: number;
  /** Operations that a chunk has at least. */
  readonly smallest: number;
  /** Whether `launched` is called after each launch, with the kernel's number. One thread only. */
  readonly profiled: boolean;
}

/** The function of JavaScript that hears of launches. */
export const launched: WasmImport = { name: "launched", params: ["i32"] };

/** How a launch is shared: chunks of so many values of the grid's variable. */
export interface Shares {
  readonly chunks: number;
  readonly size: number;
}

/**
 * On one thread long launches are cut too: an engine replaces a function's first, slow code between two calls, not during
 * one. So many operations a part has at least, which take a millisecond, and there are at most so many parts.
 */
const smallestPart = 2 ** 21;
const mostParts = 16;

/** How many values of the grid's variable one call computes where one thread does all. */
function partOf({ kernel, grid, divides }: WasmKernel): number | null {
  if (grid === undefined || !divides) return null;
  const count = Math.ceil((grid.to - grid.from) / grid.step);
  const parts = Math.min(count, mostParts, Math.floor(workOf(kernel).operations / smallestPart));
  return parts < 2 ? null : Math.ceil(count / parts) * grid.step;
}

/** How launches of a kernel are shared by threads; null where one thread is as fast, or must do it. */
export function sharesOf(
  { kernel, grid, divides }: WasmKernel,
  { threads, smallest }: Pick<DriverOptions, "threads" | "smallest">,
): Shares | null {
  if (threads === 1 || grid === undefined || !divides) return null;
  const count = Math.ceil((grid.to - grid.from) / grid.step);
  const worth = Math.floor(workOf(kernel).operations / smallest);
  const wanted = Math.min(count, threads * chunksPerThread, worth);
  if (wanted < 2) return null;
  const size = Math.ceil(count / wanted);
  return { chunks: Math.ceil(count / size), size: size * grid.step };
}

/** Tickets of a step: the chunks of all launches that are shared, called functions included. */
export function ticketsOf(plan: Plan, kernels: readonly WasmKernel[], options: DriverOptions): number {
  const count = (func: FuncPlan): number => func.steps.reduce((sum, step) => sum + ofStep(step), 0);
  const ofStep = (step: Step): number => {
    if (step.step === "launch") return sharesOf(kernels[step.kernel]!, options)?.chunks ?? 0;
    return step.step === "call" ? count(plan.funcs.get(step.func)!) : 0;
  };
  return count(plan.funcs.get(plan.entry)!);
}

export function emitDriver(plan: Plan, name: string, kernels: readonly WasmKernel[], options: DriverOptions): WasmFunc {
  const func = plan.funcs.get(name)!;
  const { address, threads, profiled } = options;
  const inRow = (entry: number): Code => [...local("row"), memory(address.load, address.bytes * entry)];
  const at = (i: number): Code => {
    const location = func.locations[i]!;
    switch (location.place) {
      case "param":
        return local(`param ${location.index}`);
      case "result":
        return local(`result ${location.index}`);
      case "weight":
        return inRow(location.index);
      case "arena": {
        const { offset } = location;
        return offset === 0 ? local("arena") : apply(address.add, local("arena"), address.constant(offset));
      }
    }
  };
  const body: Code[] = [];
  let calls = 0;
  const byFirst = (code: Code) =>
    body.push(threads > 1 ? [{ k: "global", op: "global.get", name: "thread" }, ifElse(null, [], code)] : code);
  for (const step of func.steps) {
    switch (step.step) {
      case "launch": {
        const kernel = kernels[step.kernel]!;
        const args = step.args.flatMap(at);
        const shares = sharesOf(kernel, options);
        if (shares !== null) {
          body.push(shareLaunch(kernel.func.name, kernel.grid!, shares, args)); // what has shares has a grid
          break;
        }
        const heard = profiled ? [...int(step.kernel), call(launched.name)] : [];
        const part = threads === 1 ? partOf(kernel) : null;
        const range = kernel.grid ? [...int(kernel.grid.from), ...int(kernel.grid.to)] : [];
        const whole = [...args, ...range, call(kernel.func.name)];
        byFirst([...(part === null ? whole : launchParts(kernel.func.name, kernel.grid!, part, args)), ...heard]); // what has parts has a grid
        break;
      }
      case "copy": {
        const bytes = byteSize(func.locations[step.from]!.type);
        byFirst([...at(step.to), ...at(step.from), ...address.constant(bytes), other("memory.copy")]);
        break;
      }
      case "call": {
        const row = inRow(func.weights.length + calls);
        const arena = apply(address.add, local("arena"), address.constant(step.arena));
        const args = [...step.args, ...step.results].flatMap(at);
        body.push([...args, ...arena, ...row, call(driverName(step.func))]);
        calls++;
      }
    }
  }
  const named = (word: string, count: number) => Array.from({ length: count }, (_, i) => `${word} ${i}`);
  const params = [...named("param", func.params.length), ...named("result", func.results.length), "arena", "row"];
  return {
    name: driverName(name),
    params: params.map((each) => ({ name: each, type: address.type })),
    results: [],
    locals: shareLocals,
    body: body.flat(),
  };
}

/** Launches a function on parts of its grid, one after another. */
function launchParts(func: string, { from, to }: NonNullable<WasmKernel["grid"]>, size: number, args: Code): Code {
  return [
    ...assign("begin", int(from)),
    loopBlock("next", [
      ...assign("end", apply("i32.add", local("begin"), int(size))),
      ...args,
      ...local("begin"),
      ...choose("i32", apply("i32.lt_s", local("end"), int(to)), local("end"), int(to)),
      call(func),
      ...assign("begin", local("end")),
      ...apply("i32.lt_s", local("begin"), int(to)),
      branchIf("next"),
    ]),
  ];
}

/** The locals of a function that shares launches, or cuts them. */
export const shareLocals: readonly Typed[] = ["chunk", "begin", "end"].map((name) => ({ name, type: "i32" }));

/** Launches a function on chunks of its grid, taken until none is left. */
export function shareLaunch(
  func: string,
  { from, to }: { readonly from: number; readonly to: number },
  { chunks, size }: Shares,
  args: Code,
): Code {
  return [
    block("launched", [
      loopBlock("take", [
        ...assign("chunk", [...int(chunks), ...takeChunk]),
        ...apply("i32.lt_s", local("chunk"), int(0)),
        branchIf("launched"),
        ...assign("begin", apply("i32.add", apply("i32.mul", local("chunk"), int(size)), int(from))),
        ...assign("end", apply("i32.add", local("begin"), int(size))),
        ...args,
        ...local("begin"),
        ...choose("i32", apply("i32.lt_s", local("end"), int(to)), local("end"), int(to)),
        call(func),
        ...finishChunk,
        branch("take"),
      ]),
    ]),
  ];
}
