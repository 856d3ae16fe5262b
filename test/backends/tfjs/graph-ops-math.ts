/** What TensorFlow's arithmetic ops compute, in plain loops. What it leaves to the device is an error here. */
import { type Attr, type TfType, tfTypes } from "../../../src/backends/tfjs/saved-model.ts";
import { nearestEven } from "../../../src/ir/scalar.ts";
import { type Shape, sizeOf } from "../../../src/ir/types.ts";
import { fromBytes, type GraphData, indicesOf, make, offsetOf, read, toBytes, valuesOf } from "./graph-values.ts";

export type Attrs = Readonly<Record<string, Attr>>;
export type Op = (ins: readonly GraphData[], attrs: Attrs) => readonly GraphData[];

export function typeOf(attrs: Attrs, name: string): TfType {
  const attr = attrs[name];
  if (attr?.kind !== "type") throw new Error(`attribute ${name} is no type`);
  return attr.type;
}

export function boolOf(attrs: Attrs, name: string): boolean {
  const attr = attrs[name];
  if (attr?.kind !== "bool") throw new Error(`attribute ${name} is no bool`);
  return attr.value;
}

export function intOf(attrs: Attrs, name: string): number {
  const attr = attrs[name];
  if (attr?.kind !== "int") throw new Error(`attribute ${name} is no int`);
  return attr.value;
}

function broadcastShape(shapes: readonly Shape[]): Shape {
  const rank = Math.max(...shapes.map((shape) => shape.length));
  return Array.from({ length: rank }, (_, i) => {
    const sizes = shapes.map((shape) => shape[i - rank + shape.length] ?? 1).filter((size) => size !== 1);
    if (new Set(sizes).size > 1) throw new Error(`shapes do not broadcast: ${shapes.map((shape) => `[${shape}]`)}`);
    return sizes[0] ?? 1;
  });
}

/** Elementwise with broadcasting; operands from `first` on are of type T. */
function elementwise(
  compute: (type: TfType, ...xs: number[]) => number,
  result?: TfType,
  takes?: readonly TfType[],
  first = 0,
): Op {
  return (ins, attrs) => {
    const type = takes === undefined || takes.length > 0 ? typeOf(attrs, "T") : "bool";
    for (const x of ins.slice(first)) if (x.type !== type) throw new Error(`expected ${type}, got ${x.type}`);
    if (takes !== undefined && takes.length > 0 && !takes.includes(type))
      throw new Error(`there is no kernel for ${type}`);
    const shape = broadcastShape(ins.map((x) => x.shape));
    const out: number[] = [];
    for (const index of indicesOf(shape)) out.push(compute(type, ...ins.map((x) => read(x, offsetOf(index, x.shape)))));
    return [make(result ?? type, shape, out)];
  };
}

const numbers: readonly TfType[] = ["float", "int32"];
const floats: readonly TfType[] = ["float"];
const unary = (compute: (x: number) => number, takes = floats) => elementwise((_, x) => compute(x!), undefined, takes);
const binary = (float: (a: number, b: number) => number, integer: (a: number, b: number) => number) =>
  elementwise((type, a, b) => (type === "int32" ? integer(a!, b!) | 0 : float(a!, b!)), undefined, numbers);
const compare = (holds: (a: number, b: number) => boolean, takes: readonly TfType[]) =>
  elementwise((_, a, b) => Number(holds(a!, b!)), "bool", takes);
const logical = (compute: (a: number, b: number) => number) => elementwise((_, a, b) => compute(a!, b!), "bool", []);

function integerOnly(compute: (a: number, b: number) => number): Op {
  const checked = (_: TfType, a: number, b: number) => {
    if (b === 0 || (a === -(2 ** 31) && b === -1)) throw new Error(`the integer division ${a} / ${b}`);
    return compute(a, b);
  };
  return elementwise(checked as (type: TfType, ...xs: number[]) => number, undefined, ["int32"]); // of two operands
}

function notNaN(combine: (a: number, b: number) => number) {
  return (a: number, b: number) => {
    if (Number.isNaN(a) || Number.isNaN(b)) throw new Error("what becomes of NaN is the device's business");
    return combine(a, b);
  };
}

/** Over the last axis, which the second operand names. */
function reduce(combine: (values: readonly number[]) => number): Op {
  return ([x, axes], attrs) => {
    if (valuesOf(axes!).join() !== "-1" || boolOf(attrs, "keep_dims")) throw new Error("expected axis -1, not kept");
    return [make(x!.type, x!.shape.slice(0, -1), rowsOf(x!).map(combine))];
  };
}

function rowsOf(x: GraphData): number[][] {
  const length = x.shape.at(-1)!;
  const values = valuesOf(x);
  return Array.from({ length: sizeOf(x.shape.slice(0, -1)) }, (_, i) => values.slice(i * length, (i + 1) * length));
}

function largestFirst(row: readonly number[]): number[] {
  if (row.some(Number.isNaN)) throw new Error("the order of NaN is the device's business");
  return row.map((_, i) => i).sort((a, b) => (row[b]! === row[a]! ? a - b : row[b]! - row[a]!));
}

/** Casts of what is outside an integer type's range are not defined. */
function castOne(to: TfType): (x: number) => number {
  const ranges: Partial<Record<TfType, readonly [number, number]>> = {
    int32: [-(2 ** 31), 2 ** 31 - 1],
    uint8: [0, 255],
    int8: [-128, 127],
  };
  const range = ranges[to];
  if (to === "bool") return (x) => Number(x !== 0);
  if (range === undefined) return (x) => x;
  return (x) => {
    const whole = Math.trunc(x);
    if (!(whole >= range[0] && whole <= range[1])) throw new Error(`the cast of ${x} to ${to}`);
    return whole;
  };
}

function matMul([a, b]: readonly GraphData[], [transposeA, transposeB]: readonly [boolean, boolean]): GraphData[] {
  const [x, y] = [a!, b!];
  const lead = x.shape.slice(0, -2);
  if (lead.join() !== y.shape.slice(0, -2).join()) throw new Error("batches differ");
  const [rowsA, columnsA, rowsB, columnsB] = [...x.shape.slice(-2), ...y.shape.slice(-2)] as [
    number,
    number,
    number,
    number,
  ];
  const [m, k] = transposeA ? [columnsA, rowsA] : [rowsA, columnsA];
  const [inner, n] = transposeB ? [columnsB, rowsB] : [rowsB, columnsB];
  if (k !== inner) throw new Error(`inner sizes ${k} and ${inner}`);
  const out: number[] = [];
  for (let batch = 0; batch < sizeOf(lead); batch++) {
    for (let i = 0; i < m; i++) {
      for (let j = 0; j < n; j++) {
        let sum = 0;
        for (let c = 0; c < k; c++) {
          const atA = batch * m * k + (transposeA ? c * m + i : i * k + c);
          const atB = batch * k * n + (transposeB ? j * k + c : c * n + j);
          sum += read(x, atA) * read(y, atB);
        }
        out.push(sum);
      }
    }
  }
  return [make(x.type, [...lead, m, n], out)];
}

export const mathOps: Readonly<Record<string, Op>> = {
  Neg: unary((x) => -x, numbers),
  Abs: unary(Math.abs, numbers),
  Exp: unary(Math.exp),
  Log: unary(Math.log),
  Sqrt: unary(Math.sqrt),
  Rsqrt: unary((x) => 1 / Math.sqrt(x)),
  Sin: unary(Math.sin),
  Cos: unary(Math.cos),
  Tanh: unary(Math.tanh),
  Sigmoid: unary((x) => 1 / (1 + Math.exp(-x))),
  Floor: unary(Math.floor),
  Rint: unary(nearestEven),
  LogicalNot: logical((a) => 1 - a),
  AddV2: binary(
    (a, b) => a + b,
    (a, b) => a + b,
  ),
  Sub: binary(
    (a, b) => a - b,
    (a, b) => a - b,
  ),
  Mul: binary((a, b) => a * b, Math.imul),
  RealDiv: elementwise((_, a, b) => a! / b!, undefined, floats),
  Mod: elementwise((_, a, b) => a! % b!, undefined, floats),
  TruncateDiv: integerOnly((a, b) => Math.trunc(a / b)),
  TruncateMod: integerOnly((a, b) => a % b),
  Pow: elementwise((_, a, b) => a! ** b!, undefined, floats),
  Minimum: binary(notNaN(Math.min), Math.min),
  Maximum: binary(notNaN(Math.max), Math.max),
  LogicalAnd: logical((a, b) => a & b),
  LogicalOr: logical((a, b) => a | b),
  Equal: compare((a, b) => a === b, numbers),
  NotEqual: compare((a, b) => a !== b, numbers),
  Less: compare((a, b) => a < b, numbers),
  LessEqual: compare((a, b) => a <= b, numbers),
  Greater: compare((a, b) => a > b, numbers),
  GreaterEqual: compare((a, b) => a >= b, numbers),
  SelectV2: elementwise((_, c, a, b) => (c! ? a! : b!), undefined, undefined, 1),
  Sum: reduce((row) => row.reduce((sum, x) => sum + x, 0)),
  // Either NaN or the largest of the others: a device's own choice.
  Max: reduce((row) => Math.max(...row.filter((x) => !Number.isNaN(x)))),
  Any: reduce((row) => Number(row.some((x) => x !== 0))),
  ArgMax: ([x], attrs) => {
    if (typeOf(attrs, "output_type") !== "int32") throw new Error("expected int32 indices");
    return [
      make(
        "int32",
        x!.shape.slice(0, -1),
        rowsOf(x!).map((row) => largestFirst(row)[0]!),
      ),
    ];
  },
  TopKV2: ([x, count], attrs) => {
    const k = valuesOf(count!)[0]!;
    if (!boolOf(attrs, "sorted")) throw new Error("expected sorted values");
    const rows = rowsOf(x!);
    const chosen = rows.map((row) => largestFirst(row).slice(0, k));
    const shape = x!.shape.with(-1, k);
    const values = chosen.flatMap((list, i) => list.map((at) => rows[i]![at]!));
    return [make(x!.type, shape, values), make("int32", shape, chosen.flat())];
  },
  Cast: ([x], attrs) => {
    const [from, to] = [typeOf(attrs, "SrcT"), typeOf(attrs, "DstT")];
    if (x!.type !== from) throw new Error(`expected ${from}, got ${x!.type}`);
    return [make(to, x!.shape, valuesOf(x!).map(castOne(to)))];
  },
  // The last axis is what makes up for the difference in size.
  Bitcast: ([x], attrs) => {
    const [from, to] = [typeOf(attrs, "T"), typeOf(attrs, "type")];
    const [small, large] = [tfTypes[from].bytes, tfTypes[to].bytes];
    if (x!.type !== from) throw new Error(`expected ${from}, got ${x!.type}`);
    if (small < large && x!.shape.at(-1) !== large / small) throw new Error(`[${x!.shape}] of ${from} as ${to}`);
    const shape = small < large ? x!.shape.slice(0, -1) : small > large ? [...x!.shape, small / large] : x!.shape;
    return [fromBytes(to, shape, toBytes(x!))];
  },
  MatMul: (ins, attrs) => {
    if (ins.some(({ shape }) => shape.length !== 2)) throw new Error("expected matrices");
    return matMul(ins, [boolOf(attrs, "transpose_a"), boolOf(attrs, "transpose_b")]);
  },
  BatchMatMulV2: (ins, attrs) => matMul(ins, [boolOf(attrs, "adj_x"), boolOf(attrs, "adj_y")]),
};
