/**
 * Splits a loop whose body asks in which run of `count` iterations it is, as an element's group of quantisation:
 *
 *     for i in 0 .. n { x[i] s[i / count] }    ->    for r in 0 .. n / count { for i in 0 .. count { x[r * count + i] s[r] } }
 *
 * What belongs to the run then leaves the inner loop, and the rest can be done in lanes. Exact: the order stays. Only
 * loops that just compute, store and sum; where several lengths are asked for, the shortest that is worth a loop.
 */
import { type Expr, type For, iadd, imul, int, type Kernel, ref, type Stmt } from "../../ir/kernel/kernel.ts";
import { reservedWords } from "../../ir/kernel/print.ts";
import { loop } from "../../ir/kernel/stmt.ts";
import { exprsOf, mapStmt, namesOf, operandsOf } from "../../ir/kernel/walk.ts";
import { simplifyIndices } from "./indices.ts";
import { mapExprs, substitute } from "./share.ts";

/** Below this a loop of four lanes is not worth its start. */
const shortest = 8;
/** A grid loop is divided over threads by its runs, so there must be enough. */
const fewestOfGrid = 32;

export function splitLoops(kernel: Kernel): Kernel {
  const used = namesOf(kernel);
  const fresh = (base: string): string => {
    let name = base;
    for (let i = 2; used.has(name) || reservedWords.has(name); i++) name = `${base}${i}`;
    used.add(name);
    return name;
  };
  const inBlock = (stmts: readonly Stmt[]): readonly Stmt[] => {
    const next = stmts.map((stmt) => {
      const count = stmt.k === "for" ? runLength(stmt) : undefined;
      if (stmt.k === "for" && count !== undefined) return split(stmt, count, fresh(`${stmt.name}_run`));
      return mapStmt(stmt, (expr) => expr, inBlock);
    });
    return next.every((stmt, i) => stmt === stmts[i]) ? stmts : next;
  };
  const body = inBlock(kernel.body);
  return body === kernel.body ? kernel : simplifyIndices({ ...kernel, body });
}

/** The length of the runs to split a loop into. */
function runLength({ from, to, step, how, body, name }: For): number | undefined {
  if (step !== 1 || from.k !== "num" || from.value !== 0 || to.k !== "num") return undefined;
  if (how !== "serial" && how !== "grid") return undefined;
  if (!body.every(({ k }) => k === "let" || k === "store" || k === "set" || k === "note")) return undefined;
  const most = how === "grid" ? to.value / fewestOfGrid : to.value - 1;
  const fits = (count: number) => count >= shortest && count <= most && count % 4 === 0 && to.value % count === 0;
  const found = body.flatMap(exprsOf).flatMap((expr) => runsIn(expr, name));
  return found.filter(fits).sort((a, b) => a - b)[0];
}

/** The divisors by which the loop variable is divided. */
function runsIn(expr: Expr, name: string): readonly number[] {
  const inside = operandsOf(expr).flatMap((operand) => runsIn(operand, name));
  if (expr.k !== "op" || expr.op !== "div") return inside;
  const [whole, divisor] = expr.args;
  const found = whole?.k === "ref" && whole.name === name && divisor?.k === "num";
  return found ? [...inside, divisor.value] : inside;
}

function split(given: For, count: number, run: string): Stmt {
  const { name, to } = given;
  const index = new Map([[name, iadd(imul(ref(run), int(count)), ref(name))]]);
  const body = given.body.map((stmt) => mapExprs(stmt, (expr) => substitute(expr, index)));
  const runs = to.k === "num" ? to.value / count : 0; // a number: runLength
  return loop(run, 0, runs, [loop(name, 0, count, body)], given.how);
}
