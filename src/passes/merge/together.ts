/**
 * Iterations of a nest run by a workgroup: the form that merged launches take on GPUs, where a launch is a grid of
 * workgroups. A *team* says how a kernel divides its work now: each invocation alone, or workgroups of some size. One
 * iteration of the merged grid is what one workgroup of `size` invocations does: elements that were computed alone are
 * taken in turn, and smaller workgroups run beside each other, or one after another.
 */
import {
  type Expr,
  type For,
  iadd,
  idiv,
  imul,
  int,
  irem,
  type Kernel,
  op,
  ref,
  type Stmt,
} from "../../ir/kernel/kernel.ts";
import { barrier, bind, loop, when } from "../../ir/kernel/stmt.ts";
import { eachStmt, mapStmt, meets } from "../../ir/kernel/walk.ts";
import { at, type Dim, divide, extentOf, freshName, type Nest } from "./nest.ts";
import { loopByPhases } from "./phases.ts";

export type Team =
  /** An invocation for each iteration of the nest, which is one where there are no loops. */
  | { readonly kind: "alone" }
  /** `lanes` invocations for each iteration, in a loop that is the last statement of the nest's body. */
  | { readonly kind: "together"; readonly lanes: number; readonly sideBySide: boolean }
  /** Several grids of which each invocation runs its part, or something else that is no nest. */
  | { readonly kind: "parts" };

export function teamOf({ kernel, prologue, body }: Nest): Team {
  const groups: For[] = [];
  let [uneven, multiplies] = [false, false];
  eachStmt(kernel.body, (stmt) => {
    if (stmt.k === "multiply") multiplies = true;
    if (stmt.k !== "for") return;
    if (stmt.how === "workgroup") groups.push(stmt);
    else if (stmt.to.k !== "num" && meets(stmt.body)) uneven = true;
  });
  // Which invocations multiply together depends on the size of the workgroup.
  if (prologue.length > 0 || multiplies) return { kind: "parts" };
  if (groups.length === 0) return { kind: isPlain(body) ? "alone" : "parts" };
  const last = body.at(-1);
  const [only] = groups;
  const single = groups.length === 1 && last?.k === "for" && last.how === "workgroup" && isPlain(body.slice(0, -1));
  if (!single || only!.to.k !== "num") return { kind: "parts" };
  const shared = kernel.bufs.some(({ space }) => space === "shared");
  return { kind: "together", lanes: only!.to.value, sideBySide: !shared && !uneven };
}

/** Whether nothing in the body of all loops is a grid of its own. */
function isPlain(body: readonly Stmt[]): boolean {
  let plain = true;
  eachStmt(body, (stmt) => {
    if (stmt.k === "for" && stmt.how === "grid") plain = false;
  });
  return plain;
}

/** Invocations of the whole launch. */
export function invocationsOf(nest: Nest, team: Team): number {
  return team.kind === "together" ? extentOf(nest) * team.lanes : extentOf(nest);
}

/** How many of `size` invocations have something to do where the nest is run by `extent` workgroups. */
export function busyLanes(nest: Nest, team: Team, extent: number, size: number): number {
  const iterations = extentOf(nest) / extent;
  return team.kind === "together" ? team.lanes * besides(team, iterations, size) : Math.min(iterations, size);
}

/** Workgroups of the kernel that one of `size` invocations runs at once. */
function besides(team: Extract<Team, { kind: "together" }>, iterations: number, size: number): number {
  if (!team.sideBySide) return 1;
  let count = 1;
  while (2 * count * team.lanes <= size && iterations % (2 * count) === 0) count *= 2;
  return count;
}

export interface Workgroup {
  /** Which of `extent` workgroups. */
  readonly index: Expr;
  readonly extent: number;
  readonly lane: Expr;
  /** Invocations; a multiple of the team's. */
  readonly size: number;
  /** Names in use; those that are made here are added. */
  readonly names: Set<string>;
}

/** What every invocation of a workgroup runs for its part of the nest. */
export function runTogether(nest: Nest, team: Team, workgroup: Workgroup): readonly Stmt[] {
  const { index, extent, lane, size, names } = workgroup;
  const { values, rest } = divide(nest, extent, index);
  const count = rest.reduce((product, dim) => product * dim.count, 1);
  const fresh = (base: string) => {
    const name = freshName(names, base);
    names.add(name);
    return name;
  };
  const runAt = (body: readonly Stmt[], r: Expr) => at(at(body, values), digitsOf(rest, r));
  if (team.kind !== "together") {
    if (count === size) return runAt(nest.body, lane);
    const name = fresh("r");
    return [loop(name, lane, count, runAt(nest.body, ref(name)), "serial", size)];
  }
  const { lanes } = team;
  const side = besides(team, count, size);
  const head: Stmt[] = [];
  const named = (base: string, value: Expr): Expr => {
    if (value.k === "ref" || value.k === "num") return value;
    const name = fresh(base);
    head.push(bind(name, value));
    return ref(name);
  };
  const own = named("own", lanes === size ? lane : irem(lane, int(lanes)));
  const beside = side === 1 ? int(0) : named("beside", op("min", idiv(lane, int(lanes)), int(side - 1)));
  // Who has nothing to do does as others do, so that all meet, and stores nothing.
  const guard = side * lanes < size ? op("lt", lane, int(side * lanes)) : undefined;
  const last = nest.body.at(-1) as For; // says the team
  const flat = [...nest.body.slice(0, -1), ...at(last.body, new Map([[last.name, own]]))];
  const body = guard === undefined ? flat : flat.map((stmt) => guardStores(stmt, guard));
  const steps = count / side;
  if (steps === 1) return [...head, ...runAt(body, beside)];
  const name = fresh("s");
  const iteration = runAt(body, iadd(imul(ref(name), int(side)), beside));
  const shared = nest.kernel.bufs.some(({ space }) => space === "shared");
  // Shared memory is used again by the next.
  return [
    ...head,
    ...(shared ? [loop(name, 0, steps, [...iteration, barrier])] : loopByPhases(name, steps, iteration, fresh)),
  ];
}

/** The values of nested loop variables in iteration `r` of all of them. */
function digitsOf(dims: readonly Dim[], r: Expr): ReadonlyMap<string, Expr> {
  const values = new Map<string, Expr>();
  let below = 1;
  for (const [i, { name, from, count, step }] of [...dims.entries()].reverse()) {
    const quotient = idiv(r, int(below));
    const digit = i === 0 ? quotient : irem(quotient, int(count));
    values.set(name, iadd(imul(digit, int(step)), int(from)));
    below *= count;
  }
  return values;
}

function guardStores(stmt: Stmt, guard: Expr): Stmt {
  if (stmt.k === "store") return when(guard, [stmt]);
  return mapStmt(
    stmt,
    (expr) => expr,
    (block) => block.map((inner) => guardStores(inner, guard)),
  );
}

/** Whether a kernel is grids alone, of which each invocation runs its part: several such can be one launch as they are. */
export function areGrids({ body }: Kernel): boolean {
  let alone = true;
  eachStmt(body, (stmt) => {
    if (stmt.k === "for" && stmt.how === "workgroup") alone = false;
  });
  return alone && body.every((stmt) => stmt.k === "note" || (stmt.k === "for" && stmt.how === "grid"));
}
