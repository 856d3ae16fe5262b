/**
 * How fast the threads of a device read its memory, by reading what is in use: the weights where they lie. A small model
 * is read from the processor's caches, as it is when it runs.
 */
import { Allotment } from "./allotment.ts";
import { apply, assign, type Code, int, local } from "./code.ts";
import { shareLaunch, shareLocals } from "./driver.ts";
import { encodeModule } from "./encode.ts";
import type { Home } from "./home.ts";
import { branchIf, call, loopBlock, memory, plain, type WasmFunc } from "./instr.ts";
import { moduleOf } from "./program.ts";
import { syncFuncs } from "./sync.ts";

const blockBytes = 2 ** 20;
/** Enough to leave the caches of most processors, and soon read. */
const mostBlocks = 256;
/** Streams of one block that are read at once: more than one is what processors fetch ahead best. */
const streams = 4;
const enoughMs = 30;
const fewestPasses = 5;

/** Bytes per second: the fastest of several passes. */
export async function measureReading(home: Home): Promise<number> {
  const start = Math.max(0, home.memory.end - mostBlocks * blockBytes);
  const blocks = Math.max(1, Math.floor((home.memory.end - start) / blockBytes));
  const built = { ...readerOf(home, blocks), scratchBytes: 64 };
  const memory = new Allotment(home.memory);
  const { run, forget } = home.bind({ built, module: new WebAssembly.Module(built.bytes), args: [start], memory });
  // The first wakes threads and touches what the engine has not compiled well yet.
  await run();
  let best = 0;
  const begin = performance.now();
  for (let pass = 0; pass < fewestPasses || performance.now() - begin < enoughMs; pass++) {
    const before = performance.now();
    await run();
    best = Math.max(best, (blocks * blockBytes) / (performance.now() - before));
  }
  forget();
  memory.free();
  return 1000 * best;
}

/** A program that reads `blocks` blocks from the address given. */
function readerOf(home: Home, blocks: number) {
  const { address, shared } = home.memory;
  const addressOf = (index: string): Code => {
    const bytes = apply("i32.mul", local(index), int(blockBytes));
    return apply(address.add, local("from"), address.type === "i64" ? apply("i64.extend_i32_u", bytes) : bytes);
  };
  const stride = blockBytes / streams;
  const load = (offset: number): Code => [...local("at"), memory("v128.load", offset), plain("v128.xor")];
  const each = Array.from({ length: 4 * streams }, (_, i) =>
    load((i % streams) * stride + 16 * Math.floor(i / streams)),
  );
  const read: WasmFunc = {
    name: "read",
    params: [{ name: "from", type: address.type }, ...["begin", "end"].map((name) => ({ name, type: "i32" as const }))],
    results: [],
    locals: [
      { name: "at", type: address.type },
      { name: "left", type: "i32" },
      { name: "sum", type: "v128" },
    ],
    body: [
      loopBlock("block", [
        ...assign("at", addressOf("begin")),
        ...assign("left", int(stride / 64)),
        loopBlock("line", [
          ...assign("sum", [...local("sum"), ...each.flat()]),
          ...assign("at", apply(address.add, local("at"), address.constant(64))),
          ...assign("left", apply("i32.sub", local("left"), int(1))),
          ...local("left"),
          branchIf("line"),
        ]),
        ...assign("begin", apply("i32.add", local("begin"), int(1))),
        ...apply("i32.lt_s", local("begin"), local("end")),
        branchIf("block"),
      ]),
      // Where it goes does not matter, but that the reads are needed.
      { k: "global", op: "global.get", name: "scratch" },
      ...local("sum"),
      memory("v128.store"),
    ],
  };
  const grid = { from: 0, to: blocks };
  const all: Code = [...local("from"), ...int(0), ...int(blocks), call(read.name)];
  const entry: WasmFunc = {
    name: "measure",
    params: [{ name: "from", type: address.type }],
    results: [],
    locals: shareLocals,
    body: home.threads > 1 ? shareLaunch(read.name, grid, { chunks: blocks, size: 1 }, local("from")) : all,
    exported: true,
  };
  const module = moduleOf([read, ...(home.threads > 1 ? syncFuncs(address) : []), entry], shared, address);
  return { bytes: encodeModule(module), entry: entry.name, tickets: home.threads > 1 ? blocks : 0 };
}
