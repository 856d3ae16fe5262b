/**
 * Floats that a merged kernel of a GPU stores for others and loads again itself, which would wait for memory: the workgroup
 * keeps what it stored in shared memory as well, and loads that. Halves, which lie two in a word and are stored by atomic
 * operations, are kept rounded.
 */
import { IrError } from "../../ir/errors.ts";
import {
  type Buf,
  type Expr,
  imul,
  int,
  intrinsic,
  isub,
  type Kernel,
  ref,
  type Stmt,
} from "../../ir/kernel/kernel.ts";
import { reservedWords } from "../../ir/kernel/print.ts";
import { store } from "../../ir/kernel/stmt.ts";
import { verifyKernel } from "../../ir/kernel/verify.ts";
import { gridLoop, mapOperands, mapStmt, namesOf } from "../../ir/kernel/walk.ts";
import type { Target } from "../../ir/target.ts";
import type { LoweredKernel } from "../lower/lower.ts";
import { freshName } from "./nest.ts";

/** The kernel with such floats kept near, as far as each iteration of its grid has a share of them. */
export function keepNear(lowered: LoweredKernel, { workgroup }: Target): LoweredKernel {
  const { kernel, args, replaces } = lowered;
  if (workgroup === null) return lowered;
  const globals = kernel.bufs.filter(({ space }) => space === "global");
  const floats = (["f16", "f32"] as const).flatMap((dtype) =>
    globals.filter((buf, at) => buf.dtype === dtype && buf.access === "readwrite" && !replaces.has(args[at]!)),
  );
  const found = floats.reduce((before, buf) => near(before, buf, workgroup.bytes) ?? before, kernel);
  return found === kernel ? lowered : { ...lowered, kernel: found };
}

/** Undefined where it does not fit, or an iteration touches another's share. */
function near(kernel: Kernel, buf: Buf, sharedBytes: number): Kernel | undefined {
  const grid = gridLoop(kernel);
  const extent = grid === undefined ? 1 : grid.loop.step === 1 && grid.from === 0 ? grid.to : 0;
  const size = buf.size / extent;
  const used = kernel.bufs.reduce((sum, each) => sum + (each.space === "shared" ? 4 * each.size : 0), 0);
  if (!Number.isInteger(size) || used + 4 * size > sharedBytes / 2) return undefined;
  const name = freshName(new Set([...namesOf(kernel), ...reservedWords]), `${buf.name}_near`);
  const beside: Buf = { name, dtype: "f32", size, access: "readwrite", space: "shared" };
  const own = (index: Expr) => (grid === undefined ? index : isub(index, imul(ref(grid.loop.name), int(size))));
  const inExpr = (expr: Expr): Expr => {
    const next = mapOperands(expr, inExpr);
    return next.k === "load" && next.buf === buf.name ? { ...next, buf: name, index: own(next.index) } : next;
  };
  const inStmts = (stmts: readonly Stmt[]): Stmt[] =>
    stmts.flatMap((stmt) => {
      const next = mapStmt(stmt, inExpr, inStmts);
      if (next.k !== "store" || next.buf !== buf.name || next.value.type.lanes > 1) return [next];
      const value = buf.dtype === "f16" ? intrinsic("rounded16", next.value) : next.value;
      return [next, store(beside, own(next.index), value)];
    });
  const bufs = kernel.bufs.map((each) => (each === buf ? { ...each, access: "write" as const } : each));
  const changed = { ...kernel, bufs: [...bufs, beside], body: inStmts(kernel.body) };
  try {
    verifyKernel(changed);
    return changed;
  } catch (error) {
    if (error instanceof IrError) return undefined;
    throw error;
  }
}
