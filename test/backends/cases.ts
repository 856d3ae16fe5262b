/**
 * What every op must compute on every backend, as data: a small module, inputs with the values where devices go wrong,
 * and how far a result may be from the interpreter's. Backends' tests, the support matrix and benchmarks share the list.
 */
import { isOp, type Module, topoOrder } from "../../src/ir/graph.ts";
import type { OpName } from "../../src/ir/ops/all.ts";
import { type ScalarOp, type ScalarOpDef, scalarOps } from "../../src/ir/scalar.ts";
import { type Tensor, tensorOf } from "../../src/ir/tensor.ts";
import type { DType } from "../../src/ir/types.ts";
import { contentsOf, inputsOf, moduleOf } from "../arb/module-of.ts";
import type { CaseSpec, Tolerance } from "./case-spec.ts";
import { contractCases, modelCases } from "./cases-contract.ts";
import { dataCases } from "./cases-data.ts";

export interface OpCase {
  readonly name: string;
  readonly op: OpName;
  readonly module: Module;
  readonly inputs: readonly Tensor[];
  readonly weights: ReadonlyMap<string, Tensor>;
  readonly tolerance: Tolerance;
}

export const exact: Tolerance = { ulp: 0, reason: "data is moved or compared, or arithmetic is correctly rounded" };

/** Zeros of both signs, ones, halves that round either way, the largest, a subnormal, infinities and NaN. */
const floats = [0, -0, 1, -1, 0.5, 1.5, -2.5, 3, 88.5, -104, 1e-40, 3.4e38, -3.4e38, Infinity, -Infinity, NaN];
const edges: Partial<Record<DType, readonly number[]>> = {
  f32: floats,
  i32: [0, 1, -1, 2, -3, 7, 65_536, 2_147_483_647, -2_147_483_648],
  u32: [0, 1, 2, 3, 7, 65_536, 2_147_483_648, 4_294_967_295],
  bool: [0, 1],
};
const dtypesOf: Record<ScalarOpDef["operands"], readonly DType[]> = {
  float: ["f32"],
  number: ["f32", "i32", "u32"],
  bool: ["bool"],
  any: ["f32", "i32", "u32", "bool"],
};

/** Every pair (of three: every triple of a condition and a pair) of edge values. */
function scalarCases(op: ScalarOp): CaseSpec[] {
  const def: ScalarOpDef = scalarOps[op];
  return dtypesOf[def.operands].map((dtype) => {
    const values = edges[dtype]!;
    const rows = def.arity === 1 ? values.map((x) => [x]) : values.flatMap((x) => values.map((y) => [x, y]));
    const table = op === "select" ? rows.flatMap((row) => [0, 1].map((c) => [c, ...row])) : rows;
    const n = table.length;
    const types = table[0]!.map((_, i): DType => (op === "select" && i === 0 ? "bool" : dtype));
    return {
      name: `${op} ${dtype}`,
      op,
      build: (m, p) =>
        m.builder.make(
          op,
          types.map((type, i) => p(`x${i}`, type, n)),
          {},
        ),
      inputs: types.map((type, i) =>
        tensorOf(
          type,
          [n],
          table.map((row) => row[i]!),
        ),
      ),
      tolerance:
        dtype === "f32" && def.ulp > 0
          ? { ulp: def.ulp, absolute: absoluteOf(op), reason: "the accuracy in the table of scalar ops" }
          : exact,
    };
  });
}

/** WGSL bounds the error of sin and cos by 2^-11 and that of log near 1 by 2^-21, whatever the result. */
function absoluteOf(op: ScalarOp): number {
  return op === "sin" || op === "cos" ? 2 ** -11 : op === "log" ? 2 ** -21 : 0;
}

/** The module, inputs and weights of a case. */
export function makeCase({ name, op, build, callees, inputs, tolerance = exact }: CaseSpec): OpCase {
  const module = moduleOf(build, callees);
  const main = module.funcs.get("main")!;
  const weights = topoOrder(main.outs).filter((node) => isOp(node, "weight"));
  return {
    name,
    op,
    module,
    inputs: inputs ?? inputsOf(main),
    weights: new Map(weights.map(({ attrs, type }, i) => [attrs.name, contentsOf(type, 100 + i)])),
    tolerance,
  };
}

export const opCases: readonly OpCase[] = [
  // The keys of the table are the ops.
  ...(Object.keys(scalarOps) as ScalarOp[]).flatMap(scalarCases),
  ...dataCases,
  ...contractCases,
  ...modelCases,
].map(makeCase);
