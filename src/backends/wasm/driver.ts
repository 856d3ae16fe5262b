/**
 * Functions that run a plan inside WebAssembly, so that JavaScript enters once per step: one per function of the plan,
 * which launches kernels, copies and calls with the addresses of its locations. Parameters and results are addresses;
 * `arena` is where its part of the arena begins, `row` the address of its row: the addresses of its weights, then for
 * each call the row of the function called, so that layers share code and have their own weights.
 *
 * With threads every thread runs the same driver. A launch that divides hands out ranges of its grid by an atomic
 * counter; others are left to thread 0. All meet at a barrier before anything reads what was written.
 */
import type { FuncPlan, Plan } from "../../ir/plan.ts";
import { byteSize } from "../../ir/types.ts";
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
  type WasmFunc,
  type WasmImport,
} from "./instr.ts";
import { barrierName, counterAddress } from "./sync.ts";

export function driverName(func: string): string {
  return `run ${func}`;
}

/** Entries of a function's row: its weights, then its calls. */
export function rowLength(func: FuncPlan): number {
  return func.weights.length + func.steps.filter(({ step }) => step === "call").length;
}

/** Launches on fewer bytes than this are not worth dividing: a barrier costs as much as they do. */
const smallLaunch = 8192;

export interface DriverOptions {
  /** Whether several threads run it together. */
  readonly threaded: boolean;
  /** Whether `launched` is called after each launch, with the kernel's number. One thread only. */
  readonly profiled: boolean;
}

/** The function of JavaScript that hears of launches. */
export const launched: WasmImport = { name: "launched", params: ["i32"] };

export function emitDriver(
  plan: Plan,
  func: FuncPlan,
  kernels: readonly WasmKernel[],
  { threaded, profiled }: DriverOptions,
): WasmFunc {
  const address = (i: number): Code => {
    const location = func.locations[i]!;
    switch (location.place) {
      case "param":
        return local(`param ${location.index}`);
      case "result":
        return local(`result ${location.index}`);
      case "weight":
        return [...local("row"), memory("i32.load", 4 * location.index)];
      case "arena":
        return location.offset === 0 ? local("arena") : apply("i32.add", local("arena"), int(location.offset));
    }
  };
  const body: Code[] = [];
  /** Whether thread 0 has written something that others have not waited for. */
  let alone = false;
  let calls = 0;
  const meet = () => {
    if (threaded && alone) body.push([call(barrierName)]);
    alone = false;
  };
  const byOne = (code: Code) => {
    alone = true;
    body.push(threaded ? [{ k: "global", op: "global.get", name: "thread" }, ifElse(null, [], code)] : code);
  };
  for (const step of func.steps) {
    switch (step.step) {
      case "launch": {
        const kernel = kernels[step.kernel]!;
        const args = step.args.flatMap(address);
        const { grid } = kernel;
        const range = grid ? [...int(grid.from), ...int(grid.to)] : [];
        const heard = profiled ? [...int(step.kernel), call(launched.name)] : [];
        const whole: Code = [...args, ...range, call(kernel.func.name), ...heard];
        const bytes = step.args.reduce((sum, i) => sum + byteSize(func.locations[i]!.type), 0);
        if (!threaded || !kernel.divides || grid === undefined || bytes < smallLaunch) byOne(whole);
        else {
          meet();
          body.push(divided(kernel.func.name, grid, args), [call(barrierName)]);
        }
        break;
      }
      case "copy": {
        const bytes = byteSize(func.locations[step.from]!.type);
        byOne([...address(step.to), ...address(step.from), ...int(bytes), other("memory.copy")]);
        break;
      }
      case "call": {
        meet();
        const row: Code = [...local("row"), memory("i32.load", 4 * (func.weights.length + calls))];
        const arena = apply("i32.add", local("arena"), int(step.arena));
        const args = [...step.args, ...step.results].flatMap(address);
        body.push([...args, ...arena, ...row, call(driverName(step.func))]);
        calls++;
      }
    }
  }
  meet();
  const named = (word: string, count: number) => Array.from({ length: count }, (_, i) => `${word} ${i}`);
  const params = [...named("param", func.params.length), ...named("result", func.results.length), "arena", "row"];
  return {
    name: driverName(func.name),
    params: params.map((name) => ({ name, type: "i32" })),
    results: [],
    locals: ["begin", "chunk"].map((name) => ({ name, type: "i32" })),
    body: body.flat(),
    exported: func.name === plan.entry,
  };
}

/** Ranges of about an eighth of a thread's share, taken until none is left. */
function divided(kernel: string, grid: NonNullable<WasmKernel["grid"]>, args: Code): Code {
  const count = Math.ceil((grid.to - grid.from) / grid.step);
  const chunks = apply("i32.mul", [{ k: "global", op: "global.get", name: "threads" }], int(8));
  const share = apply("i32.add", apply("i32.div_u", int(count), chunks), int(1));
  const end = apply("i32.add", local("begin"), local("chunk"));
  return [
    ...assign("chunk", apply("i32.mul", share, int(grid.step))),
    block("launched", [
      loopBlock("take", [
        ...assign(
          "begin",
          apply("i32.add", [...int(counterAddress), ...local("chunk"), memory("i32.atomic.rmw.add")], int(grid.from)),
        ),
        ...apply("i32.ge_s", local("begin"), int(grid.to)),
        branchIf("launched"),
        ...args,
        ...local("begin"),
        ...choose("i32", apply("i32.lt_s", end, int(grid.to)), end, int(grid.to)),
        call(kernel),
        branch("take"),
      ]),
    ]),
  ];
}
