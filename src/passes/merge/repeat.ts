/**
 * A small launch done again by every workgroup of the launch that reads it, where these run at the same time: each of them
 * computing a few numbers takes no longer than all of them waiting for one that does, and saves a launch. The numbers lie in
 * each workgroup's shared memory; the first workgroup also stores those that something else needs.
 */
import { type Buf, type Expr, int, intrinsic, type Kernel, op, ref, type Stmt } from "../../ir/kernel/kernel.ts";
import { reservedWords } from "../../ir/kernel/print.ts";
import { barrier, loop, store, when } from "../../ir/kernel/stmt.ts";
import { storageBits } from "../../ir/kernel/value.ts";
import { eachStmt, exprsOf, globalBufs, mapOperands, mapStmt, namesOf, operandsOf } from "../../ir/kernel/walk.ts";
import { byteSize } from "../../ir/types.ts";
import { mentions } from "../kernel/share.ts";
import { type Candidate, candidateOf } from "./candidate.ts";
import { timeRepeated } from "./cost.ts";
import { buffersOf, type MergeContext, sharedRoom } from "./keep-inside.ts";
import { headOf, problemOf, sharedProblem, tooLarge, workgroupOf } from "./merge-pair.ts";
import { extentOf, extentsOf, freshName } from "./nest.ts";
import { renamed } from "./rename.ts";
import { runTogether } from "./together.ts";

/**
 * Larger operands, such as the weights of products, are what takes the time: nothing stands before their loads but what says
 * where these are.
 */
const mostRead = 1 << 22;

/** `b`, each workgroup of which does `a` first, in the number of workgroups that takes the least time; else why not. */
export function mergeRepeated(a: Candidate, b: Candidate, context: MergeContext): Candidate | string {
  const size = context.target.workgroup === null ? "no workgroups" : workgroupOf(a, b);
  if (typeof size === "string") return size;
  const shared = sharedProblem(a, b) ?? (a.lowered.replaces.size > 0 ? "it updates in place" : undefined);
  if (shared !== undefined) return shared;
  if (asksAtOnce(a, b)) return "what it reads had better be asked for at once";
  // Workgroups stay as they were lowered.
  const extents = b.team.kind === "together" ? [extentOf(b.nest)] : extentsOf(b.nest);
  const times = extents
    .filter((extent) => extent > 1)
    .map((extent) => ({ extent, time: timeRepeated(a, b, extent, size) }))
    .filter(({ time }) => time !== undefined)
    .sort((x, y) => x.time! - y.time!);
  const [best] = times;
  return best === undefined
    ? "doing it again would cost more than a launch"
    : repeatAt(a, b, best.extent, size, context);
}

/** Whether `b` reads large operands at places that do not depend on what `a` computes. */
function asksAtOnce(a: Candidate, { lowered: { kernel, args } }: Candidate): boolean {
  const bufs = globalBufs(kernel);
  const found = new Set(bufs.filter((_, i) => a.results.includes(args[i]!)).map(({ name }) => name));
  const large = new Set(bufs.filter((_, i) => byteSize(args[i]!.type) > mostRead).map(({ name }) => name));
  const chosen = new Set<string>();
  let atOnce = large.size > 0 && found.size === 0;
  eachStmt(kernel.body, (stmt) => {
    const value = stmt.k === "let" ? stmt.value : undefined;
    if (value !== undefined && mentions(value, chosen, found)) chosen.add((stmt as { readonly name: string }).name); // a let
    for (const expr of exprsOf(stmt)) {
      const visit = (each: Expr): void => {
        if (each.k === "load" && large.has(each.buf)) atOnce ||= !mentions(each.index, chosen, found);
        operandsOf(each).forEach(visit);
      };
      visit(expr);
    }
  });
  return atOnce;
}

/** Where a value lies that every workgroup computes: in its own memory, and in all's where something else needs it. */
interface Own {
  /** Left out where no workgroup loads it. */
  readonly near: Buf | undefined;
  readonly far: Buf | undefined;
}

function repeatAt(a: Candidate, b: Candidate, extent: number, size: number, context: MergeContext): Candidate | string {
  const names = new Set([...namesOf(a.nest.kernel), ...reservedWords]);
  const second = renamed(a, b, names);
  for (const name of namesOf(second.nest.kernel)) names.add(name);
  const fresh = (base: string) => {
    const name = freshName(names, base);
    names.add(name);
    return name;
  };
  const { bufs, args } = buffersOf(a, second);
  const [i, lane] = [fresh("i"), fresh("lane")];
  const own = new Map<string, Own>();
  for (const [at, node] of args.entries()) {
    if (!a.results.includes(node)) continue;
    const { dtype, size: length, name, access } = bufs[at]!;
    const loaded = access === "readwrite";
    if (loaded && storageBits(dtype) !== 32 && dtype !== "f16") return "shared memory holds whole words";
    // Halves are kept as the floats that they are rounded to.
    const kept = { name: fresh(`${name}_near`), dtype: dtype === "f16" ? "f32" : dtype, size: length } as const;
    const near: Buf | undefined = loaded ? { ...kept, access: "readwrite", space: "shared" } : undefined;
    own.set(name, { near, far: context.needed(node, a, b) ? { ...bufs[at]!, access: "write" } : undefined });
  }
  const part = ({ nest, team }: Candidate, index: Expr, parts: number) =>
    runTogether(nest, team, { index, extent: parts, lane: ref(lane), size, names });
  const stmts = keptNear([...part(a, int(0), 1), barrier, ...part(second, ref(i), extent)], own, i);
  const body = [loop(i, 0, extent, [loop(lane, 0, size, stmts, "workgroup")], "grid")];
  const kernel: Kernel = { ...headOf(a, b), bufs: withOwn(bufs, own), body };
  const room = sharedRoom(kernel.bufs, context.target);
  const problem = room < 0 ? "too little shared memory" : (tooLarge(kernel, context.target) ?? problemOf(kernel));
  if (problem !== undefined) return problem;
  const far = args.filter((_, at) => !own.has(bufs[at]!.name) || own.get(bufs[at]!.name)!.far !== undefined);
  return candidateOf({ kernel, args: far, replaces: b.lowered.replaces });
}

/** Global buffers first, as many as are left. */
function withOwn(bufs: readonly Buf[], own: ReadonlyMap<string, Own>): Buf[] {
  const kept = bufs.flatMap((buf) => (own.has(buf.name) ? (own.get(buf.name)!.far ?? []) : buf));
  const global = ({ space }: Buf) => space === "global";
  const near = [...own.values()].flatMap((each) => each.near ?? []);
  return [...kept.filter(global), ...kept.filter((buf) => !global(buf)), ...near];
}

/** Loads of a value from the workgroup's own, and stores there; to memory by the first workgroup alone. */
function keptNear(stmts: readonly Stmt[], own: ReadonlyMap<string, Own>, i: string): Stmt[] {
  const inExpr = (expr: Expr): Expr => {
    const next = mapOperands(expr, inExpr);
    const near = next.k === "load" ? own.get(next.buf)?.near : undefined;
    return near === undefined || next.k !== "load" ? next : { ...next, buf: near.name };
  };
  const inStmts = (block: readonly Stmt[]): Stmt[] => {
    const found: Stmt[] = [];
    // Stores in a row stay together, so that those to a word are one.
    let first: Stmt[] = [];
    const flush = () => {
      if (first.length > 0) found.push(when(op("eq", ref(i), int(0)), first));
      first = [];
    };
    for (const each of block) {
      const next = mapStmt(each, inExpr, inStmts);
      const mine = next.k === "store" ? own.get(next.buf) : undefined;
      if (mine === undefined || next.k !== "store") {
        flush();
        found.push(next);
        continue;
      }
      const { near, far } = mine;
      const value = far?.dtype === "f16" ? intrinsic("rounded16", next.value) : next.value;
      if (near) found.push(store(near, next.index, value));
      if (far) first.push(store(far, next.index, next.value));
    }
    flush();
    return found;
  };
  return inStmts(stmts);
}
