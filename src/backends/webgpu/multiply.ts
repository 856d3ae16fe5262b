/**
 * Products of matrices in WGSL: by the device's matrix units, which the extension of `unitDirectives` gives a subgroup, or put
 * together from products of four bytes, where they are not to be used or there are none.
 */
import { invariant } from "../../ir/errors.ts";
import type { Expr, Multiply } from "../../ir/kernel/kernel.ts";
import { type Matrix, matricesOf } from "../../ir/kernel/multiply.ts";
import type { Facts } from "../../ir/kernel/range.ts";
import { type Context, emitExpr, nameOf } from "./expr.ts";
import type { LibraryName } from "./library.ts";
import { binds, grouped, type Text } from "./scalar.ts";
import type { Vector } from "./vectors.ts";

/** Tint sees no more than that indices differ in a workgroup; that a subgroup is a run of neighbours is measured. */
export const unitDirectives = `enable chromium_experimental_subgroup_matrix;
diagnostic(off, chromium.subgroup_matrix_uniformity);`;

/** A matrix, its buffer's WGSL name, how that is declared, and the index of its first element. */
interface Placed extends Matrix<Expr> {
  readonly name: string;
  readonly vector: Vector | undefined;
  readonly index: Text;
}

/** `units`: whether by the device's units. */
export function multiplyLines(stmt: Multiply, facts: Facts, context: Context, units: boolean): string[] {
  const [result, left, right] = matricesOf(stmt).map((matrix) => ({
    ...matrix,
    name: nameOf(context, matrix.at.buf),
    vector: context.vectors.get(matrix.at.buf),
    index: emitExpr(matrix.at.index, facts, context),
  })) as [Placed, Placed, Placed]; // of three
  if (!units) context.needs.library.add(fourProducts);
  const body = units ? byUnits(stmt, result, left, right) : byParts(stmt, result, left, right);
  return ["{", ...body.map((line) => `  ${line}`), "}"];
}

function byUnits({ size, unit, from }: Multiply, result: Placed, left: Placed, right: Placed): string[] {
  const [ms, ns, ks] = [steps(size.m, unit.m), steps(size.n, unit.n), steps(size.k, unit.k)];
  const load = (matrix: Placed, type: string, major: string, row: number, column: number) => {
    const { start, stride } = unitAt(matrix, row, column);
    return `subgroupMatrixLoad<${type}, ${major}>(${start}, ${stride})`;
  };
  const [leftType, rightType, sumType] = [
    `subgroup_matrix_left<i8, ${unit.k}, ${unit.m}>`,
    `subgroup_matrix_right<i8, ${unit.n}, ${unit.k}>`,
    `subgroup_matrix_result<i32, ${unit.n}, ${unit.m}>`,
  ];
  const loads = ks.flatMap((k) => [
    ...ms.map((i) => `let unit_left${i}_${k} = ${load(left, leftType, "row_major", i, k)};`),
    ...ns.map((j) => `let unit_right${j}_${k} = ${load(right, rightType, "col_major", j, k)};`),
  ]);
  const stores = ms.flatMap((i) =>
    ns.map((j) => {
      const add = (sum: string, k: number) =>
        `subgroupMatrixMultiplyAccumulate(unit_left${i}_${k}, unit_right${j}_${k}, ${sum})`;
      const { start, stride } = unitAt(result, i, j);
      return `subgroupMatrixStore<row_major>(${start}, ${ks.reduce(add, `${sumType}(${from})`)}, ${stride});`;
    }),
  );
  return [...loads, ...stores];
}

/** Where units begin. */
const steps = (size: number, unit: number): number[] => Array.from({ length: size / unit }, (_, i) => i * unit);

/** Offsets and strides count what the array is declared as. */
function unitAt({ name, index, at: { stride }, vector }: Placed, row: number, column: number) {
  const lanes = vector?.lanes ?? 1;
  const first = `u32(${index.text})${lanes === 1 ? "" : ` / ${lanes}u`}`;
  const offset = (row * stride + column) / lanes;
  invariant(Number.isInteger(offset), () => `a unit of ${name} begins inside of ${vector?.element}`);
  return { start: `&${name}, ${offset === 0 ? first : `${first} + ${offset}u`}`, stride: `${stride / lanes}u` };
}

const fourProducts: LibraryName = "dot4s8";

/** Each invocation takes elements in turn. */
function byParts({ size, from, over }: Multiply, result: Placed, left: Placed, right: Placed): string[] {
  const sixteen = ({ name, index, vector, at: { stride } }: Placed, row: string) => {
    const byte = `${grouped(index, binds.sum)} + ${row} * ${stride} + unit_k`;
    if (vector?.lanes === 16) return `${name}[(${byte}) >> 4u]`;
    const words = [0, 1, 2, 3].map((i) => `${name}[((${byte}) >> 2u) + ${i}]`);
    return `vec4<u32>(${words.join(", ")})`;
  };
  const element = `${grouped(result.index, binds.sum)} + unit_i * ${result.at.stride} + unit_j`;
  return [
    `for (var unit_at = i32(lane & ${over - 1}u); unit_at < ${size.m * size.n}; unit_at += ${over}) {`,
    `  let unit_i = unit_at / ${size.n};`,
    `  let unit_j = unit_at % ${size.n};`,
    "  var unit_sums = vec4<i32>();",
    `  for (var unit_k = 0; unit_k < ${size.k}; unit_k += 16) {`,
    `    unit_sums = ${fourProducts}(unit_sums, ${sixteen(left, "unit_i")}, ${sixteen(right, "unit_j")});`,
    "  }",
    `  ${result.name}[${element}] = ${from} + unit_sums.x + unit_sums.y + unit_sums.z + unit_sums.w;`,
    "}",
  ];
}
