/** The module of a plan: its kernels, its driver functions and the library functions they call. */
import type { Plan } from "../../ir/plan.ts";
import { keptPlan } from "../../ir/plan-kept.ts";
import { type AddressType, narrow } from "./address-type.ts";
import { checkModule } from "./check.ts";
import { driverName, emitDriver, launched, smallestChunk, ticketsOf } from "./driver.ts";
import { emitKernel, type WasmKernel } from "./emit.ts";
import { encodeModule } from "./encode.ts";
import type { WasmFunc, WasmGlobal, WasmImport, WasmModule } from "./instr.ts";
import { libraryFor, libraryGlobals } from "./library.ts";
import type { Rules } from "./rules.ts";
import { syncFuncs, syncGlobals } from "./sync.ts";
import { printFunc } from "./wat.ts";

export interface ModuleOptions {
  readonly rules: Rules;
  readonly shared: boolean;
  /** How wide addresses are. Default: 32 bits. */
  readonly address?: AddressType;
  /** Threads that run the driver together. Default: 1. */
  readonly threads?: number;
  /** Operations that a chunk of a shared launch has at least. Default: what is worth sharing. */
  readonly smallest?: number;
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
  /** What a run computes all results by. */
  readonly whole: ProgramEntry;
  /** What computes those alone that stay in parameters' memory, where that is less. */
  readonly kept: ProgramEntry | null;
}

export interface ProgramEntry {
  readonly entry: string;
  /** Tickets of a step (see `sync.ts`). */
  readonly tickets: number;
}

/** All that 32-bit addresses reach, in pages; and what engines give with 64-bit addresses. */
export const maxPages = (address: AddressType): number => (address.type === "i32" ? 65536 : 262144);

/** A checked module of these functions and all they call. */
export function moduleOf(
  funcs: readonly WasmFunc[],
  shared: boolean,
  address: AddressType = narrow,
  imports: readonly WasmImport[] = [],
): WasmModule {
  const scratch: WasmGlobal = { name: "scratch", type: address.type, mutable: true, init: 0, exported: true };
  const module = {
    imports,
    memory: { initial: 1, maximum: maxPages(address), shared, wide: address.type === "i64" },
    globals: [scratch, ...syncGlobals, ...libraryGlobals],
    funcs: [...libraryFor(funcs), ...funcs],
  };
  checkModule(module);
  return module;
}

export function buildProgram(plan: Plan, options: ModuleOptions): BuiltProgram {
  const { rules, shared, address = narrow, threads = 1, smallest = smallestChunk, profiled = false } = options;
  const driving = { address, threads, smallest, profiled };
  const names = new Map<string, number>();
  const kernels: WasmKernel[] = plan.kernels.map((kernel) => {
    const count = (names.get(kernel.name) ?? 0) + 1;
    names.set(kernel.name, count);
    // With a number after a dot, which no kernel's own name has.
    return emitKernel(kernel, count === 1 ? `kernel ${kernel.name}` : `kernel ${kernel.name}.${count}`, rules, address);
  });
  const kept = keptPlan(plan);
  const entries = new Set([plan.entry, kept?.entry]);
  const all = kept ?? plan;
  const drivers = [...all.funcs.keys()].map((name) => ({
    ...emitDriver(all, name, kernels, driving),
    exported: entries.has(name),
  }));
  const own = kernels.map(({ func }) => ({ ...func, exported: false }));
  const funcs = [...own, ...(threads > 1 ? syncFuncs(address) : []), ...drivers];
  const entryOf = (each: Plan) => ({ entry: driverName(each.entry), tickets: ticketsOf(each, kernels, driving) });
  const module = moduleOf(funcs, shared, address, profiled ? [launched] : []);
  return {
    bytes: encodeModule(module),
    module,
    sources: kernels.map(({ func }) => printFunc(func)),
    scratchBytes: Math.max(0, ...kernels.map((kernel) => kernel.scratchBytes)),
    whole: entryOf(plan),
    kept: kept && entryOf(kept),
  };
}
