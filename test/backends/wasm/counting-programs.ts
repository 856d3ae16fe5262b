/** Programs for tests of threads: launches whose chunks count themselves, or fail. */
import { shareLaunch, shareLocals } from "../../../src/backends/wasm/driver.ts";
import { encodeModule } from "../../../src/backends/wasm/encode.ts";
import {
  branchIf,
  type Instr,
  i32,
  ifElse,
  loopBlock,
  memory,
  plain,
  type WasmFunc,
} from "../../../src/backends/wasm/instr.ts";
import { moduleOf } from "../../../src/backends/wasm/program.ts";
import { syncFuncs } from "../../../src/backends/wasm/sync.ts";

/** A function of a chunk and the chunk after it, and a program that shares launches of it, `launches` or for ever. */
function programOf(body: readonly Instr[], { chunks, launches }: { chunks: number; launches: number | null }): Loaded {
  const params = ["begin", "end"].map((name) => ({ name, type: "i32" as const }));
  const work: WasmFunc = { name: "work", params, results: [], locals: [], body };
  const launch = [...shareLaunch("work", { from: 0, to: chunks }, { chunks, size: 1 }, [])];
  const all = launches === null ? [loopBlock("again", [...launch, i32(1), branchIf("again")])] : null;
  const entry: WasmFunc = {
    name: "step",
    params: [],
    results: [],
    locals: shareLocals,
    body: all ?? Array.from({ length: launches ?? 0 }, () => launch).flat(),
    exported: true,
  };
  const module = new WebAssembly.Module(encodeModule(moduleOf([...syncFuncs(), work, entry], true)));
  return { module, tickets: chunks * (launches ?? 1_000_000) };
}

export interface Loaded {
  readonly module: WebAssembly.Module;
  readonly tickets: number;
}

/** Counts in cell 512 how often each chunk is run. */
const count: readonly Instr[] = [i32(2048), i32(1), memory("i32.atomic.rmw.add"), { k: "drop" }];
export const counting = programOf(count, { chunks: 7, launches: 3 });
const trap: readonly Instr[] = [i32(-4), memory("i32.load"), { k: "drop" }];
/** The ninth chunk, of the second launch, traps, on whichever thread has it: it is known by what the counting itself gives. */
export const failing = programOf(
  [i32(2048), i32(1), memory("i32.atomic.rmw.add"), i32(8), plain("i32.eq"), ifElse(null, trap)],
  {
    chunks: 7,
    launches: 3,
  },
);
/** A step without end. */
export const endless = programOf([], { chunks: 2, launches: null });
