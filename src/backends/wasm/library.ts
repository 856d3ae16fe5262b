/** All functions that emitted code may call, and what a module needs of them. */
import type { Instr, WasmFunc, WasmGlobal } from "./instr.ts";
import { mathFuncs } from "./math.ts";
import { trigFuncs } from "./math-trig.ts";
import { storageFuncs } from "./storage-funcs.ts";

export const library: ReadonlyMap<string, WasmFunc> = new Map(
  [...mathFuncs, ...trigFuncs, ...storageFuncs].map((func) => [func.name, func]),
);

/** Where `reduce` leaves the quadrant. */
export const libraryGlobals: readonly WasmGlobal[] = [{ name: "quadrant", type: "i32", mutable: true, init: 0 }];

/** The library functions that these functions call, and those call in turn. */
export function libraryFor(funcs: readonly WasmFunc[]): WasmFunc[] {
  const found = new Map<string, WasmFunc>();
  const visit = (body: readonly Instr[]): void => {
    for (const instr of body) {
      if (instr.k === "block") visit(instr.body);
      if (instr.k === "if") {
        visit(instr.then);
        visit(instr.else);
      }
      if (instr.k !== "call" || found.has(instr.func)) continue;
      const func = library.get(instr.func);
      if (func === undefined) continue;
      found.set(func.name, func);
      visit(func.body);
    }
  };
  for (const func of funcs) visit(func.body);
  return [...found.values()];
}
