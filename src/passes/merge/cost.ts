/**
 * Whether one launch is cheaper than two. The unit is one scalar op, load or store; a launch of `extent` iterations runs on
 * at most `workers` threads, and between launches they wait for each other. The numbers are round: they decide that a norm
 * of a few thousand values may run on one thread with what follows, and that a matrix product may not.
 */
import type { Expr, Kernel, Stmt } from "../../ir/kernel/kernel.ts";
import { multiplyWork } from "../../ir/kernel/multiply.ts";
import { afterStmt, assume, type Facts, insideLoop, looseFactsOf, rangeOf } from "../../ir/kernel/range.ts";
import { exprsOf, operandsOf } from "../../ir/kernel/walk.ts";
import type { Nest } from "./nest.ts";
import { busyLanes, invocationsOf, type Team } from "./together.ts";

/** Threads that a launch is assumed to be divided among. */
const workers = 4;
/** What waiting between two launches costs: about a microsecond. */
const barrier = 16384;
/** The part of the work that may be done again by every iteration, which costs where there is one thread. */
const mostRepeated = 1 / 32;
/** More work than this is not known to be small, as where a loop's length depends on data. */
const unbounded = 1e12;

/** Ops, loads and stores of a whole launch, at most. */
export function workOf(kernel: Kernel): number {
  return blockWork(kernel.body, looseFactsOf(kernel));
}

/** Whether two launches should be one of `extent` iterations, which does some of the work again. */
export function paysOff(a: Launch, b: Launch, extent: number, repeated: number): boolean {
  const work = a.work + b.work;
  return (
    repeated <= work * mostRepeated && timeOf({ work: work + repeated, extent }) <= timeOf(a) + timeOf(b) + barrier
  );
}

/**
 * The same on a GPU, where the merged launch is `extent` workgroups of `size` invocations. Invocations beyond `resident` wait
 * for others; starting a launch and waiting for it takes as long as a thousand ops of one invocation.
 */
export function paysOffTogether(a: TeamLaunch, b: TeamLaunch, extent: number, size: number, linked: boolean): boolean {
  // Nothing is gained by fewer workgroups where the second does not wait for the first.
  const most = linked ? resident : atOnce;
  const apart = [a, b].map(({ nest, team, work }) => work / Math.min(invocationsOf(nest, team), most));
  const merged = [a, b].map(
    ({ nest, team, work }) => work / Math.min(extent * busyLanes(nest, team, extent, size), most),
  );
  return merged[0]! + merged[1]! <= apart[0]! + apart[1]! + gpuLaunch;
}

/**
 * What `b` takes in `extent` workgroups that do `a` first, each for itself; undefined where that is more than the two launches
 * take, or workgroups would wait for others and so do `a` one after another.
 */
export function timeRepeated(a: TeamLaunch, b: TeamLaunch, extent: number, size: number): number | undefined {
  if (extent * size > atOnce) return undefined;
  const [first, second] = [a, b].map(({ nest, team, work }) => work / Math.min(invocationsOf(nest, team), resident));
  const again = a.work / busyLanes(a.nest, a.team, 1, size);
  const time = again + b.work / Math.min(extent * busyLanes(b.nest, b.team, extent, size), resident);
  return again <= mostAgain && time <= first! + second! + gpuLaunch ? time : undefined;
}

interface TeamLaunch {
  readonly nest: Nest;
  readonly team: Team;
  readonly work: number;
}

/** Invocations that a GPU runs at the same time. */
const resident = 1 << 15;
/** What larger GPUs run, where that matters: of invocations that all do the same, or that have nothing to do with each other. */
export const atOnce = 1 << 17;
/** What a launch costs in ops of one invocation: starting it, and waiting for memory once more, some three microseconds. */
const gpuLaunch = 1024;
/** What may be done by each workgroup: a norm of a few thousand values with what it is quantised to. */
const mostAgain = 2048;

export interface Launch {
  readonly work: number;
  /** Iterations that may run on different threads. */
  readonly extent: number;
}

function timeOf({ work, extent }: Launch): number {
  return (work * Math.ceil(extent / workers)) / extent;
}

function blockWork(stmts: readonly Stmt[], outer: Facts): number {
  let facts = outer;
  let total = 0;
  for (const stmt of stmts) {
    total += exprsOf(stmt).reduce((sum, expr) => sum + exprWork(expr), stmt.k === "store" ? stmt.value.type.lanes : 0);
    if (stmt.k === "multiply") total += multiplyWork(stmt);
    if (stmt.k === "for") {
      const length = rangeOf(stmt.to, facts).hi - rangeOf(stmt.from, facts).lo;
      total += Math.max(0, Math.ceil(length / stmt.step)) * blockWork(stmt.body, insideLoop(stmt, facts));
    } else if (stmt.k === "if") {
      const [then, other] = [true, false].map((side) =>
        blockWork(side ? stmt.then : stmt.else, assume(stmt.cond, side, facts)),
      );
      total += Math.max(then!, other!);
    }
    facts = afterStmt(stmt, facts);
  }
  return Math.min(total, unbounded);
}

function exprWork(expr: Expr): number {
  const own = expr.k === "num" || expr.k === "ref" || expr.k === "cast" ? 0 : Math.min(expr.type.lanes, 4);
  return operandsOf(expr).reduce((sum, operand) => sum + exprWork(operand), own);
}
