/**
 * How threads share a launch. The iterations of its grid are cut into chunks, and every chunk of every launch of a step
 * has a ticket: consecutive numbers, the same on all threads, since all run the same driver. The first thread leads: it
 * opens a launch by raising `limit`, and goes on when as many tickets are `done` as the launch has. What others do not
 * take it does itself, so a thread that the system has put aside with no chunk in hand is missed by nobody, and skips what
 * is over when it comes back; launches that are not worth sharing the first thread runs alone, without a meeting.
 * A thread with a number below 0 is a guest (see `guests.ts`): it takes chunks of what is open and waits for nothing.
 *
 * Tickets count on from step to step and wrap around, so they are compared by the sign of their difference.
 */
import { type AddressType, narrow } from "./address-type.ts";
import { apply, assign, type Code, func, int, local } from "./code.ts";
import {
  block,
  branch,
  branchIf,
  call,
  i64,
  ifElse,
  loopBlock,
  type MemoryOp,
  memory,
  other,
  plain,
  type WasmFunc,
  type WasmGlobal,
} from "./instr.ts";

/** Byte addresses of 32-bit cells, each in a cache line of its own. Below `firstFree` all belongs to the device. */
export const nextAddress = 64;
export const limitAddress = 128;
export const doneAddress = 192;
/** Not 0: the step must end (1: a thread has failed, 2: the step was aborted, 3: a thread has died). */
export const stopAddress = 256;
/** Threads that sleep until a launch opens. */
export const sleepersAddress = 320;
/** Changes with every command; threads wait for that. Odd while the cells that belong to it are being written. */
export const commandAddress = 384;
/** A program's number, or 0 to read messages; and the first ticket of its step. */
export const programAddress = 448;
export const ticketAddress = 512;
/** Whether the first thread sleeps until chunks are done. */
export const waitingAddress = 576;
export const firstFree = 1024;

/** Indices of cells as 32-bit integers. */
export const syncCells = {
  command: commandAddress / 4,
  program: programAddress / 4,
  ticket: ticketAddress / 4,
  stop: stopAddress / 4,
  next: nextAddress / 4,
  limit: limitAddress / 4,
  done: doneAddress / 4,
} as const;

/** Gives the number of a chunk of the launch, or -1 where there is none left for this thread: the launch is over. */
export const takeName = "take a chunk";
/** Says that the chunk taken last is done. */
export const finishName = "finish a chunk";

export const syncGlobals: readonly WasmGlobal[] = [
  { name: "thread", type: "i32", mutable: true, init: 0, exported: true },
  /** The first ticket of the launch that this thread has come to. */
  { name: "ticket", type: "i32", mutable: true, init: 0, exported: true },
  /** Whether this thread has taken a chunk that is not done. */
  { name: "holds", type: "i32", mutable: true, init: 0, exported: true },
];

/** Turns of a waiting loop before a thread sleeps, some hundred microseconds: waking it up takes about fifty. */
const spins = 20_000;

const thread: Code = [{ k: "global", op: "global.get", name: "thread" }];
const ticket: Code = [{ k: "global", op: "global.get", name: "ticket" }];
const holds = (value: 0 | 1): Code => [...int(value), { k: "global", op: "global.set", name: "holds" }];
const lastTicket = apply("i32.add", ticket, local("count"));

/** The functions of sharing, for this kind of address. */
export function syncFuncs(address: AddressType = narrow): readonly WasmFunc[] {
  const cell = (at: number, op: MemoryOp, ...values: readonly Code[]): Code => [
    ...address.constant(at),
    ...values.flat(),
    memory(op),
  ];
  const load = (at: number) => cell(at, "i32.atomic.load");
  const wake = (at: number, count: number): Code => [...cell(at, "memory.atomic.notify", int(count)), { k: "drop" }];
  /** Spins while `waits` holds, then sleeps on a cell until it is not `now`, for a tenth of a second at most. */
  const pause = (at: number, asleep: number): Code => [
    ...assign("turns", apply("i32.add", local("turns"), int(1))),
    ...apply("i32.ge_u", local("turns"), int(spins)),
    ifElse(null, [
      ...cell(asleep, "i32.atomic.rmw.add", int(1)),
      { k: "drop" },
      ...cell(at, "memory.atomic.wait32", local("now"), [i64(100_000_000n)]),
      { k: "drop" },
      ...cell(asleep, "i32.atomic.rmw.sub", int(1)),
      { k: "drop" },
    ]),
  ];
  const stopped: Code = [...load(stopAddress), ifElse(null, [other("unreachable")])];
  /** Of the first thread: until all chunks of the launch are done. */
  const waitForDone: Code = [
    ...assign("turns", int(0)),
    block("all done", [
      loopBlock("wait", [
        ...assign("now", load(doneAddress)),
        ...apply("i32.eq", local("now"), lastTicket),
        branchIf("all done"),
        ...stopped,
        ...pause(doneAddress, waitingAddress),
        branch("wait"),
      ]),
    ]),
  ];
  const open: Code = [
    ...stopped,
    ...cell(limitAddress, "i32.atomic.store", lastTicket),
    ...load(sleepersAddress),
    ifElse(null, wake(limitAddress, -1)),
  ];
  const leave: Code = [...lastTicket, { k: "global", op: "global.set", name: "ticket" }, ...int(-1), other("return")];
  const over: Code = [...thread, plain("i32.eqz"), ifElse(null, waitForDone), ...leave];
  const isGuest: Code = apply("i32.lt_s", thread, int(0));
  const waitForOpen: Code = [...isGuest, ifElse(null, leave), ...pause(limitAddress, sleepersAddress)];
  const take = func(takeName, { count: "i32" }, "i32", { next: "i32", chunk: "i32", now: "i32", turns: "i32" }, [
    loopBlock("again", [
      ...assign("next", load(nextAddress)),
      ...assign("chunk", apply("i32.sub", local("next"), ticket)),
      ...apply("i32.ge_s", local("chunk"), local("count")),
      ifElse(null, over),
      ...assign("now", load(limitAddress)),
      ...apply("i32.lt_s", apply("i32.sub", local("now"), lastTicket), int(0)),
      ifElse(null, [...thread, ifElse(null, waitForOpen, open), branch("again")]),
      ...cell(nextAddress, "i32.atomic.rmw.cmpxchg", local("next"), apply("i32.add", local("next"), int(1))),
      ...local("next"),
      plain("i32.ne"),
      branchIf("again"),
    ]),
    ...holds(1),
    ...local("chunk"),
  ]);
  const finish: WasmFunc = {
    ...func(finishName, {}, "i32", {}, [
      ...holds(0),
      ...cell(doneAddress, "i32.atomic.rmw.add", int(1)),
      { k: "drop" },
      ...load(waitingAddress),
      ifElse(null, wake(doneAddress, 1)),
    ]),
    results: [],
  };
  return [take, finish];
}

export const takeChunk: Code = [call(takeName)];
export const finishChunk: Code = [call(finishName)];
