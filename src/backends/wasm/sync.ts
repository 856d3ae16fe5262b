/** How threads meet: the barrier in WebAssembly, and the cells of shared memory it uses, each in a cache line of its own. */
import { apply, assign, func, int, local } from "./code.ts";
import {
  block,
  branch,
  branchIf,
  i64,
  ifElse,
  loopBlock,
  memory,
  other,
  plain,
  type WasmFunc,
  type WasmGlobal,
} from "./instr.ts";

/** Byte addresses. Everything below `firstFree` belongs to the device. */
export const arrivedAddress = 64;
export const generationAddress = 128;
export const counterAddress = 192;
/** Not 0: threads must stop (1: one has failed, 2: the step was aborted). */
export const stopAddress = 256;
export const sleepersAddress = 320;
/** Changes with every command; threads wait for that. The command itself: a program's number, or 0 to read messages. */
export const commandAddress = 384;
export const programAddress = 448;
/** Threads that have left the step. */
export const finishedAddress = 512;
export const firstFree = 1024;

export const barrierName = "barrier";

export const syncGlobals: readonly WasmGlobal[] = [
  { name: "thread", type: "i32", mutable: true, init: 0, exported: true },
  { name: "threads", type: "i32", mutable: true, init: 1, exported: true },
];

/** Turns of the waiting loop before a thread sleeps: some hundred microseconds. */
const spins = 50_000;

const stopped = [...int(stopAddress), memory("i32.atomic.load")];
const generation = [...int(generationAddress), memory("i32.atomic.load")];

/** The last thread to arrive resets the counters and starts the next generation; the others wait for that. */
export const barrier: WasmFunc = {
  ...func(barrierName, {}, "i32", { now: "i32", turns: "i32" }, assign("now", generation), [
    ...apply("i32.add", [...int(arrivedAddress), ...int(1), memory("i32.atomic.rmw.add")], int(1)),
    { k: "global", op: "global.get", name: "threads" },
    plain("i32.eq"),
    ifElse(
      null,
      [
        ...int(arrivedAddress),
        ...int(0),
        memory("i32.atomic.store"),
        ...int(counterAddress),
        ...int(0),
        memory("i32.atomic.store"),
        ...int(generationAddress),
        ...apply("i32.add", local("now"), int(1)),
        memory("i32.atomic.store"),
        ...int(sleepersAddress),
        memory("i32.atomic.load"),
        ifElse(null, [...int(generationAddress), ...int(-1), memory("memory.atomic.notify"), { k: "drop" }]),
      ],
      [
        block("released", [
          loopBlock("wait", [
            ...apply("i32.ne", generation, local("now")),
            branchIf("released"),
            ...stopped,
            ifElse(null, [other("unreachable")]),
            ...assign("turns", apply("i32.add", local("turns"), int(1))),
            ...apply("i32.lt_u", local("turns"), int(spins)),
            branchIf("wait"),
            ...int(sleepersAddress),
            ...int(1),
            memory("i32.atomic.rmw.add"),
            { k: "drop" },
            // At most a tenth of a second, so that a stop is seen even if nobody wakes this thread.
            ...int(generationAddress),
            ...local("now"),
            i64(100_000_000n),
            memory("memory.atomic.wait32"),
            { k: "drop" },
            ...int(sleepersAddress),
            ...int(1),
            memory("i32.atomic.rmw.sub"),
            { k: "drop" },
            branch("wait"),
          ]),
        ]),
      ],
    ),
    ...stopped,
    ifElse(null, [other("unreachable")]),
  ]),
  results: [],
};
