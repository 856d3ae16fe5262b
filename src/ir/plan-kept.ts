/**
 * The part of a plan that a run needs of which only what stays in parameters' memory counts: a prompt's step whose logits
 * nobody asks for must fill the caches, and needs neither the head nor, of the last layer, more than its keys and values.
 */
import { accesses, type FuncPlan, type Location, type Plan, type Step } from "./plan.ts";
import { byteSize } from "./types.ts";

/**
 * A plan that shares everything with `plan` but the steps of some functions, which get names of their own; or null where
 * nothing can be left out, or nothing is left. Calls stay where they are, so that tables made for the plan's calls fit.
 */
export function keptPlan(plan: Plan): Plan | null {
  const funcs = new Map(plan.funcs);
  const entry = keep(plan, funcs, plan.entry, new Set());
  const nothing = funcs.get(entry)!.steps.length === 0;
  return entry === plan.entry || nothing ? null : { ...plan, entry, funcs };
}

/** Adds a function without what only results other than `wanted` need, and gives its name, or `name` where that is nothing. */
function keep(plan: Plan, funcs: Map<string, FuncPlan>, name: string, wanted: ReadonlySet<number>): string {
  const func = plan.funcs.get(name)!;
  const needed: Location[] = [];
  const isNeeded = (location: Location) =>
    location.place === "param" ||
    (location.place === "result" && wanted.has(location.index)) ||
    needed.some((other) => overlap(location, other));
  const steps: Step[] = [];
  // From the last on, so that what reads a value is known before what writes it.
  for (const step of func.steps.toReversed()) {
    const { reads, writes } = accesses(step, plan.kernels);
    const used = writes.map((i) => isNeeded(func.locations[i]!));
    if (step.step !== "call" && !used.includes(true)) continue;
    needed.push(...[...reads, ...writes].map((i) => func.locations[i]!));
    if (step.step === "call") {
      const results = new Set(used.flatMap((each, i) => (each ? [i] : [])));
      steps.push({ ...step, func: keep(plan, funcs, step.func, results) });
    } else steps.push(step);
  }
  steps.reverse();
  const same = steps.length === func.steps.length && func.steps.every((step, i) => callee(step) === callee(steps[i]!));
  if (same) return name;
  const own = `${name} for ${[...wanted].join(" ") || "caches"}`;
  funcs.set(own, { ...func, steps });
  return own;
}

const callee = (step: Step): string | null => (step.step === "call" ? step.func : null);

/** Whether two locations of a function share memory; parameters are needed anyhow. */
function overlap(a: Location, b: Location): boolean {
  if (a.place === "arena" && b.place === "arena")
    return a.offset < b.offset + byteSize(b.type) && b.offset < a.offset + byteSize(a.type);
  return a.place === "result" && b.place === "result" && a.index === b.index;
}
