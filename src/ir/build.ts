/** Building with the notation of mathematics: scalars and smaller shapes broadcast, sizes come from the operands. */
import { IrError } from "./errors.ts";
import { type Builder, type Node, named } from "./graph.ts";
import type { ScalarOp } from "./scalar.ts";
import { type DType, type Shape, sameShape } from "./types.ts";

export type Operand = Node | number;
type BinaryOp = "add" | "sub" | "mul" | "div" | "rem" | "pow" | "min" | "max" | "and" | "or" | Comparison;
type Comparison = "eq" | "ne" | "lt" | "le" | "gt" | "ge";
type UnaryOp =
  | "neg"
  | "abs"
  | "exp"
  | "log"
  | "sqrt"
  | "rsqrt"
  | "sin"
  | "cos"
  | "tanh"
  | "sigmoid"
  | "floor"
  | "round"
  | "not";

export type Maths = ReturnType<typeof maths>;

/** The operations on nodes of one Builder. */
export function maths(builder: Builder) {
  const make: Builder["make"] = (op, ins, attrs) => builder.make(op, ins, attrs);

  const full = (dtype: DType, shape: Shape, value: number) => make("full", [], { dtype, shape, value });
  const reshape = (x: Node, shape: Shape) => (sameShape(x.type.shape, shape) ? x : make("reshape", [x], { shape }));
  const broadcast = (x: Node, shape: Shape) => (sameShape(x.type.shape, shape) ? x : make("broadcast", [x], { shape }));

  /** Brings operands to one shape, numbers to the dtype of the nodes. */
  const align = (op: string, operands: readonly Operand[]): Node[] => {
    const nodes = operands.filter((x) => typeof x !== "number");
    if (nodes.length === 0) throw new IrError(op, "at least one operand must be a tensor");
    const shape = commonShape(
      op,
      nodes.map((x) => x.type.shape),
    );
    const dtype = nodes.at(-1)!.type.dtype;
    return operands.map((x) => (typeof x === "number" ? full(dtype, shape, x) : broadcast(x, shape)));
  };

  const elementwise = (op: ScalarOp, ...operands: Operand[]): Node => make(op, align(op, operands), {});
  const unary = (op: UnaryOp) => (x: Node) => elementwise(op, x);
  const binary = (op: BinaryOp) => (x: Operand, y: Operand) => elementwise(op, x, y);

  return {
    builder,
    full,
    reshape,
    broadcast,
    neg: unary("neg"),
    abs: unary("abs"),
    exp: unary("exp"),
    log: unary("log"),
    sqrt: unary("sqrt"),
    rsqrt: unary("rsqrt"),
    sin: unary("sin"),
    cos: unary("cos"),
    tanh: unary("tanh"),
    sigmoid: unary("sigmoid"),
    floor: unary("floor"),
    round: unary("round"),
    not: unary("not"),
    add: binary("add"),
    sub: binary("sub"),
    mul: binary("mul"),
    div: binary("div"),
    rem: binary("rem"),
    pow: binary("pow"),
    min: binary("min"),
    max: binary("max"),
    and: binary("and"),
    or: binary("or"),
    eq: binary("eq"),
    ne: binary("ne"),
    lt: binary("lt"),
    le: binary("le"),
    gt: binary("gt"),
    ge: binary("ge"),
    select: (condition: Node, x: Operand, y: Operand): Node => {
      const nodes = [x, y].filter((value) => typeof value !== "number");
      const shape = commonShape(
        "select",
        [condition, ...nodes].map((value) => value.type.shape),
      );
      const dtype = nodes[0]?.type.dtype ?? "f32";
      const [a, b] = [x, y].map((value) =>
        typeof value === "number" ? full(dtype, shape, value) : broadcast(value, shape),
      );
      return make("select", [broadcast(condition, shape), a!, b!], {});
    },
    cast: (x: Node, dtype: DType) => (x.type.dtype === dtype ? x : make("cast", [x], { dtype })),
    iota: (dtype: DType, shape: Shape, axis: number) => make("iota", [], { dtype, shape, axis }),
    transpose: (x: Node, perm: readonly number[]) => make("transpose", [x], { perm }),
    slice: (x: Node, axis: number, start: number, stop: number) =>
      start === 0 && stop === x.type.shape[axis] ? x : make("slice", [x], { axis, start, stop }),
    concat: (axis: number, ...xs: Node[]) => (xs.length === 1 ? xs[0]! : make("concat", xs, { axis })),
    gather: (x: Node, index: Node) => make("gather", [x, index], {}),
    takeAlong: (x: Node, index: Node) => make("takeAlong", [x, index], {}),
    updateRows: (x: Node, rows: Node, slots: Node) => make("updateRows", [x, rows, slots], {}),
    reduceSum: (x: Node) => make("reduceSum", [x], {}),
    reduceMax: (x: Node) => make("reduceMax", [x], {}),
    argMax: (x: Node) => make("argMax", [x], {}),
    topKValues: (x: Node, k: number) => make("topKValues", [x], { k }),
    topKIndices: (x: Node, k: number) => make("topKIndices", [x], { k }),
    contract: (axes: string, x: Node, y: Node) => make("contract", [x, y], { axes }),
    silu: (x: Node) => make("silu", [x], {}),
    softmax: (x: Node) => make("softmax", [x], {}),
    rmsNorm: (x: Node, weight: Node, eps: number) => make("rmsNorm", [x, weight], { eps }),
    rope: (x: Node, cos: Node, sin: Node, interleaved: boolean) => make("rope", [x, cos, sin], { interleaved }),
    attention: (q: Node, k: Node, v: Node, positions: Node, sequence: Node, scale: number) =>
      make("attention", [q, k, v, positions, sequence], { scale }),
    mergeParts: (x: Node) => make("mergeParts", [x], {}),
    dequantizeBlocks: (x: Node, scale: Node, block: readonly number[]) =>
      make("dequantizeBlocks", [x, scale], { block }),
    groupScales: (x: Node, attrs: { group: number; to: DType; method: string }) => make("groupScales", [x], attrs),
    groupMinimums: (x: Node, attrs: { group: number; to: DType; method: string }) => make("groupMinimums", [x], attrs),
    /** `params` are scales, or scales and minimums. */
    quantizeGroups: (x: Node, params: readonly Node[], dtype: DType, group: number) =>
      make("quantizeGroups", [x, ...params], { dtype, group }),
    dequantizeGroups: (q: Node, params: readonly Node[], group: number) =>
      make("dequantizeGroups", [q, ...params], { group }),
    /** Adds axes of size 1 at the end, so that a per-row value meets the elements of its row. */
    expandLast: (x: Node, count = 1) => reshape(x, [...x.type.shape, ...new Array<number>(count).fill(1)]),
    named,
  } as const;
}

function commonShape(op: string, shapes: readonly Shape[]): Shape {
  const rank = Math.max(...shapes.map((shape) => shape.length));
  return Array.from({ length: rank }, (_, i) => {
    const dims = shapes.map((shape) => shape[i - rank + shape.length] ?? 1);
    const size = dims.find((dim) => dim !== 1) ?? 1;
    if (dims.some((dim) => dim !== 1 && dim !== size)) {
      const found = shapes.map((shape) => `[${shape}]`).join(" and ");
      throw new IrError(op, `shapes ${found} do not broadcast to one`);
    }
    return size;
  });
}

/** The last dimension. */
export function lastDim(x: Node): number {
  return x.type.shape.at(-1) ?? 1;
}
