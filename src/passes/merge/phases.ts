/**
 * What several workgroups did, done by one: iteration by iteration, or phase by phase where a phase needs nothing of an
 * earlier one but what is in memory. Then all meet once between two phases, not once in each iteration.
 */
import { type Expr, ref, type Stmt } from "../../ir/kernel/kernel.ts";
import { barrier, loop } from "../../ir/kernel/stmt.ts";
import { boundName, eachStmt, exprsOf, writesOf } from "../../ir/kernel/walk.ts";
import { hasLoad, mentions, substitute } from "../kernel/share.ts";
import { at } from "./nest.ts";

const noBufs: ReadonlySet<string> = new Set();

/** `steps` iterations that do not depend on each other; `fresh` gives names that nothing has. */
export function loopByPhases(
  name: string,
  steps: number,
  body: readonly Stmt[],
  fresh: (base: string) => string,
): readonly Stmt[] {
  const loops: Stmt[] = [];
  /** What earlier phases have named, said again, and what cannot be: variables, what was combined or loaded. */
  const again = new Map<string, Expr>();
  const lost = new Set<string>();
  for (const [i, phase] of phasesOf(body).entries()) {
    if (needs(phase, lost)) return [loop(name, 0, steps, body)];
    const own = i === 0 ? name : fresh(name);
    const step = new Map<string, Expr>([[name, ref(own)]]);
    const values = new Map([...step, ...[...again].map(([known, value]) => [known, substitute(value, step)] as const)]);
    if (i > 0) loops.push(barrier);
    loops.push(loop(own, 0, steps, at(phase, values)));
    for (const stmt of phase) {
      const bound = boundName(stmt);
      if (bound === undefined) continue;
      const value = stmt.k === "let" ? substitute(stmt.value, again) : undefined;
      if (value === undefined || hasLoad(value) || mentions(value, lost, noBufs)) lost.add(bound);
      else again.set(bound, value);
    }
  }
  return loops;
}

function phasesOf(body: readonly Stmt[]): Stmt[][] {
  const phases: Stmt[][] = [[]];
  for (const stmt of body) {
    if (stmt.k === "barrier") phases.push([]);
    else phases.at(-1)!.push(stmt);
  }
  return phases.filter((phase) => phase.length > 0);
}

function needs(stmts: readonly Stmt[], names: ReadonlySet<string>): boolean {
  let found = [...writesOf(stmts).vars].some((each) => names.has(each));
  eachStmt(stmts, (stmt) => {
    found ||= exprsOf(stmt).some((expr) => mentions(expr, names, noBufs));
  });
  return found;
}
