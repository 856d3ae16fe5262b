/**
 * Random kernels, valid by construction, and random contents for their buffers. A kernel is decoded from a list of small
 * numbers; every list means some kernel, a list that has run out reads as zeros, so shrinking the list shrinks the kernel.
 */
import fc from "fast-check";
import { touchedBlocks } from "../../src/ir/kernel/blocks.ts";
import {
  type Buf,
  cast,
  type Expr,
  type For,
  type Kernel,
  load,
  loopKinds,
  num,
  op,
  ref,
  type Stmt,
  select,
} from "../../src/ir/kernel/kernel.ts";
import { factsOf } from "../../src/ir/kernel/range.ts";
import { assign, bind, loop, note, store, variable, when } from "../../src/ir/kernel/stmt.ts";
import { type ArithmeticDType, loadedDType, valueDTypes } from "../../src/ir/kernel/value.ts";
import { type ScalarOp, scalarOp, scalarOps } from "../../src/ir/scalar.ts";
import { type TensorData, tensorOf, valuesOf } from "../../src/ir/tensor.ts";

const bufs: readonly Buf[] = [
  { name: "x", dtype: "f32", size: 12, shape: [3, 4], access: "read", space: "global" },
  { name: "ids", dtype: "i32", size: 6, access: "read", space: "global" },
  { name: "q", dtype: "u8", size: 8, access: "read", space: "global" },
  { name: "u", dtype: "u32", size: 5, access: "read", space: "global" },
  { name: "m", dtype: "bool", size: 4, access: "read", space: "global" },
  { name: "h", dtype: "bf16", size: 6, access: "readwrite", space: "global" },
  { name: "n4", dtype: "i4", size: 7, access: "readwrite", space: "global" },
  { name: "y", dtype: "f32", size: 12, shape: [12], access: "readwrite", space: "global" },
  { name: "z", dtype: "i32", size: 8, access: "readwrite", space: "global" },
  { name: "bits", dtype: "bool", size: 3, access: "readwrite", space: "global" },
  { name: "s", dtype: "f64", size: 4, access: "readwrite", space: "scratch" },
];
const opNames = (Object.keys(scalarOps) as ScalarOp[]).filter((name) => name !== "select"); // the keys are the ops
const floats = [0, -0, 1, -1, 0.5, 3, Infinity, -Infinity, NaN, 1e-40, 3e38, 16777216, -2.5, 0.1, 0.3, 1.7, 7.123];
const ints = [0, 1, -1, 2, 3, 4, 7, 64, -2147483648, 2147483647, 65536, 4294967295];

interface Name {
  readonly name: string;
  readonly dtype: ArithmeticDType;
  readonly settable: boolean;
  /** Largest value of a loop variable. */
  readonly max?: number;
}

/** Decodes a kernel. */
export function kernelFrom(tape: readonly number[]): Kernel {
  let at = 0;
  let names = 0;
  /** Expressions made so far whose names are in scope. */
  let pool: Expr[] = [];
  const next = (n: number) => (tape[at++] ?? 0) % n;
  const pick = <T>(from: readonly T[]): T => from[next(from.length)]!;
  const fresh = (base: string) => `${base}${names++}`;

  const leaf = (dtype: ArithmeticDType): Expr => {
    if (dtype === "bool") return num("bool", next(2));
    return num(dtype, dtype === "f32" || dtype === "f64" ? pick(floats) : pick(ints));
  };
  const index = (size: number, scope: readonly Name[], depth: number): Expr => {
    const loops = scope.filter((name) => name.max !== undefined && name.max < size);
    if (loops.length > 0 && next(2) === 0) return ref(pick(loops).name);
    const any = expr("i32", scope, depth);
    return op("min", op("max", any, num("i32", 0)), num("i32", size - 1));
  };
  const access = (buf: Buf, scope: readonly Name[], depth: number): Expr => {
    if (next(3) !== 0) return load(buf, index(buf.size, scope, depth));
    const where = expr("i32", scope, depth);
    const inside = op("and", op("ge", where, num("i32", 0)), op("lt", where, num("i32", buf.size)));
    const safe =
      buf.access === "read" && stable(where)
        ? where
        : op("min", op("max", where, num("i32", 0)), num("i32", buf.size - 1));
    return select(inside, load(buf, safe), leaf(loadedDType(buf.dtype)));
  };
  const expr = (dtype: ArithmeticDType, scope: readonly Name[], depth: number): Expr => {
    const made = rawExpr(dtype, scope, depth);
    if (made.k !== "num" && made.k !== "ref") pool.push(made);
    return made;
  };
  const rawExpr = (dtype: ArithmeticDType, scope: readonly Name[], depth: number): Expr => {
    const here = scope.filter((name) => name.dtype === dtype);
    const kind = next(depth > 0 ? 12 : 4);
    if (kind <= 1 && here.length > 0) return ref(pick(here).name, dtype);
    const sources = bufs.filter((buf) => loadedDType(buf.dtype) === dtype);
    if (kind <= 3) {
      if (depth < 0 || sources.length === 0 || next(4) === 0) return leaf(dtype);
      return access(pick(sources), scope, depth - 1);
    }
    // An expression once more, for what shares them.
    const again = pool.filter((one) => one.type.dtype === dtype);
    if (kind === 4 && again.length > 0) return pick(again);
    if (kind === 5) return cast(dtype, expr(pick(valueDTypes), scope, depth - 1));
    if (kind === 6) {
      const [a, b] = [expr(dtype, scope, depth - 1), expr(dtype, scope, depth - 1)];
      return select(expr("bool", scope, depth - 1), a, b);
    }
    if (dtype === "i32" && kind <= 8) {
      const by = num("i32", 1 + next(5));
      return op(pick(["div", "rem", "mul"] as const), expr("i32", scope, depth - 1), by);
    }
    const result = dtype === "bool" && next(3) > 0 ? "bool" : "same";
    const from = result === "bool" ? pick(valueDTypes) : dtype;
    const fits = opNames.filter((name) => {
      const def = scalarOp(name);
      const floating = from === "f32" || from === "f64";
      const kinds = { any: true, bool: from === "bool", float: floating, number: from !== "bool" };
      return def.result === result && kinds[def.operands];
    });
    const name = pick(fits);
    return op(name, ...Array.from({ length: scalarOp(name).arity }, () => expr(from, scope, depth - 1)));
  };
  const block = (outer: readonly Name[], depth: number): Stmt[] => {
    const scope = [...outer];
    const before = pool;
    pool = [...pool];
    const stmts: Stmt[] = [];
    const count = 1 + next(4);
    for (let i = 0; i < count; i++) {
      const kind = next(depth > 0 ? 8 : 5);
      if (kind === 0 || kind === 1) {
        const buf = pick(bufs.filter((one) => one.access !== "read"));
        stmts.push(store(buf, index(buf.size, scope, 2), expr(loadedDType(buf.dtype), scope, 3)));
      } else if (kind === 2) {
        const dtype = pick(valueDTypes);
        const name = fresh("a");
        stmts.push(bind(name, expr(dtype, scope, 3)));
        scope.push({ name, dtype, settable: false });
      } else if (kind === 3) {
        const dtype = pick(valueDTypes);
        const name = fresh("v");
        stmts.push(variable(name, expr(dtype, scope, 2)));
        scope.push({ name, dtype, settable: true });
      } else if (kind === 4) {
        const settable = scope.filter((name) => name.settable);
        if (settable.length === 0) stmts.push(note(pick(["", "a note", 'quoted "x" // no comment'])));
        else {
          const { name, dtype } = pick(settable);
          stmts.push(assign(name, expr(dtype, scope, 3)));
        }
      } else if (kind <= 6) {
        const name = fresh("i");
        const [from, size, step] = [next(3), next(5), 1 + next(2)];
        // Vars of this block may not be set in a grid loop, so those are serial here.
        const how = pick(loopKinds.filter((one) => one === "serial" || one === "unroll"));
        const inner = [...scope, { name, dtype: "i32", settable: false, max: from + size } as const];
        stmts.push(
          loop(
            name,
            from,
            next(4) === 0 ? index(from + size + 1, scope, 2) : from + size,
            block(inner, depth - 1),
            how,
            step,
          ),
        );
      } else {
        stmts.push(when(expr("bool", scope, 3), block(scope, depth - 1), next(2) === 0 ? [] : block(scope, depth - 1)));
      }
    }
    // Whatever was computed is looked at.
    for (const { name, dtype } of scope.slice(outer.length)) {
      const value = ref(name, dtype);
      const to = bufs.find((buf) => buf.name === { f32: "y", f64: "s", i32: "z", u32: "y", bool: "bits" }[dtype])!;
      stmts.push(store(to, index(to.size, scope, 1), dtype === "u32" ? cast("f32", value) : value));
    }
    pool = before;
    return stmts;
  };
  const scratch = bufs.at(-1)!;
  const start = loop("s0", 0, scratch.size, [store(scratch, ref("s0"), num("f64", 0))]);
  const grid = next(2) === 0;
  const shown = [0, 1, 2, 3].map((i) =>
    store(bufs.find((buf) => buf.name === "y")!, num("i32", i + 8), load(scratch, num("i32", i))),
  );
  const rows = () => loop("row", 0, 3, block([{ name: "row", dtype: "i32", settable: false, max: 2 }], 3), "grid");
  const body = grid ? [start, inOrderIfDependent(rows())] : [start, ...block([], 3), ...shown];
  return { name: "random", origin: ["%1 = add %0, %0"], bufs, body };
}

/** The grid loop, but serial where its iterations are not known to be independent (K9). */
function inOrderIfDependent(grid: For): For {
  const kernel = { name: "rows", origin: [], bufs, body: [grid] };
  const touched = touchedBlocks(
    bufs.filter(({ space }) => space === "global"),
    grid,
    factsOf(kernel),
  );
  const met = [...touched.values()].some(({ loaded, stored, outside }) => loaded && stored && outside !== undefined);
  return met ? { ...grid, how: "serial" } : grid;
}

function stable(expr: Expr): boolean {
  const changes = (e: Expr): boolean => {
    if (e.k === "ref") return e.name.startsWith("v");
    if (e.k === "load") return bufs.find((buf) => buf.name === e.buf)!.access !== "read" || changes(e.index);
    return e.k === "op" ? e.args.some(changes) : e.k === "cast" && changes(e.value);
  };
  return !changes(expr);
}

export const arbKernel: fc.Arbitrary<Kernel> = fc.array(fc.nat(255), { maxLength: 600, size: "max" }).map(kernelFrom);

/** Contents for the global buffers of a random kernel. */
export const arbData: fc.Arbitrary<readonly (readonly number[])[]> = fc.tuple(
  ...bufs
    .filter((buf) => buf.space === "global")
    .map((buf) => {
      const dtype = loadedDType(buf.dtype);
      const values = dtype === "bool" ? [0, 1] : dtype === "f32" ? floats : ints;
      return fc.array(fc.oneof(fc.constantFrom(...values), fc.integer({ min: 0, max: 12 })), {
        minLength: buf.size,
        maxLength: buf.size,
      });
    }),
);

/** Fresh storage with these contents. */
export function storageOf(kernel: Kernel, contents: readonly (readonly number[])[]): TensorData[] {
  const globals = kernel.bufs.filter((buf) => buf.space === "global");
  return globals.map((buf, i) => tensorOf(buf.dtype as "f32", [buf.size], contents[i]!).data); // global storage is a DType
}

/** All elements of all buffers as numbers, for comparison by Object.is. */
export function contentsOf(kernel: Kernel, data: readonly TensorData[]): number[][] {
  const globals = kernel.bufs.filter((buf) => buf.space === "global");
  return globals.map((buf, i) => valuesOf({ type: { dtype: buf.dtype as "f32", shape: [buf.size] }, data: data[i]! })); // as above
}
