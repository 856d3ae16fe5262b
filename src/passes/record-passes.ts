/** What each pass did to a module, in numbers: for summaries of a compilation. */
import { type Module, topoOrder } from "../ir/graph.ts";
import type { Instrument } from "./pass.ts";

export interface PassRecord {
  /** Unique: the second simplify is `simplify#2`. */
  readonly name: string;
  readonly after: Module;
  readonly opsBefore: number;
  readonly opsAfter: number;
  readonly ms: number;
}

/** An instrument that appends a record per pass. */
export function recordPasses(records: PassRecord[]): Instrument {
  const numbers = passNumbers();
  return {
    after: (pass, before, after, ms) => {
      records.push({ ...numbers(pass.name, before, after, ms), after });
    },
  };
}

/** Numbers the passes of one name, and counts their ops. */
export function passNumbers() {
  const times = new Map<string, number>();
  return (pass: string, before: Module, after: Module, ms: number) => {
    const time = (times.get(pass) ?? 0) + 1;
    times.set(pass, time);
    const name = time === 1 ? pass : `${pass}#${time}`;
    return { name, opsBefore: countOps(before), opsAfter: countOps(after), ms };
  };
}

/** Nodes of all functions, parameters not counted; a function counts once however often it is called. */
export function countOps(module: Module): number {
  let count = 0;
  for (const func of module.funcs.values()) {
    count += topoOrder(func.outs).filter(({ op }) => op !== "param").length;
  }
  return count;
}
