/** The module of a plan: its kernels, its driver functions and the library functions they call. */
import type { Plan } from "../../ir/plan.ts";
import { checkModule } from "./check.ts";
import { driverName, emitDriver, launched } from "./driver.ts";
import { emitKernel, type WasmKernel } from "./emit.ts";
import { encodeModule } from "./encode.ts";
import type { WasmFunc, WasmGlobal, WasmImport, WasmModule } from "./instr.ts";
import { libraryFor, libraryGlobals } from "./library.ts";
import type { Rules } from "./rules.ts";
import { barrier, syncGlobals } from "./sync.ts";
import { printFunc } from "./wat.ts";

export interface ModuleOptions {
  readonly rules: Rules;
  readonly shared: boolean;
  /** Whether several threads run the driver together. */
  readonly threaded: boolean;
  /** Whether the driver tells JavaScript of each launch. Default false. */
  readonly profiled?: boolean;
}

export interface BuiltProgram {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly module: WasmModule;
  /** The text of each kernel's function. */
  readonly sources: readonly string[];
  /** Bytes of scratch that each thread needs. */
  readonly scratchBytes: number;
  readonly entry: string;
}

const scratchGlobal: WasmGlobal = { name: "scratch", type: "i32", mutable: true, init: 0, exported: true };
/** All that 32-bit addresses reach. */
export const maxPages = 65536;

/** A checked module of these functions and all they call. */
export function moduleOf(funcs: readonly WasmFunc[], shared: boolean, imports: readonly WasmImport[] = []): WasmModule {
  const module = {
    imports,
    memory: { initial: 1, maximum: maxPages, shared },
    globals: [scratchGlobal, ...syncGlobals, ...libraryGlobals],
    funcs: [...libraryFor(funcs), ...funcs],
  };
  checkModule(module);
  return module;
}

export function buildProgram(plan: Plan, { rules, shared, threaded, profiled = false }: ModuleOptions): BuiltProgram {
  const names = new Map<string, number>();
  const kernels: WasmKernel[] = plan.kernels.map((kernel) => {
    const count = (names.get(kernel.name) ?? 0) + 1;
    names.set(kernel.name, count);
    // With a number after a dot, which no kernel's own name has.
    return emitKernel(kernel, count === 1 ? `kernel ${kernel.name}` : `kernel ${kernel.name}.${count}`, rules);
  });
  const drivers = [...plan.funcs.values()].map((func) => emitDriver(plan, func, kernels, { threaded, profiled }));
  const own = kernels.map(({ func }) => ({ ...func, exported: false }));
  const funcs = [...own, ...(threaded ? [barrier] : []), ...drivers];
  const module = moduleOf(funcs, shared, profiled ? [launched] : []);
  return {
    bytes: encodeModule(module),
    module,
    sources: kernels.map(({ func }) => printFunc(func)),
    scratchBytes: Math.max(0, ...kernels.map((kernel) => kernel.scratchBytes)),
    entry: driverName(plan.entry),
  };
}
