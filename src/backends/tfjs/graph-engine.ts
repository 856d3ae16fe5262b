/**
 * The primitives of tensor ops as nodes of a TensorFlow graph. A value is a tensor of the graph, or a *state of a variable*:
 * rows are gathered from a variable, and replaced in it, where it is, without a copy.
 */
import { type Shape, sameShape } from "../../ir/types.ts";
import type { TensorEngine } from "./engine.ts";
import {
  boolAttr,
  bytesOf,
  type GraphBuilder,
  type GraphTensor,
  intAttr,
  nodeOf,
  type TensorForm,
  typeAttr,
} from "./graph.ts";
import { castTo } from "./graph-cast.ts";
import { carriedBytes, formOf } from "./graph-forms.ts";
import { type ChosenRows, type MatMulContext, matMul } from "./graph-matmul.ts";
import { fillOf, scalar } from "./graph-scalar.ts";
import { tfTypes } from "./saved-model.ts";

/** What a variable holds after some nodes have run. */
export interface VariableState extends TensorForm {
  readonly handle: GraphTensor;
  /** Nothing updates it while programs run: a weight. */
  readonly fixed: boolean;
  /** The variable has one row more than the value, for rows that are dropped. */
  readonly spareRow: boolean;
  /** The node that gave it this state; null for the state at the start of a run. */
  readonly after: string | null;
  /** Nodes that read this state: what gives the variable its next state runs after them. */
  readonly readers: string[];
}

export type GraphValue = GraphTensor | VariableState;

function isState(x: GraphValue): x is VariableState {
  return "handle" in x;
}

/** The state of a variable when a run begins. */
export function initialState(
  handle: GraphTensor,
  form: TensorForm,
  { fixed = false, spareRow = false } = {},
): VariableState {
  return { ...form, handle, fixed, spareRow, after: null, readers: [] };
}

export interface GraphEngine extends TensorEngine<GraphValue> {
  /** The value as a tensor. */
  readonly read: (x: GraphValue) => GraphTensor;
}

export function graphEngine(graph: GraphBuilder): GraphEngine {
  /** What a reshaped tensor was before: reshapes of reshapes are one. */
  const unshaped = new Map<string, GraphTensor>();
  const chosen = new Map<string, ChosenRows>();
  const readState = (state: VariableState): GraphTensor => {
    const { type, shape } = state;
    const whole = state.spareRow ? [shape[0]! + 1, ...shape.slice(1)] : shape;
    const after = state.after === null ? [] : [state.after];
    const all = graph.one("ReadVariableOp", [state.handle], { dtype: typeAttr(type) }, { type, shape: whole }, after);
    state.readers.push(nodeOf(all));
    return state.spareRow
      ? slice(
          graph,
          all,
          shape.map(() => 0),
          shape,
        )
      : all;
  };
  const read = (x: GraphValue): GraphTensor => (isState(x) ? readState(x) : x);
  const apply: TensorEngine<GraphValue>["apply"] = (op, dtype, xs) => scalar(graph, op, dtype, xs.map(read));
  const reshape = (x: GraphValue, shape: Shape): GraphTensor => {
    const given = read(x);
    const source = unshaped.get(given.name) ?? given;
    if (sameShape(source.shape, shape)) return source;
    const attrs = { T: typeAttr(source.type), Tshape: typeAttr("int32") };
    const out = graph.one("Reshape", [source, graph.ints(shape)], attrs, { type: source.type, shape });
    unshaped.set(out.name, source);
    return out;
  };
  const reduce = (op: "Sum" | "Max" | "Any", x: GraphTensor): GraphTensor => {
    const attrs = {
      keep_dims: boolAttr(false),
      Tidx: typeAttr("int32"),
      ...(op === "Any" ? {} : { T: typeAttr(x.type) }),
    };
    return graph.one(op, [x, graph.int(-1)], attrs, { type: x.type, shape: x.shape.slice(0, -1) });
  };
  const notNumber = (x: GraphTensor) => scalar(graph, "ne", "f32", [x, x]);
  const withoutNaN = (x: GraphTensor) =>
    scalar(graph, "select", "f32", [notNumber(x), fillOf(graph, "f32", Number.NEGATIVE_INFINITY), x]);
  const gather = (x: GraphValue, at: GraphValue, batch: number): GraphTensor => {
    const index = read(at);
    const shape = [...x.shape.slice(0, batch), ...index.shape.slice(batch), ...x.shape.slice(batch + 1)];
    if (!isState(x) || x.fixed || batch > 0) {
      const table = read(x);
      const rows = gatherTensor(graph, table, index, batch, shape);
      if (isState(x) && batch === 0) chosen.set(rows.name, { table, index });
      return rows;
    }
    // Gathering from a variable makes every later reading of it whole a copy, so weights are read whole instead.
    const attrs = { dtype: typeAttr(x.type), Tindices: typeAttr("int32"), batch_dims: intAttr(0) };
    const after = x.after === null ? [] : [x.after];
    const out = graph.one("ResourceGather", [x.handle, index], attrs, { type: x.type, shape }, after);
    x.readers.push(nodeOf(out));
    return out;
  };
  const products: MatMulContext = { graph, reshape, chosen: (x) => chosen.get(unshaped.get(x.name)?.name ?? x.name) };
  return {
    read,
    constant: (type, data) => graph.constant(formOf(type), carriedBytes(type, data)),
    fill: (dtype, value) => fillOf(graph, dtype, value),
    iota: (n) => graph.ints(Array.from({ length: n }, (_, i) => i)),
    apply,
    cast: (x, from, to) => castTo(graph, read(x), from, to),
    matMul: (a, b, options) => matMul(products, read(a), read(b), options),
    chosen: { by: "gathered" }, // products find what was gathered
    reduceSum: (x) => reduce("Sum", read(x)),
    // Whether a device's maximum passes NaN on is its own business.
    reduceMax: (x) => {
      const values = read(x);
      const anyNaN = reduce("Any", notNumber(values));
      return apply("select", "f32", [anyNaN, fillOf(graph, "f32", Number.NaN), reduce("Max", values)]);
    },
    argMax: (x) => {
      const values = withoutNaN(read(x));
      const attrs = { T: typeAttr("float"), Tidx: typeAttr("int32"), output_type: typeAttr("int32") };
      const form: TensorForm = { type: "int32", shape: values.shape.slice(0, -1) };
      return graph.one("ArgMax", [values, graph.int(-1)], attrs, form);
    },
    topK: (x, k) => {
      const values = read(x);
      const shape = values.shape.with(-1, k);
      const forms: TensorForm[] = [
        { type: "float", shape },
        { type: "int32", shape },
      ];
      const attrs = { T: typeAttr("float"), sorted: boolAttr(true) };
      const [, indices] = graph.add("TopKV2", [withoutNaN(values), graph.int(k)], attrs, forms);
      // As they are, NaN included.
      const batch = shape.length - 1;
      return { values: gatherTensor(graph, values, indices!, batch, shape), indices: indices! };
    },
    reshape,
    transpose: (x, perm) => {
      const values = read(x);
      const shape = perm.map((axis) => values.shape[axis]!);
      const attrs = { T: typeAttr(values.type), Tperm: typeAttr("int32") };
      return graph.one("Transpose", [values, graph.ints(perm)], attrs, { type: values.type, shape });
    },
    slice: (x, begin, size) => slice(graph, read(x), begin, size),
    concat: (xs, axis) => concat(graph, xs.map(read), axis),
    broadcastTo: (x, shape) => {
      const values = read(x);
      if (sameShape(values.shape, shape)) return values;
      const attrs = { T: typeAttr(values.type), Tidx: typeAttr("int32") };
      return graph.one("BroadcastTo", [values, graph.ints(shape)], attrs, { type: values.type, shape });
    },
    gather,
    updateRows: (x, rows, slots) => {
      const [values, at] = [read(rows), read(slots)];
      const chosen = placesOf(graph, at, x.shape[0]!);
      return isState(x) ? updateState(graph, x, values, chosen) : updateTensor(graph, x, values, chosen);
    },
    scope: (make) => make(),
    dispose: () => {},
  };
}

function gatherTensor(
  graph: GraphBuilder,
  x: GraphTensor,
  index: GraphTensor,
  batch: number,
  shape: Shape,
): GraphTensor {
  const attrs = {
    Tparams: typeAttr(x.type),
    Tindices: typeAttr("int32"),
    Taxis: typeAttr("int32"),
    batch_dims: intAttr(batch),
  };
  return graph.one("GatherV2", [x, index, graph.int(batch)], attrs, { type: x.type, shape });
}

function slice(graph: GraphBuilder, x: GraphTensor, begin: readonly number[], size: readonly number[]): GraphTensor {
  if (sameShape(x.shape, size)) return x;
  const attrs = { T: typeAttr(x.type), Index: typeAttr("int32") };
  return graph.one("Slice", [x, graph.ints(begin), graph.ints(size)], attrs, { type: x.type, shape: size });
}

function concat(graph: GraphBuilder, xs: readonly GraphTensor[], axis: number): GraphTensor {
  const [first] = xs as readonly [GraphTensor]; // one or more
  if (xs.length === 1) return first;
  const shape = first.shape.with(
    axis,
    xs.reduce((sum, x) => sum + x.shape[axis]!, 0),
  );
  const attrs = { N: intAttr(xs.length), T: typeAttr(first.type), Tidx: typeAttr("int32") };
  return graph.one("ConcatV2", [...xs, graph.int(axis)], attrs, { type: first.type, shape });
}

/**
 * For each slot the row to write: the row beyond the last for slots outside and for slots that a later one equals, since
 * TensorFlow refuses the former and does not say which of equals stays.
 */
function placesOf(graph: GraphBuilder, slots: GraphTensor, rows: number): GraphTensor {
  const i32 = (op: "lt" | "ge" | "eq" | "gt" | "select", ...xs: readonly GraphTensor[]) => scalar(graph, op, "i32", xs);
  const either = (a: GraphTensor, b: GraphTensor) => scalar(graph, "or", "bool", [a, b]);
  const n = slots.shape[0]!;
  let dropped = either(i32("lt", slots, graph.int(0)), i32("ge", slots, graph.int(rows)));
  if (n > 1) {
    const column = graph.one(
      "Reshape",
      [slots, graph.ints([n, 1])],
      { T: typeAttr("int32"), Tshape: typeAttr("int32") },
      { type: "int32", shape: [n, 1] },
    );
    const order = Array.from({ length: n }, (_, i) => i);
    const counted = [
      [1, n],
      [n, 1],
    ].map((shape) => graph.constant({ type: "int32", shape }, bytesOf(Int32Array.from(order)))) as [
      GraphTensor,
      GraphTensor,
    ]; // two shapes
    const later = i32("gt", counted[0], counted[1]); // [n, n]: column j is after row i
    const repeated = scalar(graph, "and", "bool", [i32("eq", column, slots), later]);
    const attrs = { keep_dims: boolAttr(false), Tidx: typeAttr("int32") };
    dropped = either(dropped, graph.one("Any", [repeated, graph.int(-1)], attrs, { type: "bool", shape: [n] }));
  }
  return i32("select", dropped, graph.int(rows), slots);
}

function updateTensor(graph: GraphBuilder, x: GraphTensor, rows: GraphTensor, places: GraphTensor): GraphTensor {
  const spare = emptyRow(graph, x);
  const longer = concat(graph, [x, spare], 0);
  const n = places.shape[0]!;
  const index = graph.one(
    "Reshape",
    [places, graph.ints([n, 1])],
    { T: typeAttr("int32"), Tshape: typeAttr("int32") },
    { type: "int32", shape: [n, 1] },
  );
  const attrs = { T: typeAttr(x.type), Tindices: typeAttr("int32") };
  const updated = graph.one("TensorScatterUpdate", [longer, index, rows], attrs, longer);
  return slice(
    graph,
    updated,
    x.shape.map(() => 0),
    x.shape,
  );
}

function emptyRow(graph: GraphBuilder, x: GraphTensor): GraphTensor {
  const shape = x.shape.with(0, 1);
  const scalarOf = graph.constant({ type: x.type, shape: [] }, new Uint8Array(tfTypes[x.type].bytes));
  const attrs = { T: typeAttr(x.type), Tidx: typeAttr("int32") };
  return graph.one("BroadcastTo", [scalarOf, graph.ints(shape)], attrs, { type: x.type, shape });
}

function updateState(graph: GraphBuilder, x: VariableState, rows: GraphTensor, places: GraphTensor): VariableState {
  const before = [...new Set([...(x.after === null ? [] : [x.after]), ...x.readers])];
  const attrs = { dtype: typeAttr(x.type), Tindices: typeAttr("int32") };
  // Its name stands for the variable's state; it gives no tensor.
  const done = graph.one("ResourceScatterUpdate", [x.handle, places, rows], attrs, x, before);
  return { ...x, after: nodeOf(done), readers: [] };
}
