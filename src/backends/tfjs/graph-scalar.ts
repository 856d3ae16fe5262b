/**
 * Scalar ops as nodes of a TensorFlow graph, one row each. TensorFlow's own differ from the IR's where the comments say:
 * integer division by zero is an error there, and what minimum and maximum make of NaN depends on the device.
 */
import type { ScalarOp } from "../../ir/scalar.ts";
import type { Computed } from "./engine.ts";
import { bytesOf, type GraphBuilder, type GraphTensor, typeAttr } from "./graph.ts";
import { spreadShape } from "./row.ts";
import type { TfType } from "./saved-model.ts";

/** How computed dtypes are carried. */
export const carriers: Record<Computed, TfType> = { f32: "float", i32: "int32", bool: "bool" };

type Row = (graph: GraphBuilder, xs: readonly GraphTensor[], dtype: Computed) => GraphTensor;

/** A node of that op; its result is of the operands' type and of the shape that they broadcast to. */
function same(op: string): Row {
  return (graph, xs) => {
    const { type } = xs[0]!;
    return graph.one(op, xs, { T: typeAttr(type) }, { type, shape: spreadShape(xs.map(({ shape }) => shape)) });
  };
}

function compare(op: string): Row {
  return (graph, xs, dtype) => {
    // Truth values are compared as numbers.
    const operands = dtype === "bool" ? xs.map((x) => toInt(graph, x)) : xs;
    const shape = spreadShape(xs.map((x) => x.shape));
    return graph.one(op, operands, { T: typeAttr(operands[0]!.type) }, { type: "bool", shape });
  };
}

function logical(op: string): Row {
  return (graph, xs) => graph.one(op, xs, {}, { type: "bool", shape: spreadShape(xs.map(({ shape }) => shape)) });
}

function toInt(graph: GraphBuilder, x: GraphTensor): GraphTensor {
  return graph.one("Cast", [x], { SrcT: typeAttr(x.type), DstT: typeAttr("int32") }, { type: "int32", shape: x.shape });
}

/** `a` where it wins or is NaN, else `b`, which is then NaN if one of them is. */
function extreme(op: "Minimum" | "Maximum", wins: ScalarOp): Row {
  return (graph, xs, dtype) => {
    if (dtype !== "f32") return same(op)(graph, xs, dtype);
    const [a, b] = xs as readonly [GraphTensor, GraphTensor]; // an op of two operands
    const first = scalar(graph, "or", "bool", [scalar(graph, wins, "f32", [a, b]), scalar(graph, "ne", "f32", [a, a])]);
    return scalar(graph, "select", "f32", [first, a, b]);
  };
}

/** By -1 the division could overflow, by zero it is an error: both are computed by 1 and replaced. */
function divided(float: string, integer: string, byMinusOne: "neg" | "zero"): Row {
  return (graph, xs, dtype) => {
    if (dtype === "f32") return same(float)(graph, xs, dtype);
    const [a, b] = xs as readonly [GraphTensor, GraphTensor]; // an op of two operands
    const is = (value: number) => scalar(graph, "eq", "i32", [b, graph.int(value)]);
    const choose = (c: GraphTensor, x: GraphTensor, y: GraphTensor) => scalar(graph, "select", "i32", [c, x, y]);
    const safe = choose(scalar(graph, "or", "bool", [is(0), is(-1)]), graph.int(1), b);
    const quotient = same(integer)(graph, [a, safe], dtype);
    const negated = byMinusOne === "neg" ? scalar(graph, "neg", "i32", [a]) : graph.int(0);
    return choose(is(0), graph.int(0), choose(is(-1), negated, quotient));
  };
}

/** C's gives 1 for 1 to the power of NaN or of an infinity, and for -1 to that of an infinity. */
const power: Row = (graph, xs, dtype) => {
  const [a, b] = xs as readonly [GraphTensor, GraphTensor]; // an op of two operands
  const f32 = (op: ScalarOp, ...operands: readonly GraphTensor[]) => scalar(graph, op, "f32", operands);
  const endless = f32("ne", f32("sub", b, b), fillOf(graph, "f32", 0));
  const one = f32("eq", f32("abs", a), fillOf(graph, "f32", 1));
  const none = scalar(graph, "and", "bool", [endless, one]);
  return f32("select", none, fillOf(graph, "f32", Number.NaN), same("Pow")(graph, xs, dtype));
};

const rows = {
  neg: same("Neg"),
  abs: same("Abs"),
  exp: same("Exp"),
  log: same("Log"),
  sqrt: same("Sqrt"),
  rsqrt: same("Rsqrt"),
  sin: same("Sin"),
  cos: same("Cos"),
  tanh: same("Tanh"),
  sigmoid: same("Sigmoid"),
  floor: same("Floor"),
  round: same("Rint"),
  not: logical("LogicalNot"),
  add: same("AddV2"),
  sub: same("Sub"),
  mul: same("Mul"),
  div: divided("RealDiv", "TruncateDiv", "neg"),
  rem: divided("Mod", "TruncateMod", "zero"),
  pow: power,
  min: extreme("Minimum", "lt"),
  max: extreme("Maximum", "gt"),
  and: logical("LogicalAnd"),
  or: logical("LogicalOr"),
  eq: compare("Equal"),
  ne: compare("NotEqual"),
  lt: compare("Less"),
  le: compare("LessEqual"),
  gt: compare("Greater"),
  ge: compare("GreaterEqual"),
  select: (graph, xs) => {
    const { type } = xs[1]!;
    return graph.one("SelectV2", xs, { T: typeAttr(type) }, { type, shape: spreadShape(xs.map(({ shape }) => shape)) });
  },
} as const satisfies Record<ScalarOp, Row>;

/** The scalar op of each element; operands broadcast. */
export function scalar(graph: GraphBuilder, op: ScalarOp, dtype: Computed, xs: readonly GraphTensor[]): GraphTensor {
  return rows[op](graph, xs, dtype);
}

/** A scalar constant. */
export function fillOf(graph: GraphBuilder, dtype: Computed, value: number): GraphTensor {
  const content =
    dtype === "f32"
      ? Float32Array.of(value)
      : dtype === "i32"
        ? Int32Array.of(value)
        : Uint8Array.of(value === 0 ? 0 : 1);
  return graph.constant({ type: carriers[dtype], shape: [] }, bytesOf(content));
}
