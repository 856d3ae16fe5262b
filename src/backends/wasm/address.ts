/**
 * Addresses of buffer elements. What is constant in an index goes into the instruction's offset. In a loop, accesses
 * whose index grows with the loop's variable share a pointer per buffer that is advanced once per iteration; their
 * distances are offsets too, so a tile of rows of a matrix costs one addition.
 */
import type { Expr, For, Stmt } from "../../ir/kernel/kernel.ts";
import { iadd, imul, int as intExpr } from "../../ir/kernel/kernel.ts";
import { sumOf, type Term } from "../../ir/kernel/linear.ts";
import { printExpr } from "../../ir/kernel/print.ts";
import { afterStmt, type Facts, insideLoop, rangeOf } from "../../ir/kernel/range.ts";
import { isIndex, storageBits } from "../../ir/kernel/value.ts";
import { blocksOf, boundName, eachStmt, exprsOf, operandsOf, writesOf } from "../../ir/kernel/walk.ts";
import { apply, assign, type Code, int, local, long } from "./code.ts";
import { bufOf, type Frame, type Pointer } from "./frame.ts";

/** Code that leaves an address on the stack, and the offset for the instruction that uses it. */
export interface Address {
  readonly code: Code;
  readonly offset: number;
}

/** The address of element `index` of a buffer whose elements are whole bytes. */
export function addressOf(frame: Frame, buf: string, index: Expr): Address {
  for (let i = frame.pointers.length - 1; i >= 0; i--) {
    const pointer = frame.pointers[i]!.get(index)?.get(buf);
    if (pointer !== undefined) return { code: local(pointer.local), offset: pointer.offset };
  }
  const size = storageBits(bufOf(frame, buf).dtype) / 8;
  const { terms, constant } = sumOf(index, frame.facts);
  const folds = constant > 0 && rangeOf(sumExpr(terms), frame.facts).lo >= 0 && constant * size < 2 ** 31;
  const code = bytesCode(frame, buf, terms, folds ? 0 : constant, size);
  return { code, offset: folds ? constant * size : 0 };
}

/** The address of the byte that holds 4-bit element `index`. */
export function nibbleAddress(frame: Frame, buf: string, index: Expr): Code {
  return farther(frame, local(buf), apply("i32.shr_u", frame.scalar(frame, index), int(1)), false);
}

/** An address and a distance of 32 bits. */
export function farther({ address }: Frame, base: Code, distance: Code, signed: boolean): Code {
  if (address.type === "i32") return apply("i32.add", base, distance);
  return apply("i64.add", base, apply(signed ? "i64.extend_i32_s" : "i64.extend_i32_u", distance));
}

/** base + (terms + constant) * size. */
function bytesCode(frame: Frame, buf: string, terms: readonly Term[], constant: number, size: number): Code {
  const base = local(buf);
  if (frame.address.type === "i64") return wideBytesCode(frame, buf, terms, constant, size);
  let code = base;
  for (const { expr, times } of terms) {
    const factor = Math.imul(times, size);
    const bits = Math.log2(factor);
    const value = frame.scalar(frame, expr);
    const scaled =
      factor === 1
        ? value
        : Number.isInteger(bits)
          ? apply("i32.shl", value, int(bits))
          : apply("i32.mul", value, int(factor));
    code = apply("i32.add", code, scaled);
  }
  return constant === 0 ? code : apply("i32.add", code, int(Math.imul(constant, size)));
}

/**
 * The same with 64-bit addresses. Distances in a buffer below 2 GiB are added up in 32 bits, where what wraps on the way
 * wraps back; in larger ones every term is widened before it is multiplied.
 */
function wideBytesCode(frame: Frame, buf: string, terms: readonly Term[], constant: number, size: number): Code {
  const scaled = (value: Code, factor: number): Code =>
    factor === 1 ? value : apply("i32.mul", value, int(Math.imul(factor, 1)));
  if (bufOf(frame, buf).size * size < 2 ** 31) {
    const parts = terms.map(({ expr, times }) => scaled(frame.scalar(frame, expr), times * size));
    if (constant !== 0) parts.push(int(Math.imul(constant, size)));
    const [first, ...rest] = parts;
    if (first === undefined) return local(buf);
    return farther(
      frame,
      local(buf),
      rest.reduce((sum, part) => apply("i32.add", sum, part), first),
      true,
    );
  }
  let code = local(buf);
  for (const { expr, times } of terms) {
    const value = apply("i64.extend_i32_s", frame.scalar(frame, expr));
    code = apply("i64.add", code, apply("i64.mul", value, long(BigInt(times * size))));
  }
  return constant === 0 ? code : apply("i64.add", code, long(BigInt(constant * size)));
}

function sumExpr(terms: readonly Term[]): Expr {
  return terms.reduce<Expr>((sum, { expr, times }) => iadd(sum, imul(expr, intExpr(times))), intExpr(0));
}

interface Group {
  readonly buf: string;
  readonly size: number;
  readonly terms: readonly Term[];
  readonly step: number;
  readonly accesses: { readonly index: Expr; readonly constant: number }[];
}

export interface LoopPointers {
  /** Sets the pointers for the first iteration; the loop's variable has its first value. */
  readonly start: Code;
  /** Advances them. */
  readonly advance: Code;
  readonly pointers: ReadonlyMap<Expr, ReadonlyMap<string, Pointer>>;
}

/** The pointers of a loop. `outer` is the frame around the loop, with its variable bound; `inside` the facts in it. */
export function loopPointers(outer: Frame, loop: For, inside: Facts): LoopPointers {
  const changing = new Set(writesOf(loop.body).vars);
  eachStmt(loop.body, (stmt) => changing.add(boundName(stmt) ?? ""));
  const groups = new Map<string, Group>();
  const seen = new Map<Expr, Map<string, string>>();
  /** One expression object in two places where a name of it means two things: no one pointer is right for both. */
  const ambiguous = new Set<Expr>();
  const lets = new Set<string>();
  eachStmt(loop.body, (stmt) => stmt.k === "let" && isIndex(stmt.value.type) && lets.add(stmt.name));
  const add = (buf: string, index: Expr, facts: Facts): void => {
    const bits = storageBits(bufOf(outer, buf).dtype);
    if (bits === 4) return;
    // Lets of the loop that are parts of indices are seen through.
    const { terms, constant } = sumOf(index, facts, lets);
    const shown = terms.map(({ expr, times }) => `${printExpr(expr)}*${times}`).join();
    const known = seen.get(index)?.get(buf);
    if (known !== undefined && known !== `${shown} ${constant}`) ambiguous.add(index);
    if (known !== undefined) return;
    seen.set(index, (seen.get(index) ?? new Map()).set(buf, `${shown} ${constant}`));
    const own = terms.find(({ expr }) => expr.k === "ref" && expr.name === loop.name);
    if (own === undefined) return;
    if (terms.some((term) => term !== own && varies(term.expr, loop.name, changing))) return;
    // Only a base that is never negative leaves the distances to the offsets.
    const grouped = rangeOf(sumExpr(terms), inside).lo >= 0 && constant >= 0;
    const key = `${buf} ${shown} ${grouped ? "" : constant}`;
    const group = groups.get(key) ?? { buf, size: bits / 8, terms, step: own.times * loop.step, accesses: [] };
    group.accesses.push({ index, constant });
    groups.set(key, group);
  };
  eachAccess(loop.body, inside, add);
  const start: Code[] = [];
  const advance: Code[] = [];
  const pointers = new Map<Expr, Map<string, Pointer>>();
  for (const { buf, size, terms, step, accesses } of groups.values()) {
    const least = Math.min(...accesses.map(({ constant }) => constant));
    const { type, add: plus, constant: distance } = outer.address;
    const name = outer.locals.make(`${buf}.at`, type);
    start.push(assign(name, bytesCode(outer, buf, terms, least, size)));
    advance.push(assign(name, apply(plus, local(name), distance(step * size))));
    for (const { index, constant } of accesses) {
      if (ambiguous.has(index)) continue;
      const known = pointers.get(index) ?? new Map<string, Pointer>();
      known.set(buf, { local: name, offset: (constant - least) * size });
      pointers.set(index, known);
    }
  }
  return { start: start.flat(), advance: advance.flat(), pointers };
}

/** Whether a term may change between iterations, or needs a load that may not be safe before the loop. */
function varies(expr: Expr, name: string, changing: ReadonlySet<string>): boolean {
  if (expr.k === "load") return true;
  if (expr.k === "ref") return expr.name === name || changing.has(expr.name);
  return operandsOf(expr).some((operand) => varies(operand, name, changing));
}

/** Every load and store in these statements, with the facts there. */
function eachAccess(
  stmts: readonly Stmt[],
  outer: Facts,
  visit: (buf: string, index: Expr, facts: Facts) => void,
): void {
  let facts = outer;
  const inExpr = (expr: Expr): void => {
    if (expr.k === "load") visit(expr.buf, expr.index, facts);
    for (const operand of operandsOf(expr)) inExpr(operand);
  };
  for (const stmt of stmts) {
    for (const expr of exprsOf(stmt)) inExpr(expr);
    if (stmt.k === "store") visit(stmt.buf, stmt.index, facts);
    const inner = stmt.k === "for" ? insideLoop(stmt, facts) : facts;
    for (const block of blocksOf(stmt)) eachAccess(block, inner, visit);
    facts = afterStmt(stmt, facts);
  }
}
