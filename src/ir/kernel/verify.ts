/**
 * Checks a kernel. The invariants:
 *
 *  K1  Every name used is bound by an enclosing statement before, with the type used; only vars are set.
 *  K2  A name is an identifier, no word of the kernel text, and not bound again while it is in scope.
 *  K3  Types agree: operands, conditions (bool), bounds and indices (i32), stored values (the buffer's element type; a
 *      float buffer takes f32 and f64, one of bytes vectors of them).
 *  K4  A buffer that is only read is not stored to, one that is only written is not loaded from.
 *  K5  Every index is in bounds: its range, from loop bounds, storage types, clamps and enclosing conditions (`range.ts`,
 *      `linear.ts`), lies in [0, size). Data used as an index is therefore clamped (`min(max(i, 0), n - 1)`) or stands under
 *      `if (i >= 0 && i < n)` or such a select, on a value that cannot change in between (a let, or a load from a buffer
 *      that the kernel only reads).
 *  K6  Sizes are whole; vectors have 2, 4, 8 or 16 lanes; steps are at least 1; f64 is stored in scratch only; a vector
 *      loop's range is a multiple of its step; scratch fits the target.
 *  K7  A barrier, combine or multiply stands in a workgroup loop that counts from 0 in steps of 1, not under an if, and in no
 *      loop whose bounds may differ between its iterations; what is taken together divides them.
 *  K8  Grid and workgroup iterations are independent of vars: none set in such a loop is bound outside it.
 *  K9  Grid iterations are independent of memory: of a global buffer that an outermost grid loop both loads and stores,
 *      each iteration touches its own block alone (`blocks.ts`).
 */
import { IrError } from "../errors.ts";
import { touchedBlocks } from "./blocks.ts";
import { intrinsicType } from "./intrinsics.ts";
import type { Buf, Expr, For, Kernel, Stmt } from "./kernel.ts";
import { tightRange } from "./linear.ts";
import { matricesOf } from "./multiply.ts";
import { multiplyProblems } from "./multiply-verify.ts";
import { printExpr, printKernel, reservedWords } from "./print.ts";
import { afterStmt, assume, type Facts, factsOf, insideLoop } from "./range.ts";
import { maxElements } from "./runnable.ts";
import {
  isFloatValue,
  isIndex,
  isPackedValue,
  loadedDType,
  opTypeProblem,
  sameValueType,
  showValueType,
  storageBits,
  type ValueType,
  valueType,
} from "./value.ts";
import { isLazyOperand, isSameInAll, operandsOf } from "./walk.ts";

export interface VerifyOptions {
  /** Largest total scratch in bytes (`Target.scratchBytes`). */
  readonly scratchBytes?: number;
}

interface Bound {
  readonly type: ValueType;
  readonly how: "let" | "var" | "loop";
  /** Grid and workgroup loops around the binding. */
  readonly grids: number;
  /** Whether all iterations of a workgroup loop have the same value. */
  readonly uniform: boolean;
}
interface Place {
  readonly kernel: Kernel;
  readonly bufs: ReadonlyMap<string, Buf>;
  readonly names: Map<string, Bound>;
  readonly grids: number;
  /** Iterations of the workgroup loop around; 0 outside. */
  readonly workgroup: number;
  /** Ifs, and loops whose iterations may differ in number, inside the workgroup loop. */
  readonly branches: number;
}

/** Throws an IrError that names the invariant broken and shows the statement. */
export function verifyKernel(kernel: Kernel, options: VerifyOptions = {}): void {
  const bufs = new Map<string, Buf>();
  const place = { kernel, bufs, names: new Map(), grids: 0, workgroup: 0, branches: 0 };
  let scratch = 0;
  for (const buf of kernel.bufs) {
    checkName(place, buf.name);
    bufs.set(buf.name, buf);
    const whole = Number.isSafeInteger(buf.size) && buf.size >= 0;
    demand(place, whole, "K6", () => `buffer ${buf.name} has ${buf.size} elements`);
    const own = buf.dtype !== "f64" || buf.space !== "global";
    demand(place, own, "K6", () => `buffer ${buf.name} is f64 and not scratch`);
    if (buf.space === "scratch") scratch += Math.ceil((buf.size * storageBits(buf.dtype)) / 8);
  }
  const most = options.scratchBytes ?? Number.POSITIVE_INFINITY;
  demand(place, scratch <= most, "K6", () => `scratch takes ${scratch} bytes, the target has ${most}`);
  checkBlock(place, kernel.body, factsOf(kernel));
}

function demand(place: Place, holds: boolean, id: string, what: () => string, stmt?: Stmt): asserts holds {
  if (holds) return;
  const shown =
    stmt &&
    printKernel({ ...place.kernel, bufs: [], body: [stmt] })
      .split("\n")
      .slice(1, 9)
      .join("\n");
  throw new IrError(`kernel ${place.kernel.name}`, `${id}: ${what()}`, shown === undefined ? {} : { text: shown });
}

function checkName(place: Place, name: string, stmt?: Stmt): void {
  const fresh = !place.names.has(name) && !place.bufs.has(name);
  demand(place, fresh, "K2", () => `${name} is bound twice`, stmt);
  const plain = /^[A-Za-z_]\w*$/.test(name) && !reservedWords.has(name);
  demand(place, plain, "K2", () => `${JSON.stringify(name)} cannot be a name`, stmt);
}

function checkBlock(outer: Place, stmts: readonly Stmt[], before: Facts): void {
  const place = { ...outer, names: new Map(outer.names) };
  let facts = before;
  for (const stmt of stmts) {
    checkStmt(place, stmt, facts);
    facts = afterStmt(stmt, facts);
  }
}

function checkStmt(place: Place, stmt: Stmt, facts: Facts): void {
  const insist = (holds: boolean, id: string, what: () => string) => demand(place, holds, id, what, stmt);
  const { grids } = place;
  switch (stmt.k) {
    case "let":
      checkExpr(place, stmt.value, facts, stmt);
      checkName(place, stmt.name, stmt);
      place.names.set(stmt.name, { type: stmt.value.type, how: "let", grids, uniform: isUniform(place, stmt.value) });
      return;
    case "combine": {
      checkExpr(place, stmt.value, facts, stmt);
      checkName(place, stmt.name, stmt);
      checkMeeting(place, stmt);
      const { over, apart } = stmt;
      const { type } = stmt.value;
      const powers = [over, apart].every((each) => Number.isInteger(Math.log2(each)));
      const fits = powers && place.workgroup % (over * apart) === 0;
      insist(fits, "K7", () => `${place.workgroup} iterations cannot be combined over ${over}, ${apart} apart`);
      insist(type.dtype === "f32" || isIndex(type), "K3", () => `combines ${showValueType(type)}`);
      place.names.set(stmt.name, { type, how: "let", grids, uniform: over === place.workgroup });
      return;
    }
    case "var":
      checkExpr(place, stmt.init, facts, stmt);
      checkName(place, stmt.name, stmt);
      insist(
        sameValueType(stmt.type, stmt.init.type),
        "K3",
        () => `${stmt.name} starts as ${showValueType(stmt.init.type)}`,
      );
      place.names.set(stmt.name, { type: stmt.type, how: "var", grids, uniform: false });
      return;
    case "set": {
      checkExpr(place, stmt.value, facts, stmt);
      const bound = place.names.get(stmt.name);
      demand(place, bound?.how === "var", "K1", () => `${stmt.name} is no var in scope`, stmt);
      insist(
        sameValueType(bound.type, stmt.value.type),
        "K3",
        () => `${stmt.name} is set to ${showValueType(stmt.value.type)}`,
      );
      insist(
        bound.grids === grids,
        "K8",
        () => `${stmt.name} is bound outside the grid or workgroup loop that sets it`,
      );
      return;
    }
    case "store": {
      checkExpr(place, stmt.index, facts, stmt);
      checkExpr(place, stmt.value, facts, stmt);
      const buf = checkAccess(place, stmt.buf, stmt.index, stmt.value.type.lanes, facts, stmt);
      insist(buf.access !== "read", "K4", () => `store to ${stmt.buf}, which is only read`);
      const [want, got] = [loadedDType(buf.dtype), stmt.value.type.dtype];
      const fits = got === want || (isPackedValue(got) && got === buf.dtype) || [want, got].every(isFloatValue);
      insist(fits, "K3", () => `${stmt.buf} takes ${want}, got ${got}`);
      return;
    }
    case "for":
      checkLoop(place, stmt, facts);
      return;
    case "if": {
      checkExpr(place, stmt.cond, facts, stmt);
      insist(
        sameValueType(stmt.cond.type, valueType("bool")),
        "K3",
        () => `a condition is ${showValueType(stmt.cond.type)}`,
      );
      const inner = { ...place, branches: place.branches + 1 };
      checkBlock(inner, stmt.then, assume(stmt.cond, true, facts));
      checkBlock(inner, stmt.else, assume(stmt.cond, false, facts));
      return;
    }
    case "barrier":
      checkMeeting(place, stmt);
      return;
    case "multiply":
      checkMeeting(place, stmt);
      for (const { at, reach } of matricesOf(stmt)) {
        checkExpr(place, at.index, facts, stmt);
        checkAccess(place, at.buf, at.index, reach, facts, stmt);
      }
      for (const [id, what] of multiplyProblems(stmt, place.bufs, place.workgroup)) insist(false, id, () => what);
      return;
    case "note":
      return;
  }
}

function checkLoop(place: Place, loop: For, facts: Facts): void {
  const insist = (holds: boolean, id: string, what: () => string) => demand(place, holds, id, what, loop);
  for (const bound of [loop.from, loop.to]) {
    checkExpr(place, bound, facts, loop);
    insist(isIndex(bound.type), "K3", () => `a loop bound is ${showValueType(bound.type)}`);
  }
  insist(Number.isSafeInteger(loop.step) && loop.step >= 1, "K6", () => `a loop's step is ${loop.step}`);
  if (loop.how === "vector") {
    const count = loop.from.k === "num" && loop.to.k === "num" ? loop.to.value - loop.from.value : Number.NaN;
    insist(count % loop.step === 0, "K6", () => `a vector loop's range is no multiple of ${loop.step}`);
  }
  checkName(place, loop.name, loop);
  if (loop.how === "grid" && place.grids === 0) {
    const shared = place.kernel.bufs.filter(({ space, access }) => space === "global" && access === "readwrite");
    for (const { loaded, stored, outside } of touchedBlocks(shared, loop, facts).values())
      insist(!loaded || !stored || outside === undefined, "K9", () => `iterations may meet at ${outside}`);
  }
  const names = new Map(place.names);
  const grids = place.grids + (loop.how === "grid" || loop.how === "workgroup" ? 1 : 0);
  const even = isUniform(place, loop.from) && isUniform(place, loop.to);
  const grouped = loop.how === "workgroup";
  const counts = loop.from.k === "num" && loop.from.value === 0 && loop.to.k === "num" && loop.step === 1;
  const workgroup = grouped ? (counts && loop.to.k === "num" ? loop.to.value : Number.NaN) : place.workgroup;
  insist(!grouped || place.workgroup === 0, "K7", () => "a workgroup loop in a workgroup loop");
  names.set(loop.name, { type: valueType("i32"), how: "loop", grids, uniform: even && !grouped });
  const branches = grouped ? 0 : place.branches + (even ? 0 : 1);
  checkBlock({ ...place, names, grids, workgroup, branches }, loop.body, insideLoop(loop, facts));
}

/** What all iterations must reach together. */
function checkMeeting(place: Place, stmt: Stmt): void {
  const what = () => `a ${stmt.k} outside a workgroup loop, under an if or in a loop of uneven bounds`;
  demand(place, place.workgroup > 0 && place.branches === 0, "K7", what, stmt);
}

function isUniform({ bufs, names }: Place, expr: Expr): boolean {
  return isSameInAll(expr, bufs, (name) => names.get(name)?.uniform === true);
}

function checkExpr(place: Place, expr: Expr, facts: Facts, stmt: Stmt): void {
  const insist = (holds: boolean, id: string, what: () => string) => demand(place, holds, id, what, stmt);
  insist([1, 2, 4, 8, 16].includes(expr.type.lanes), "K6", () => `a vector of ${expr.type.lanes} lanes`);
  operandsOf(expr).forEach((operand, i) => {
    const lazy = isLazyOperand(expr, i);
    checkExpr(place, operand, lazy ? assume(operandsOf(expr)[0]!, i === 1, facts) : facts, stmt);
  });
  if (expr.k === "ref") {
    const bound = place.names.get(expr.name);
    demand(place, bound !== undefined, "K1", () => `${expr.name} is not in scope`, stmt);
    const what = () => `${expr.name} is ${showValueType(bound.type)}, used as ${showValueType(expr.type)}`;
    insist(sameValueType(bound.type, expr.type), "K1", what);
  }
  if (expr.k === "op") {
    const problem = opTypeProblem(
      expr.op,
      expr.args.map((arg) => arg.type),
    );
    insist(problem === undefined, "K3", () => problem ?? "");
  }
  if (expr.k === "intrinsic") {
    const type = intrinsicType(
      expr.name,
      expr.args.map((arg) => arg.type),
    );
    insist(typeof type !== "string", "K3", () => `${type}`);
  }
  if (isPackedValue(expr.type.dtype))
    insist(expr.type.lanes >= 4, "K6", () => `${expr.type.lanes} x ${expr.type.dtype} as a value`);
  if (expr.k === "load") {
    const buf = checkAccess(place, expr.buf, expr.index, expr.type.lanes, facts, stmt);
    insist(buf.access !== "write" || buf.space !== "global", "K4", () => `load of ${expr.buf}, which is only written`);
    insist(
      expr.type.dtype === loadedDType(buf.dtype) || expr.type.dtype === buf.dtype,
      "K3",
      () => `${expr.buf} does not hold ${expr.type.dtype}`,
    );
  }
}

function checkAccess(place: Place, name: string, index: Expr, lanes: number, facts: Facts, stmt: Stmt): Buf {
  const buf = place.bufs.get(name);
  demand(place, buf !== undefined, "K1", () => `there is no buffer ${name}`, stmt);
  demand(place, isIndex(index.type), "K3", () => `an index is ${showValueType(index.type)}`, stmt);
  if (buf.size > maxElements) return buf;
  const { lo, hi } = tightRange(index, facts);
  const what = () =>
    `${name}[${printExpr(index)}] reaches from ${lo} to ${hi + lanes - 1}, ${name} has ${buf.size} elements`;
  demand(place, facts.dead || (lo >= 0 && hi + lanes <= buf.size), "K5", what, stmt);
  return buf;
}
