/**
 * Loads by fours: elements of a block that lie beside each other from a multiple of four on, and that it reads one by one
 * whatever happens, become one load of four. A workgroup whose invocations have four neighbours each asks a quarter as often.
 * Only of buffers that the kernel does not write, so that where in the block they are loaded makes no difference. Exact.
 */
import { divisorOf } from "../../ir/kernel/divisor.ts";
import { type Expr, extract, type Kernel, type Let, type Load, ref, type Stmt } from "../../ir/kernel/kernel.ts";
import { sumOf } from "../../ir/kernel/linear.ts";
import { printExpr, reservedWords } from "../../ir/kernel/print.ts";
import { afterStmt, assume, type Facts, factsOf, insideLoop } from "../../ir/kernel/range.ts";
import { bind } from "../../ir/kernel/stmt.ts";
import { valueType } from "../../ir/kernel/value.ts";
import { boundName, exprsOf, isLazyOperand, mapOperands, mapStmt, namesOf, operandsOf } from "../../ir/kernel/walk.ts";
import { mapExprs, mentions } from "./share.ts";

const lanes = 4;

export function loadFours(kernel: Kernel): Kernel {
  const used = namesOf(kernel);
  const fresh = (base: string): string => {
    let name = base;
    for (let i = 2; used.has(name) || reservedWords.has(name); i++) name = `${base}${i}`;
    used.add(name);
    return name;
  };
  const body = inBlock(kernel.body, factsOf(kernel), fresh);
  return body === kernel.body ? kernel : { ...kernel, body };
}

type Fresh = (base: string) => string;

function inBlock(stmts: readonly Stmt[], outer: Facts, fresh: Fresh): readonly Stmt[] {
  const own = new Fours(stmts, outer).replaced(fresh);
  let facts = outer;
  const result = own.map((stmt) => {
    const here = facts;
    facts = afterStmt(stmt, facts);
    let side = false;
    const enter = (block: readonly Stmt[]) => {
      if (stmt.k === "for") return inBlock(block, insideLoop(stmt, here), fresh);
      side = !side;
      return stmt.k === "if" ? inBlock(block, assume(stmt.cond, side, here), fresh) : block;
    };
    return mapStmt(stmt, (expr) => expr, enter);
  });
  return own === stmts && result.every((stmt, i) => stmt === stmts[i]) ? stmts : result;
}

/** An element that a block reads. */
interface Element {
  readonly load: Load;
  /** The number of the first statement that reads it, and what is known there. */
  readonly stmt: number;
  readonly facts: Facts;
}

/** What a block reads of one buffer at one place: elements by how far they are from it. */
type Neighbours = Map<number, Element>;

class Fours {
  readonly #stmts: readonly Stmt[];
  readonly #places = new Map<string, Neighbours>();
  /** The statement that binds a name of this block. */
  readonly #bound = new Map<string, number>();
  readonly #variables: ReadonlySet<string>;

  constructor(stmts: readonly Stmt[], outer: Facts) {
    this.#stmts = stmts;
    this.#variables = new Set(stmts.filter(({ k }) => k === "var").map((stmt) => boundName(stmt)!));
    let facts = outer;
    for (const [i, stmt] of stmts.entries()) {
      for (const expr of exprsOf(stmt)) this.#visit(expr, i, facts);
      facts = afterStmt(stmt, facts);
      const name = boundName(stmt);
      if (name !== undefined) this.#bound.set(name, i);
    }
  }

  #visit(expr: Expr, stmt: number, facts: Facts): void {
    for (const [i, operand] of operandsOf(expr).entries()) {
      if (!isLazyOperand(expr, i)) this.#visit(operand, stmt, facts);
    }
    if (expr.k !== "load" || expr.type.lanes !== 1 || mentions(expr.index, this.#variables, none)) return;
    const { access, space, dtype } = facts.bufs.get(expr.buf)!;
    if (access !== "read" || space !== "global" || (dtype !== "f32" && dtype !== "i32")) return;
    const { terms, constant } = sumOf(expr.index, facts);
    const place = [expr.buf, ...terms.map((term) => `${printExpr(term.expr)}*${term.times}`).sort()].join();
    const neighbours: Neighbours = this.#places.get(place) ?? new Map();
    if (!neighbours.has(constant)) neighbours.set(constant, { load: expr, stmt, facts });
    this.#places.set(place, neighbours);
  }

  /** The block with its fours; the same where it has none. */
  replaced(fresh: Fresh): readonly Stmt[] {
    const added = new Map<number, Let[]>();
    const elements = new Map<string, Expr>();
    for (const neighbours of this.#places.values()) {
      for (const [constant, { load, facts }] of neighbours) {
        const four = [0, 1, 2, 3].map((lane) => neighbours.get(constant + lane));
        if (!four.every((each) => each !== undefined) || divisorOf(load.index, facts) % lanes !== 0) continue;
        const first = Math.min(...four.map(({ stmt }) => stmt));
        if (!this.#isKnown(load.index, first)) continue;
        const type = valueType(load.type.dtype, lanes);
        const name = fresh(`${load.buf}_four`);
        added.set(first, [...(added.get(first) ?? []), bind(name, { ...load, type })]);
        for (const [lane, each] of four.entries()) elements.set(printExpr(each.load), extract(ref(name, type), lane));
      }
    }
    if (added.size === 0) return this.#stmts;
    const replace = (expr: Expr): Expr => elements.get(printExpr(expr)) ?? mapOperands(expr, replace);
    return this.#stmts.flatMap((stmt, i) => [...(added.get(i) ?? []), mapExprs(stmt, replace)]);
  }

  /** Whether what an index consists of is bound before statement `first`. */
  #isKnown(index: Expr, first: number): boolean {
    if (index.k === "ref") return (this.#bound.get(index.name) ?? -1) < first;
    return operandsOf(index).every((operand) => this.#isKnown(operand, first));
  }
}

const none: ReadonlySet<string> = new Set();
