import fc from "fast-check";
import { expect, test } from "vitest";
import { type Buf, type Expr, iadd, imul, int, load, num, op, ref, select } from "../../../src/ir/kernel/kernel.ts";
import { printExpr } from "../../../src/ir/kernel/print.ts";
import { runKernel } from "../../../src/ir/kernel/run.ts";
import { store } from "../../../src/ir/kernel/stmt.ts";
import { evalValue, loadedDType } from "../../../src/ir/kernel/value.ts";
import { type ScalarOp, scalarOp, scalarOps } from "../../../src/ir/scalar.ts";
import { tensorOf, valuesOf } from "../../../src/ir/tensor.ts";

const values = {
  f32: [0, -0, 1, -1, 2, 0.5, NaN, Infinity, -Infinity, 1e-40],
  i32: [0, 1, -1, 2, 5, -2147483648, 2147483647],
  u32: [0, 1, 2, 5, 4294967295],
  bool: [0, 1],
} as const;
const allowed = (name: ScalarOp, dtype: keyof typeof values): boolean => {
  const { operands } = scalarOp(name);
  return { any: true, float: dtype === "f32", number: dtype !== "bool", bool: dtype === "bool" }[operands];
};
const names = (Object.keys(scalarOps) as ScalarOp[]).filter((name) => name !== "select"); // the keys are the ops

test("folding constants and identities changes no value", () => {
  const arb = fc
    .tuple(fc.constantFrom(...names), fc.constantFrom("f32", "i32", "u32", "bool"))
    .filter(([name, dtype]) => allowed(name, dtype))
    .chain(([name, dtype]) =>
      fc.tuple(
        fc.constant(name),
        fc.constant(dtype),
        fc.array(fc.tuple(fc.constantFrom(...values[dtype]), fc.boolean()), { minLength: 3, maxLength: 3 }),
      ),
    );
  fc.assert(
    fc.property(arb, ([name, dtype, leaves]) => {
      const x: Buf = { name: "x", dtype, size: 3, access: "read", space: "global" };
      const leaf = (i: number): Expr => (leaves[i]![1] ? num(dtype, leaves[i]![0]) : load(x, int(i)));
      const { arity, result } = scalarOp(name);
      const y: Buf = {
        name: "y",
        dtype: result === "bool" ? "bool" : dtype,
        size: 1,
        access: "write",
        space: "global",
      };
      const once = (a: Expr, b: Expr) => op(name, ...[a, b].slice(0, arity));
      const eval1 = (a: number, b: number) => evalValue(name, dtype, [a, b].slice(0, arity));
      // Applied twice where the result is of the same type, for what folds chains.
      const twice = result === "same" && arity === 2;
      const expr = twice ? once(once(leaf(0), leaf(1)), leaf(2)) : once(leaf(0), leaf(1));
      const [a, b, c] = valuesOf(
        tensorOf(
          dtype,
          [3],
          leaves.map(([value]) => value),
        ),
      );
      const out = tensorOf(y.dtype as "f32", [1], [0]); // storage of a global buffer is a DType
      const data = tensorOf(
        dtype,
        [3],
        leaves.map(([value]) => value),
      ).data;
      runKernel({ name: "k", origin: [], bufs: [x, y], body: [store(y, int(0), expr)] }, [data, out.data]);
      expect(valuesOf(out)[0], printExpr(expr)).toBe(twice ? eval1(eval1(a!, b!), c!) : eval1(a!, b!));
      expect(loadedDType(y.dtype)).toBe(expr.type.dtype);
    }),
    { numRuns: 3000 },
  );
});

test("index arithmetic comes out plain", () => {
  const [n, k] = [ref("n"), ref("k")];
  const shown = (expr: Expr) => printExpr(expr);
  expect(shown(iadd(imul(n, int(1)), int(0)))).toBe("n");
  expect(shown(iadd(imul(n, int(0)), k))).toBe("k");
  expect(shown(iadd(int(3), iadd(n, int(4))))).toBe("n + 7");
  expect(shown(imul(imul(int(4), n), int(8)))).toBe("n * 32");
  expect(shown(op("sub", n, int(3)))).toBe("n - 3");
  expect(shown(select(op("lt", int(1), int(2)), n, k))).toBe("n");
  expect(shown(op("add", ref("a", "f32"), num("f32", 0)))).toBe("a + 0.0");
  expect(shown(op("sub", ref("a", "f32"), num("f32", 0)))).toBe("a");
});

test("operands that do not fit are our bug", () => {
  expect(() => op("add", int(1), num("f32", 1))).toThrow("operands of one type");
  expect(() => op("exp", int(1))).toThrow("float operands");
  expect(() => op("select", int(1), int(1), int(1))).toThrow("bool condition");
});
