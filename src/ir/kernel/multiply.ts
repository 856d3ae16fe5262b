/**
 * The statement by which neighbours in a workgroup multiply matrices of bytes together, as the matrix units of GPUs do:
 * element [i, j] of the result becomes `from` plus the sum over k of left[i, k] * right[j, k], in integers that wrap. All
 * three lie in shared memory, row after row; both operands have what is added up along their rows.
 */

/** Rows of the left operand, of the right one, and what both have in a row. */
export interface ProductSize {
  readonly m: number;
  readonly n: number;
  readonly k: number;
}

export interface MatrixAt<Expr> {
  readonly buf: string;
  readonly index: Expr;
  /** Elements from a row to the next. */
  readonly stride: number;
}

/** A barrier has to come before anybody uses the result. */
export interface MultiplyOf<Expr> {
  readonly k: "multiply";
  readonly result: MatrixAt<Expr>;
  readonly left: MatrixAt<Expr>;
  readonly right: MatrixAt<Expr>;
  readonly size: ProductSize;
  /** What the device multiplies at once; divides `size`. */
  readonly unit: ProductSize;
  readonly from: number;
  /** Iterations of the workgroup loop that do it together, a power of two; all of them give the same indices. */
  readonly over: number;
}

export interface Matrix<Expr> {
  readonly at: MatrixAt<Expr>;
  readonly rows: number;
  readonly columns: number;
  readonly stores: boolean;
  /** Elements from its first to its last. */
  readonly reach: number;
}

/** The result and both operands. */
export function matricesOf<Expr>({ result, left, right, size }: MultiplyOf<Expr>): readonly Matrix<Expr>[] {
  const matrix = (at: MatrixAt<Expr>, rows: number, columns: number, stores = false) => {
    return { at, rows, columns, stores, reach: (rows - 1) * at.stride + columns };
  };
  return [matrix(result, size.m, size.n, true), matrix(left, size.m, size.k), matrix(right, size.n, size.k)];
}

/** The statement with `f` applied to each of its matrices; the same object if none differs. */
export function mapMatrices<Expr>(stmt: MultiplyOf<Expr>, f: (at: MatrixAt<Expr>) => MatrixAt<Expr>): MultiplyOf<Expr> {
  const [result, left, right] = [f(stmt.result), f(stmt.left), f(stmt.right)];
  const same = result === stmt.result && left === stmt.left && right === stmt.right;
  return same ? stmt : { ...stmt, result, left, right };
}

/** Operations of each that takes part, four products being one. */
export function multiplyWork<Expr>({ size, over }: MultiplyOf<Expr>): number {
  return Math.ceil((size.m * size.n * size.k) / (4 * over));
}
