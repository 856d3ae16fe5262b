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
  const times = new Map<string, number>();
  return {
    after: (pass, before, after, ms) => {
      const time = (times.get(pass.name) ?? 0) + 1;
      times.set(pass.name, time);
      const name = time === 1 ? pass.name : `${pass.name}#${time}`;
      records.push({ name, after, opsBefore: countOps(before), opsAfter: countOps(after), ms });
    },
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
