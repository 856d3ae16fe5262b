/**
 * Matrix products as nodes of a TensorFlow graph. A product with a few rows of a large weight (the experts that one token
 * chooses) is made of products with each: a slice along the first axis is no copy, and a gather would be.
 */
import { widestGraphBlock } from "../../ir/target.ts";
import { type Shape, sizeOf } from "../../ir/types.ts";
import type { MatMulOptions } from "./engine.ts";
import { boolAttr, type GraphBuilder, type GraphTensor, intAttr, nodeOf, typeAttr } from "./graph.ts";

/** Rows chosen from a table that stays as it is, and may be narrower than what the product reads. */
export interface ChosenRows {
  readonly table: GraphTensor;
  readonly index: GraphTensor;
}

export interface MatMulContext {
  readonly graph: GraphBuilder;
  readonly reshape: (x: GraphTensor, shape: Shape) => GraphTensor;
  /** What a tensor is made of, if it is rows of a table under any shape. */
  readonly chosen: (x: GraphTensor) => ChosenRows | undefined;
  /** What a tensor was cast from, under any shape, if that is a narrow float. */
  readonly narrow: (x: GraphTensor) => GraphTensor | undefined;
}

/** Most rows that are taken one by one, and the fewest bytes of each that make it worth while. */
const mostRows = 16;
const leastBytes = 2 ** 14;

/** f32 [batch, m, k] by [batch, k, n], see `TensorEngine.matMul`. */
export function matMul(context: MatMulContext, a: GraphTensor, b: GraphTensor, options: MatMulOptions): GraphTensor {
  const { graph, reshape } = context;
  const { transposeA, transposeB } = options;
  const [batch, m, n] = [a.shape[0]!, a.shape[transposeA ? 2 : 1]!, b.shape[transposeB ? 1 : 2]!];
  const T = typeAttr(a.type);
  if (batch !== 1) {
    const many = transposeA || m !== 1 ? undefined : context.chosen(b);
    const byAll = many === undefined ? undefined : matMulByAll(context, a, many, b.shape, transposeB);
    if (byAll !== undefined) return byAll;
    const attrs = { T, adj_x: boolAttr(transposeA), adj_y: boolAttr(transposeB) };
    return graph.one("BatchMatMulV2", [a, b], attrs, { type: a.type, shape: [batch, m, n] });
  }
  const rows = transposeA ? undefined : context.chosen(b);
  const byRow = rows === undefined ? undefined : matMulByRow(context, a, rows, b.shape, transposeB);
  if (byRow !== undefined) return byRow;
  // One product has the faster kernels for few rows.
  return reshape(product(context, reshape(a, a.shape.slice(1)), reshape(b, b.shape.slice(1)), options), [1, m, n]);
}

function product(context: MatMulContext, a: GraphTensor, b: GraphTensor, options: MatMulOptions): GraphTensor {
  const narrow = b.type === "float" ? context.narrow(b) : b;
  if (narrow !== undefined) return productWidened(context, a, context.reshape(narrow, b.shape), options);
  return plainProduct(context, a, b, options);
}

/** Bytes of f32 that a narrow matrix is widened to at a time: little enough to stay in a cache until it is multiplied. */
const blockBytes = 2 ** 23;
/** Sums of many rows' products are larger than what is saved: then only memory counts. */
const fewRows = 32;

/**
 * The product with a matrix of bf16 or f16, in blocks of its rows, each of which is made f32 when its turn has come: edges
 * say so, as TensorFlow would else widen all weights of a step before the first product.
 */
function productWidened(context: MatMulContext, a: GraphTensor, b: GraphTensor, options: MatMulOptions): GraphTensor {
  const { graph } = context;
  const { transposeA, transposeB } = options;
  const [rows, width] = [b.shape[0]!, b.shape[1]!];
  const m = a.shape[transposeA ? 1 : 0]!;
  const most = m < fewRows ? blockBytes : widestGraphBlock;
  const each = transposeA ? rows : Math.min(Math.max(Math.floor(most / (4 * width)), 1), rows);
  const parts: GraphTensor[] = [];
  let before = a;
  for (let from = 0; from < rows; from += each) {
    const count = Math.min(each, rows - from);
    const block = blockOf(graph, b, from, count, before);
    const some = transposeB || count === rows ? a : columns(graph, a, from, count);
    before = plainProduct(context, some, block, options);
    parts.push(before);
  }
  if (parts.length === 1) return before;
  if (!transposeB) return parts.reduce((sum, part) => add(graph, sum, part));
  const attrs = { N: intAttr(parts.length), T: typeAttr("float"), Tidx: typeAttr("int32") };
  return graph.one("ConcatV2", [...parts, graph.int(1)], attrs, { type: "float", shape: [m, rows] });
}

/** Rows of a narrow matrix as f32, after `before` is there. */
function blockOf(graph: GraphBuilder, b: GraphTensor, from: number, count: number, before: GraphTensor): GraphTensor {
  const shape = b.shape.with(0, count);
  const attrs = { T: typeAttr(b.type), Index: typeAttr("int32") };
  const rows =
    count === b.shape[0]
      ? b
      : graph.one("Slice", [b, graph.ints([from, 0]), graph.ints(shape)], attrs, { type: b.type, shape });
  const cast = { SrcT: typeAttr(b.type), DstT: typeAttr("float") };
  return graph.one("Cast", [rows], cast, { type: "float", shape }, [nodeOf(before)]);
}

function plainProduct(
  { graph }: MatMulContext,
  a: GraphTensor,
  b: GraphTensor,
  { transposeA, transposeB }: MatMulOptions,
): GraphTensor {
  const attrs = { T: typeAttr(a.type), transpose_a: boolAttr(transposeA), transpose_b: boolAttr(transposeB) };
  const shape = [a.shape[transposeA ? 1 : 0]!, b.shape[transposeB ? 0 : 1]!];
  return graph.one("MatMul", [a, b], attrs, { type: a.type, shape });
}

/**
 * [1, m, k] by chosen rows that are [1, n, k] (transposed) or [1, k, n] together: each has some of the n columns, or adds
 * its part of the k summed. Undefined where rows do not divide the product so, or are small.
 */
function matMulByRow(
  context: MatMulContext,
  a: GraphTensor,
  { table, index }: ChosenRows,
  shape: Shape,
  transposeB: boolean,
): GraphTensor | undefined {
  const { graph, reshape } = context;
  const [count, rowSize] = [sizeOf(index.shape), sizeOf(table.shape.slice(1))];
  const [first, second] = [shape[1]!, shape[2]!];
  const each = first / count;
  if (count > mostRows || rowSize * 4 < leastBytes || each * second !== rowSize) return undefined;
  const [m, k] = [a.shape[1]!, a.shape[2]!];
  const left = reshape(a, [m, k]);
  const parts = Array.from({ length: count }, (_, j) => {
    const row = reshape(rowOf(context, table, index, j), [each, second]);
    const x = transposeB ? left : columns(graph, left, j * each, each);
    return product(context, x, row, { transposeA: false, transposeB });
  });
  if (!transposeB)
    return reshape(
      parts.reduce((sum, part) => add(graph, sum, part)),
      [1, m, second],
    );
  const attrs = { N: intAttr(count), T: typeAttr(a.type), Tidx: typeAttr("int32") };
  const joined = graph.one("ConcatV2", [...parts, graph.int(1)], attrs, { type: a.type, shape: [m, first] });
  return reshape(count === 1 ? parts[0]! : joined, [1, m, first]);
}

/** Most rows of the table for each that a token chooses, and most elements between, for products with the whole table. */
const mostUnused = 32;
const mostBetween = 2 ** 26;

/**
 * One row of each of n tokens by what each chose of a table [e, ..]: where the tokens choose more rows than the table has, a
 * product with the whole table is faster than a copy of every token's own. It gives too much (transposed: [n, e * f], of
 * which each token's part is taken), or takes zeros for what a token did not choose.
 */
function matMulByAll(
  context: MatMulContext,
  a: GraphTensor,
  { table, index }: ChosenRows,
  shape: Shape,
  transposeB: boolean,
): GraphTensor | undefined {
  const { graph, reshape } = context;
  const [n, first, second] = shape as readonly [number, number, number]; // [batch, rows, columns]
  const [rows, each] = [table.shape[0]!, first / (sizeOf(index.shape) / n)];
  const count = first / each;
  const whole = Number.isInteger(each) && each * second === sizeOf(table.shape.slice(1));
  if (!whole || n * count < rows || rows > count * mostUnused || n * rows * each > mostBetween) return undefined;
  const chosen = reshape(index, [n, count]);
  const all = reshape(table, [rows * each, second]);
  if (transposeB) {
    const wide = product(context, reshape(a, [n, second]), all, { transposeA: false, transposeB: true });
    const attrs = {
      Tparams: typeAttr(a.type),
      Tindices: typeAttr("int32"),
      Taxis: typeAttr("int32"),
      batch_dims: intAttr(1),
    };
    const form = { type: a.type, shape: [n, count, each] };
    const own = graph.one("GatherV2", [reshape(wide, [n, rows, each]), chosen, graph.int(1)], attrs, form);
    return reshape(own, [n, 1, first]);
  }
  // [n, rows, count]: 1 where the token's choice is the row.
  const numbers = graph.ints(Array.from({ length: rows }, (_, i) => i));
  const operands = [reshape(chosen, [n, 1, count]), reshape(numbers, [rows, 1])];
  const is = graph.one("Equal", operands, { T: typeAttr("int32") }, { type: "bool", shape: [n, rows, count] });
  const cast = { SrcT: typeAttr("bool"), DstT: typeAttr(a.type) };
  const ones = graph.one("Cast", [is], cast, { type: a.type, shape: is.shape });
  const attrs = { T: typeAttr(a.type), adj_x: boolAttr(false), adj_y: boolAttr(false) };
  const form = { type: a.type, shape: [n, rows, each] };
  const spread = graph.one("BatchMatMulV2", [ones, reshape(a, [n, count, each])], attrs, form);
  const sums = product(context, reshape(spread, [n, rows * each]), all, { transposeA: false, transposeB: false });
  return reshape(sums, [n, 1, second]);
}

/** Row `index[j]` of the table, in the memory of the table. */
function rowOf({ graph, reshape }: MatMulContext, table: GraphTensor, index: GraphTensor, j: number): GraphTensor {
  const flat = reshape(index, [sizeOf(index.shape)]);
  const sliced = { T: typeAttr("int32"), Index: typeAttr("int32") };
  const row = graph.one("Slice", [flat, graph.ints([j]), graph.ints([1])], sliced, { type: "int32", shape: [1] });
  const rest = graph.ints(table.shape.slice(1).map(() => 0));
  const joined = { N: intAttr(2), T: typeAttr("int32"), Tidx: typeAttr("int32") };
  const form = { type: "int32", shape: [table.shape.length] } as const;
  const begin = graph.one("ConcatV2", [row, rest, graph.int(0)], joined, form);
  const shape = table.shape.with(0, 1);
  const attrs = { T: typeAttr(table.type), Index: typeAttr("int32") };
  return graph.one("Slice", [table, begin, graph.ints(shape)], attrs, { type: table.type, shape });
}

function columns(graph: GraphBuilder, x: GraphTensor, from: number, count: number): GraphTensor {
  const shape = x.shape.with(1, count);
  const attrs = { T: typeAttr(x.type), Index: typeAttr("int32") };
  return graph.one("Slice", [x, graph.ints([0, from]), graph.ints(shape)], attrs, { type: x.type, shape });
}

function add(graph: GraphBuilder, a: GraphTensor, b: GraphTensor): GraphTensor {
  return graph.one("AddV2", [a, b], { T: typeAttr(a.type) }, a);
}
