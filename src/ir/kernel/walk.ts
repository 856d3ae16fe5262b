/** Walks over kernels: the operands of an expression, an expression with other operands, names, the grid loop. */
import { type Buf, cast, type Expr, extract, type For, type Kernel, op, type Stmt, splat, sum } from "./kernel.ts";
import { mapMatrices, matricesOf } from "./multiply.ts";
import { storageBits } from "./value.ts";

export function operandsOf(expr: Expr): readonly Expr[] {
  switch (expr.k) {
    case "num":
    case "ref":
      return [];
    case "load":
      return [expr.index];
    case "op":
    case "intrinsic":
      return expr.args;
    default:
      return [expr.value];
  }
}

/** The expression with its operands replaced, made by the folding constructors; the same object if none differs. */
export function mapOperands(expr: Expr, f: (operand: Expr, i: number) => Expr): Expr {
  switch (expr.k) {
    case "num":
    case "ref":
      return expr;
    case "op": {
      const args = expr.args.map(f);
      return args.every((arg, i) => arg === expr.args[i]) ? expr : op(expr.op, ...args);
    }
    case "intrinsic": {
      const args = expr.args.map(f);
      return args.every((arg, i) => arg === expr.args[i]) ? expr : { ...expr, args };
    }
    case "load": {
      const index = f(expr.index, 0);
      return index === expr.index ? expr : { ...expr, index };
    }
  }
  const value = f(expr.value, 0);
  if (value === expr.value) return expr;
  switch (expr.k) {
    case "cast":
      return cast(expr.type.dtype, value);
    case "splat":
      return splat(value, expr.type.lanes);
    case "extract":
      return extract(value, expr.lane);
    case "sum":
      return sum(value);
  }
}

/** Whether operand `i` is a branch of a select that is evaluated only when chosen. */
export function isLazyOperand(expr: Expr, i: number): boolean {
  return expr.k === "op" && expr.op === "select" && i > 0 && expr.args[0]!.type.lanes === 1;
}

/** Whether an expression certainly has the same value in all iterations of a workgroup loop, as the names say of themselves. */
export function isSameInAll(expr: Expr, bufs: ReadonlyMap<string, Buf>, uniform: (name: string) => boolean): boolean {
  if (expr.k === "ref") return uniform(expr.name);
  if (expr.k === "load" && bufs.get(expr.buf)?.access !== "read") return false;
  return operandsOf(expr).every((operand) => isSameInAll(operand, bufs, uniform));
}

/** The expressions that a statement itself evaluates, not those of statements inside it. */
export function exprsOf(stmt: Stmt): readonly Expr[] {
  switch (stmt.k) {
    case "let":
    case "set":
    case "combine":
      return [stmt.value];
    case "var":
      return [stmt.init];
    case "store":
      return [stmt.index, stmt.value];
    case "for":
      return [stmt.from, stmt.to];
    case "if":
      return [stmt.cond];
    case "multiply":
      return matricesOf(stmt).map(({ at }) => at.index);
    case "barrier":
    case "note":
      return [];
  }
}

/** The statement lists inside a statement. */
export function blocksOf(stmt: Stmt): readonly (readonly Stmt[])[] {
  if (stmt.k === "for") return [stmt.body];
  return stmt.k === "if" ? [stmt.then, stmt.else] : [];
}

/** The statement with its own expressions and inner blocks replaced; the same object if none differs. */
export function mapStmt(
  stmt: Stmt,
  onExpr: (expr: Expr) => Expr,
  onBlock: (block: readonly Stmt[]) => readonly Stmt[],
): Stmt {
  switch (stmt.k) {
    case "let":
    case "combine":
    case "set": {
      const value = onExpr(stmt.value);
      return value === stmt.value ? stmt : { ...stmt, value };
    }
    case "var": {
      const init = onExpr(stmt.init);
      return init === stmt.init ? stmt : { ...stmt, init };
    }
    case "store": {
      const [index, value] = [onExpr(stmt.index), onExpr(stmt.value)];
      return index === stmt.index && value === stmt.value ? stmt : { ...stmt, index, value };
    }
    case "for": {
      const [from, to, body] = [onExpr(stmt.from), onExpr(stmt.to), onBlock(stmt.body)];
      return from === stmt.from && to === stmt.to && body === stmt.body ? stmt : { ...stmt, from, to, body };
    }
    case "if": {
      const [cond, then, other] = [onExpr(stmt.cond), onBlock(stmt.then), onBlock(stmt.else)];
      const same = cond === stmt.cond && then === stmt.then && other === stmt.else;
      return same ? stmt : { ...stmt, cond, then, else: other };
    }
    case "multiply":
      return mapMatrices(stmt, (at) => {
        const index = onExpr(at.index);
        return index === at.index ? at : { ...at, index };
      });
    case "barrier":
    case "note":
      return stmt;
  }
}

/** Calls `visit` for every statement, outer before inner. */
export function eachStmt(stmts: readonly Stmt[], visit: (stmt: Stmt) => void): void {
  for (const stmt of stmts) {
    visit(stmt);
    for (const block of blocksOf(stmt)) eachStmt(block, visit);
  }
}

/** Whether iterations of a workgroup meet in these statements, or do something together. */
export function meets(stmts: readonly Stmt[]): boolean {
  let found = false;
  eachStmt(stmts, ({ k }) => {
    if (k === "barrier" || k === "combine" || k === "multiply") found = true;
  });
  return found;
}

/** The name a statement binds. */
export function boundName(stmt: Stmt): string | undefined {
  return stmt.k === "let" || stmt.k === "var" || stmt.k === "for" || stmt.k === "combine" ? stmt.name : undefined;
}

/** All names of a kernel: buffers and everything bound. */
export function namesOf(kernel: Kernel): Set<string> {
  const names = new Set(kernel.bufs.map((buf) => buf.name));
  eachStmt(kernel.body, (stmt) => {
    const name = boundName(stmt);
    if (name !== undefined) names.add(name);
  });
  return names;
}

/** Bytes that a buffer takes. */
export function bufBytes({ size, dtype }: Buf): number {
  return Math.ceil((size * storageBits(dtype)) / 8);
}

/** The buffers that are a launch's arguments, in their order. */
export function globalBufs(kernel: Kernel): readonly Buf[] {
  return kernel.bufs.filter((buf) => buf.space === "global");
}

/** Variables assigned and buffers stored to in these statements or in statements inside them. */
export function writesOf(stmts: readonly Stmt[]): { vars: Set<string>; bufs: Set<string> } {
  const [vars, bufs] = [new Set<string>(), new Set<string>()];
  eachStmt(stmts, (stmt) => {
    if (stmt.k === "set") vars.add(stmt.name);
    if (stmt.k === "store") bufs.add(stmt.buf);
    if (stmt.k === "multiply") bufs.add(stmt.result.buf);
  });
  return { vars, bufs };
}

/** The loop whose iterations a launch may be divided by: the only outermost grid loop, where its bounds are constants. */
export function gridLoop(kernel: Kernel): { loop: For; from: number; to: number } | undefined {
  const loops = kernel.body.filter((stmt) => stmt.k === "for" && stmt.how === "grid");
  const [loop] = loops;
  if (loops.length !== 1 || loop?.k !== "for" || loop.from.k !== "num" || loop.to.k !== "num") return undefined;
  return { loop, from: loop.from.value, to: loop.to.value };
}
