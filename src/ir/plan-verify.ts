/** What must hold of a plan, by id. A plan that passes runs without reading what was not written or writing over what is needed. */
import { IrError } from "./errors.ts";
import { globalBufs } from "./kernel/walk.ts";
import { accesses, arenaAlignment, type FuncPlan, type Location, type Plan, type Step, writtenParams } from "./plan.ts";
import { byteSize, sameType, showType } from "./types.ts";

/** Throws IrError naming the invariant (P1 ..), the function and the step. */
export function verifyPlan(plan: Plan): void {
  if (!plan.funcs.has(plan.entry))
    throw new IrError(`plan @${plan.name}`, `P1 entry: there is no function @${plan.entry}`);
  const seen = new Map<string, FuncPlan>();
  for (const func of plan.funcs.values()) {
    for (const [i, step] of func.steps.entries()) verifyStep(plan, func, step, i, seen);
    verifyArena(func, plan);
    verifyOrder(func, plan, seen);
    verifyDonation(func, plan);
    seen.set(func.name, func);
  }
}

function fail(func: FuncPlan, i: number, what: string): IrError {
  return new IrError(`plan @${func.name} step ${i}`, what);
}

function verifyStep(plan: Plan, func: FuncPlan, step: Step, i: number, seen: ReadonlyMap<string, FuncPlan>): void {
  const at = (location: number): Location => {
    const found = func.locations[location];
    if (found === undefined) throw fail(func, i, `P2 locations: there is no location ${location}`);
    return found;
  };
  if (step.step === "launch") {
    const kernel = plan.kernels[step.kernel];
    if (kernel === undefined || globalBufs(kernel).length !== step.args.length)
      throw fail(func, i, "P3 launches: buffers and arguments differ in number");
  }
  const { writes } = accesses(step, plan.kernels);
  for (const write of writes) if (at(write).place === "weight") throw fail(func, i, "P4 weights: a weight is written");
  switch (step.step) {
    case "launch": {
      const bufs = globalBufs(plan.kernels[step.kernel]!);
      for (const [j, buf] of bufs.entries()) {
        const { type } = at(step.args[j]!);
        const size = type.shape.reduce((product, dim) => product * dim, 1);
        if (buf.dtype !== type.dtype || buf.size !== size) {
          throw fail(
            func,
            i,
            `P3 launches: buffer ${buf.name} is ${buf.dtype} x ${buf.size}, its argument ${showType(type)}`,
          );
        }
      }
      if (writes.some((write) => step.args.indexOf(write) !== step.args.lastIndexOf(write)))
        throw fail(func, i, "P12 aliases: a location that a launch writes is another argument too");
      return;
    }
    case "call": {
      const callee = seen.get(step.func);
      if (callee === undefined) throw fail(func, i, `P5 calls: @${step.func} does not come before`);
      const fits =
        callee.params.length === step.args.length &&
        callee.results.length === step.results.length &&
        step.args.every((arg, j) => sameType(at(arg).type, callee.params[j]!.type)) &&
        step.results.every((result, j) => sameType(at(result).type, callee.results[j]!.type));
      if (!fits) throw fail(func, i, `P5 calls: arguments of @${step.func} do not fit`);
      for (const [j, param] of callee.donated.entries()) {
        if (param !== null && step.results[j] !== step.args[param])
          throw fail(func, i, "P6 donation: a result is not where its parameter is");
        if (param !== null && step.args.indexOf(step.args[param]!) !== step.args.lastIndexOf(step.args[param]!))
          throw fail(func, i, "P6 donation: memory that is written is also another argument");
      }
      return;
    }
    case "copy":
      if (byteSize(at(step.from).type) !== byteSize(at(step.to).type)) throw fail(func, i, "P7 copies: sizes differ");
  }
}

/** P8: arena places are aligned, inside the arena, and places needed at the same time do not overlap. */
function verifyArena(func: FuncPlan, plan: Plan): void {
  const lives: { from: number; to: number; first: number; last: number }[] = [];
  const place = (offset: number, bytes: number, first: number, last: number) => {
    if (offset % arenaAlignment !== 0 || offset + bytes > func.arenaBytes)
      throw fail(func, first, `P8 arena: place at ${offset} leaves the arena`);
    for (const other of lives) {
      const apart = other.to <= offset || offset + bytes <= other.from || other.last < first || last < other.first;
      if (!apart)
        throw fail(func, first, `P8 arena: places at ${offset} and ${other.from} overlap while both are needed`);
    }
    lives.push({ from: offset, to: offset + bytes, first, last });
  };
  const touched = livesOf(func, plan);
  for (const [i, location] of func.locations.entries()) {
    const life = touched.get(i);
    if (location.place === "arena" && life !== undefined)
      place(location.offset, byteSize(location.type), life.first, life.last);
  }
}

/** P9: what is read was written before, by a step or by the caller; P10: the callee's part of the arena is free. */
function verifyOrder(func: FuncPlan, plan: Plan, seen: ReadonlyMap<string, FuncPlan>): void {
  const written = new Set<number>();
  const lives = livesOf(func, plan);
  for (const [i, location] of func.locations.entries())
    if (location.place === "param" || location.place === "weight") written.add(i);
  for (const [i, step] of func.steps.entries()) {
    const { reads, writes } = accesses(step, plan.kernels);
    for (const read of reads)
      if (!written.has(read)) throw fail(func, i, `P9 order: location ${read} is read before it is written`);
    for (const write of writes) written.add(write);
    if (step.step !== "call") continue;
    const bytes = seen.get(step.func)?.arenaBytes ?? 0;
    for (const [j, location] of func.locations.entries()) {
      const life = lives.get(j);
      if (location.place !== "arena" || life === undefined || life.first > i || i > life.last) continue;
      const apart = location.offset + byteSize(location.type) <= step.arena || step.arena + bytes <= location.offset;
      if (!apart) throw fail(func, i, `P10 calls: the arena of @${step.func} overlaps location ${j}`);
    }
  }
}

/** P11: the caller's memory changes only where a result is left in it. */
function verifyDonation(func: FuncPlan, { kernels }: Plan): void {
  const spoiled = writtenParams(func, kernels).find((param) => !func.donated.includes(param));
  if (spoiled === undefined) return;
  const { name } = func.params[spoiled]!;
  throw new IrError(`plan @${func.name}`, `P11 parameters: ${name} is written, but no result is left in it`);
}

/** The first and the last step that touch each location; a location that none touches is left out. */
function livesOf(func: FuncPlan, { kernels }: Plan): ReadonlyMap<number, { readonly first: number; last: number }> {
  const lives = new Map<number, { readonly first: number; last: number }>();
  for (const [at, step] of func.steps.entries()) {
    const { reads, writes } = accesses(step, kernels);
    for (const i of [...reads, ...writes]) {
      const life = lives.get(i);
      if (life === undefined) lives.set(i, { first: at, last: at });
      else life.last = at;
    }
  }
  return lives;
}
