/** The memory of a kernel that `run.ts` walks: every access is checked, against bounds and between the iterations of a workgroup. */
import { IrError } from "../errors.ts";
import { reader, type TensorData, tensorFrom, writer, zeros } from "../tensor.ts";
import type { Buf, Kernel, Stmt } from "./kernel.ts";

export interface Memory {
  readonly read: (i: number) => number;
  readonly write: (i: number, value: number) => void;
}

/** A product, and where its matrices begin. */
interface Asked {
  readonly stmt: Stmt;
  readonly at: string;
}

/** The workgroup loop that is running: which iteration, how many barriers it has passed, and what combines gather. */
export interface Group {
  lane: number;
  epoch: number;
  /** Counts workgroups, each of which finds shared memory empty. */
  run: number;
  readonly gathered: Map<number, number | readonly number[]>;
  /** What each has asked to be multiplied since the last barrier. */
  readonly multiplied: { epoch: number; readonly asked: Map<number, readonly Asked[]> };
}

/** The memory of a buffer; `data` is that of a global one. */
export function memoryOf(kernel: Kernel, buf: Buf, group: Group, data: TensorData | undefined): Memory {
  const own = {
    global: () => global(buf, group, data),
    scratch: () => scratch(buf, group),
    shared: () => shared(buf, group),
  };
  return bounded(kernel, buf, own[buf.space]());
}

function global(buf: Buf, group: Group, data: TensorData | undefined): Memory {
  if (data === undefined) throw new IrError(`buffer ${buf.name}`, "has no storage");
  if (buf.dtype === "f64") throw new IrError(`buffer ${buf.name}`, "f64 storage is for scratch only");
  const tensor = tensorFrom({ dtype: buf.dtype, shape: [buf.size] }, data);
  const memory = { read: reader(tensor), write: writer(tensor) };
  return buf.access === "readwrite" ? ordered(buf, group, () => memory) : memory;
}

/** Every iteration of a workgroup loop has its own. */
function scratch(buf: Buf, group: Group): Memory {
  const lanes = new Map<number, Memory>();
  const own = () => {
    const known = lanes.get(group.lane) ?? privateMemory(buf);
    lanes.set(group.lane, known);
    return known;
  };
  return { read: (i) => own().read(i), write: (i, value) => own().write(i, value) };
}

/** Found empty by each workgroup. */
function shared(buf: Buf, group: Group): Memory {
  let [run, memory] = [0, privateMemory(buf)];
  return ordered(buf, group, () => {
    if (run !== group.run) [run, memory] = [group.run, privateMemory(buf)];
    return memory;
  });
}

/** Refuses an access that another iteration's, since the last barrier, does not come before or after for certain. */
function ordered(buf: Buf, group: Group, memory: () => Memory): Memory {
  let run = 0;
  const touched = new Map<number, { epoch: number; lane: number; stored: boolean }>();
  const touch = (i: number, stored: boolean) => {
    if (run !== group.run) {
      run = group.run;
      touched.clear();
    }
    const { epoch, lane } = group;
    const last = touched.get(i);
    const now = last?.epoch === epoch;
    if (now && last.lane !== lane && (stored || last.stored)) {
      throw new IrError(`${buf.space} ${buf.name}`, `two iterations use element ${i} with no barrier between them`);
    }
    // Several that only load are no single iteration.
    const who = now && last.lane !== lane ? Number.NaN : lane;
    touched.set(i, { epoch, lane: who, stored: stored || (now && last.stored) });
  };
  return {
    read: (i) => {
      touch(i, false);
      return memory().read(i);
    },
    write: (i, value) => {
      touch(i, true);
      memory().write(i, value);
    },
  };
}

function privateMemory(buf: Buf): Memory {
  const stored = new Uint8Array(buf.size);
  const tensor = buf.dtype === "f64" ? undefined : zeros(buf.dtype, [buf.size]);
  const doubles = new Float64Array(tensor === undefined ? buf.size : 0);
  const read = tensor === undefined ? (i: number) => doubles[i]! : reader(tensor);
  const write =
    tensor === undefined
      ? (i: number, value: number) => {
          doubles[i] = value;
        }
      : writer(tensor);
  return {
    read: (i) => {
      if (stored[i] === 0) throw new IrError(`${buf.space} ${buf.name}`, `element ${i} is loaded before it is stored`);
      return read(i);
    },
    write: (i, value) => {
      stored[i] = 1;
      write(i, value);
    },
  };
}

function bounded(kernel: Kernel, buf: Buf, memory: Memory): Memory {
  const check = (i: number, allowed: boolean, what: string) => {
    const where = `kernel ${kernel.name}`;
    if (!allowed) throw new IrError(where, `${what} ${buf.name}, which is ${buf.access}`);
    if (!Number.isInteger(i) || i < 0 || i >= buf.size) {
      throw new IrError(where, `${what} ${buf.name}[${i}], outside its ${buf.size} elements`);
    }
  };
  return {
    read: (i) => {
      check(i, buf.access !== "write" || buf.space !== "global", "load of");
      return memory.read(i);
    },
    write: (i, value) => {
      check(i, buf.access !== "read", "store to");
      memory.write(i, value);
    },
  };
}
