/**
 * Stores that fill words. Elements smaller than a word are stored by clearing and setting their bits, atomically, since
 * neighbours in the word may be other invocations'. Where one stores all elements of a word one after another, the word is
 * stored as it is; a buffer that is stored to so and in no other way needs no atomics.
 */
import { divisorOf } from "../../ir/kernel/divisor.ts";
import type { Buf, Expr, Kernel, Stmt, Store } from "../../ir/kernel/kernel.ts";
import { isub } from "../../ir/kernel/kernel.ts";
import { tightRange } from "../../ir/kernel/linear.ts";
import { afterStmt, assume, type Facts, factsOf, insideLoop } from "../../ir/kernel/range.ts";
import { storageBits } from "../../ir/kernel/value.ts";
import { blocksOf, eachStmt, exprsOf, operandsOf } from "../../ir/kernel/walk.ts";
import { type Context, emitExpr, nameOf } from "./expr.ts";
import { binds, grouped } from "./scalar.ts";
import { isPacked } from "./storage.ts";

export interface WordStores {
  /** The stores of a word by the first of them. */
  readonly runs: ReadonlyMap<Stmt, readonly Store[]>;
  /** Buffers that are stored to by whole words alone. */
  readonly whole: ReadonlySet<string>;
}

export function wordStores(kernel: Kernel): WordStores {
  const packed = new Map(
    kernel.bufs.filter(({ space, dtype }) => space === "global" && isPacked(dtype)).map((buf) => [buf.name, buf]),
  );
  const runs = new Map<Stmt, readonly Store[]>();
  const single = new Set<string>();
  const visit = (block: readonly Stmt[], outer: Facts): void => {
    let facts = outer;
    for (let i = 0; i < block.length; i++) {
      const stmt = block[i]!;
      const buf = stmt.k === "store" ? packed.get(stmt.buf) : undefined;
      if (stmt.k === "store" && buf !== undefined) {
        // What stands outside of all loops is emitted statement by statement.
        const run = block === kernel.body ? undefined : runFrom(block, i, buf, facts);
        if (run === undefined) single.add(buf.name);
        else {
          runs.set(stmt, run);
          i += run.length - 1;
        }
        continue;
      }
      for (const [side, inner] of blocksOf(stmt).entries()) {
        const known =
          stmt.k === "for" ? insideLoop(stmt, facts) : stmt.k === "if" ? assume(stmt.cond, side === 0, facts) : facts;
        visit(inner, known);
      }
      facts = afterStmt(stmt, facts);
    }
  };
  visit(kernel.body, factsOf(kernel));
  const isWhole = ([first]: [Stmt, readonly Store[]]) => first.k === "store" && !single.has(first.buf);
  const kept = new Map([...runs].filter(isWhole));
  return { runs: kept, whole: new Set([...kept.values()].map(([first]) => first!.buf)) };
}

/** The stores from `block[at]` on that fill a word in order; undefined where they do not. */
function runFrom(block: readonly Stmt[], at: number, buf: Buf, facts: Facts): readonly Store[] | undefined {
  const count = 32 / storageBits(buf.dtype);
  const run: Store[] = [];
  for (const stmt of block.slice(at, at + count)) {
    if (stmt.k !== "store" || stmt.buf !== buf.name || stmt.value.type.lanes > 1) return undefined;
    const first = run[0] ?? stmt;
    const { lo, hi } = tightRange(isub(stmt.index, first.index), facts);
    if (lo !== run.length || hi !== run.length) return undefined;
    run.push(stmt);
  }
  return run.length === count && divisorOf(run[0]!.index, facts) % count === 0 ? run : undefined;
}

/** All elements of a word at once. */
export function wordText(run: readonly Store[], facts: Facts, context: Context): string {
  const [first] = run as [Store]; // never empty
  const name = nameOf(context, first.buf);
  context.needs.words.add(first.buf);
  const bits = 32 / run.length;
  const parts = run.map(({ value }, i) => {
    const part = `bits_${name}(${emitExpr(value, facts, context).text})`;
    return i === 0 ? part : `(${part} << ${i * bits}u)`;
  });
  const at = grouped(emitExpr(first.index, facts, context), binds.atom);
  return `${name}[${at} >> ${Math.log2(run.length)}u] = ${parts.join(" | ")};`;
}

/** Whether a kernel loads from a buffer of memory that it stores to. */
export function loadsAny({ bufs, body }: Kernel, written: ReadonlySet<string>): boolean {
  const globals = new Set(
    bufs.filter(({ name, space }) => space === "global" && written.has(name)).map(({ name }) => name),
  );
  let found = false;
  eachStmt(body, (stmt) => {
    found ||= exprsOf(stmt).some((expr) => mentions(expr, globals));
  });
  return found;
}

function mentions(expr: Expr, bufs: ReadonlySet<string>): boolean {
  return (expr.k === "load" && bufs.has(expr.buf)) || operandsOf(expr).some((operand) => mentions(operand, bufs));
}
