/**
 * A kernel as a nest of independent loops around a body, so that it can be *retiled*: a grid over e1 * e2 elements becomes
 * one over G of them, with loops inside for what is left. A loop is independent if lowering made it a grid, or if it is
 * proved here: every iteration stores to its own block of each buffer, reads what is stored nowhere else, and neither sets
 * vars nor fills scratch for the next. What stands before the loops (the sum of a row) is repeated by each iteration.
 */
import { touchedBlocks } from "../../ir/kernel/blocks.ts";
import {
  type Expr,
  type For,
  iadd,
  idiv,
  imul,
  int,
  irem,
  type Kernel,
  ref,
  type Stmt,
} from "../../ir/kernel/kernel.ts";
import { looseFactsOf } from "../../ir/kernel/range.ts";
import { loop } from "../../ir/kernel/stmt.ts";
import { eachStmt, exprsOf, mapStmt, namesOf, writesOf } from "../../ir/kernel/walk.ts";
import { mapExprs, mentions, substitute } from "../kernel/share.ts";

/** One loop of the nest: its variable takes `count` values from `from` in steps. */
export interface Dim {
  readonly name: string;
  readonly from: number;
  readonly count: number;
  readonly step: number;
}

export interface Nest {
  readonly kernel: Kernel;
  /** Outermost first; none for a kernel that only runs as a whole. */
  readonly dims: readonly Dim[];
  /** Before the loops, and more than names for expressions: a sum, or values in scratch. */
  readonly prologue: readonly Stmt[];
  /** What the loops run, after the names that are bound before them. */
  readonly body: readonly Stmt[];
}

/** The nest of a kernel, of as many loops as are independent and perfectly nested. */
export function nestOf(kernel: Kernel): Nest {
  const { bufs: written } = writesOf(kernel.body);
  const isName = (stmt: Stmt) => stmt.k === "note" || (stmt.k === "let" && !mentions(stmt.value, noNames, written));
  const heads: Stmt[] = [];
  let nest: Nest = { kernel, dims: [], prologue: [], body: kernel.body };
  for (;;) {
    const stmts = nest.body.slice(heads.length);
    const inner = stmts.at(-1);
    const before = stmts.slice(0, -1);
    if (inner?.k !== "for") return nest;
    const names = before.every(isName);
    if (!names && (nest.dims.length > 0 || !canRepeat(kernel, before, inner.body))) return nest;
    const dim = dimOf(inner);
    if (dim === undefined) return nest;
    const prologue = names ? nest.prologue : before;
    if (names) heads.push(...before);
    const deeper = { kernel, dims: [...nest.dims, dim], prologue, body: [...heads, ...inner.body] };
    if (inner.how !== "grid" && !isIndependent(deeper, inner)) return nest;
    nest = deeper;
  }
}

/** Whether every iteration of the loop after these statements can run them for itself. */
function canRepeat({ bufs }: Kernel, before: readonly Stmt[], body: readonly Stmt[]): boolean {
  const [mine, theirs] = [writesOf(before).bufs, writesOf(body).bufs];
  const stored = new Set(
    bufs.filter(({ space, name }) => space === "global" && mine.has(name)).map(({ name }) => name),
  );
  let loads = false;
  eachStmt(before, (stmt) => {
    loads ||= exprsOf(stmt).some((expr) => mentions(expr, noNames, theirs));
  });
  return stored.size === 0 && !loads && ![...mine].some((name) => theirs.has(name));
}

const noNames: ReadonlySet<string> = new Set();

function dimOf({ name, from, to, step, how }: For): Dim | undefined {
  if (from.k !== "num" || to.k !== "num" || how === "workgroup" || to.value <= from.value) return undefined;
  return { name, from: from.value, count: Math.ceil((to.value - from.value) / step), step };
}

/** Whether iterations of all loops together, of which `inner` is the last, can run in any order. */
function isIndependent(nest: Nest, inner: For): boolean {
  const { kernel } = nest;
  const { vars, bufs } = writesOf(inner.body);
  const bound = new Set(inner.body.flatMap(namesBound));
  if ([...vars].some((name) => !bound.has(name))) return false;
  if (kernel.bufs.some(({ name, space }) => space === "scratch" && bufs.has(name))) return false;
  const stored = kernel.bufs.filter(({ name }) => bufs.has(name));
  const flat = gridOf(nest, extentOf(nest), freshName(namesOf(kernel), "i"));
  const touched = touchedBlocks(stored, flat, looseFactsOf({ ...kernel, body: [flat] }));
  return [...touched.values()].every(({ outside }) => outside === undefined);
}

function namesBound(stmt: Stmt): string[] {
  const own = stmt.k === "var" ? [stmt.name] : [];
  const inner = stmt.k === "for" ? stmt.body : stmt.k === "if" ? [...stmt.then, ...stmt.else] : [];
  return [...own, ...inner.flatMap(namesBound)];
}

/** Iterations of all loops. */
export function extentOf({ dims }: Nest): number {
  return dims.reduce((product, { count }) => product * count, 1);
}

/** Every number of iterations that the nest can be retiled to, largest first; 1 always. */
export function extentsOf({ dims }: Nest): number[] {
  const extents = new Set([1]);
  let outer = 1;
  for (const { count } of dims) {
    for (let d = 1; d * d <= count; d++) {
      if (count % d === 0) extents.add(outer * d).add((outer * count) / d);
    }
    outer *= count;
  }
  return [...extents].sort((a, b) => b - a);
}

/** The nest as one grid loop of `extent` iterations (one of `extentsOf`). */
export function gridOf(nest: Nest, extent: number, name: string): For {
  return loop(name, 0, extent, iterationOf(nest, extent, ref(name)), "grid");
}

/** What iteration `i` of `extent` runs; `extent` is one of `extentsOf`, and `i` is not used where it is 1. */
export function iterationOf(nest: Nest, extent: number, i: Expr): readonly Stmt[] {
  const { prologue, body } = nest;
  if (extent === 1) return nest.kernel.body.map(serial);
  const { values, rest } = divide(nest, extent, i);
  let stmts: readonly Stmt[] = at(body, values);
  for (const { name, from, count, step } of [...rest].reverse())
    stmts = [loop(name, from, from + count * step, stmts, "serial", step)];
  return [...prologue.map(serial), ...stmts];
}

/** Statements at these values of loop variables, their own grid loops run in order. */
export function at(stmts: readonly Stmt[], values: ReadonlyMap<string, Expr>): Stmt[] {
  return stmts.map((stmt) => mapExprs(serial(stmt), (expr) => substitute(expr, values)));
}

export interface Division {
  /** The loop variables that the iteration says something about. */
  readonly values: ReadonlyMap<string, Expr>;
  /** The loops that each iteration runs for itself; the first may be part of one, whose value above refers to its name. */
  readonly rest: readonly Dim[];
}

/** Iteration `i` of `extent`, one of `extentsOf`. */
export function divide({ dims }: Nest, extent: number, i: Expr): Division {
  const values = new Map<string, Expr>();
  if (extent === 1) return { values, rest: dims };
  let split = 0;
  let whole = dims[0]!.count;
  while (whole % extent !== 0) whole *= dims[++split]!.count;
  // The part of the split loop that is divided, and what each iteration keeps of it.
  const kept = whole / extent;
  const part = dims[split]!.count / kept;
  const valueAt = (dim: Dim, index: Expr) => iadd(imul(index, int(dim.step)), int(dim.from));
  let below = part;
  const digit = (count: number, first: boolean) => {
    const quotient = idiv(i, int(below / count));
    return first ? quotient : irem(quotient, int(count));
  };
  const own = digit(part, split === 0);
  const inner = dims[split]!;
  values.set(inner.name, valueAt(inner, kept === 1 ? own : iadd(imul(own, int(kept)), ref(inner.name))));
  for (let d = split - 1; d >= 0; d--) {
    const dim = dims[d]!;
    below *= dim.count;
    values.set(dim.name, valueAt(dim, digit(dim.count, d === 0)));
  }
  const first = kept === 1 ? [] : [{ name: inner.name, from: 0, count: kept, step: 1 }];
  return { values, rest: [...first, ...dims.slice(split + 1)] };
}

/** The statement with its grid loops run in order. */
function serial(stmt: Stmt): Stmt {
  const next = mapStmt(
    stmt,
    (expr) => expr,
    (block) => block.map(serial),
  );
  return next.k === "for" && next.how === "grid" ? { ...next, how: "serial" } : next;
}

/** `base`, with a number if it is taken. */
export function freshName(taken: ReadonlySet<string>, base: string): string {
  let name = base;
  for (let i = 1; taken.has(name); i++) name = `${base}${i}`;
  return name;
}
