/**
 * Kernel IR: loops over flat buffers. A kernel is what one launch runs; its expressions are pure, its statements are the
 * few a code generator needs. Every expression is made by a constructor of this file, which checks types and folds the
 * trivial cases (`x + 0`), so that index arithmetic can be written plainly.
 */
import { invariant } from "../errors.ts";
import { type ScalarOp, type ScalarOpDef, scalarOps } from "../scalar.ts";
import type { Shape } from "../types.ts";
import { type IntrinsicName, intrinsicType } from "./intrinsics.ts";
import type { MultiplyOf } from "./multiply.ts";
import {
  convert,
  evalValue,
  isIndex,
  isIntValue,
  loadedDType,
  opType,
  type StorageDType,
  showValueType,
  type ValueType,
  type VDType,
  valueType,
} from "./value.ts";

/**
 * Memory a kernel sees. `global` buffers are arguments, in the order of `Kernel.bufs`; any number of them may be written,
 * which `access` says. `scratch` is an array of the kernel's own, one per thread (each iteration of a workgroup loop has its
 * own); `shared` is one that the iterations of a workgroup loop share. Elements of both must be stored before they are loaded.
 */
export interface Buf {
  readonly name: string;
  readonly dtype: StorageDType;
  /** In elements; 4-bit elements are packed two to a byte, the even one in the low half. */
  readonly size: number;
  /** For the reader of the text only. */
  readonly shape?: Shape;
  readonly access: "read" | "write" | "readwrite";
  readonly space: "global" | "scratch" | "shared";
}

export type Expr = Num | Ref | Load | Op | Cast | Splat | Extract | Sum | Intrinsic;

export interface Num {
  readonly k: "num";
  readonly type: ValueType;
  readonly value: number;
}
/** The value of a let, var or loop variable. */
export interface Ref {
  readonly k: "ref";
  readonly type: ValueType;
  readonly name: string;
}
/** Element `index` of a buffer, or `type.lanes` consecutive elements from there, widened to a value type. */
export interface Load {
  readonly k: "load";
  readonly type: ValueType;
  readonly buf: string;
  readonly index: Expr;
}
/** A scalar op, lane by lane. `select` with a one-lane condition evaluates only the chosen branch. */
export interface Op {
  readonly k: "op";
  readonly type: ValueType;
  readonly op: ScalarOp;
  readonly args: readonly Expr[];
}
/** Conversion by value with the rules of a store: integers truncate and saturate. */
export interface Cast {
  readonly k: "cast";
  readonly type: ValueType;
  readonly value: Expr;
}
/** A scalar in every lane. */
export interface Splat {
  readonly k: "splat";
  readonly type: ValueType;
  readonly value: Expr;
}
/** One lane of a vector. */
export interface Extract {
  readonly k: "extract";
  readonly type: ValueType;
  readonly value: Expr;
  readonly lane: number;
}
/** The sum of a vector's lanes: the upper half is added to the lower until one lane is left. */
export interface Sum {
  readonly k: "sum";
  readonly type: ValueType;
  readonly value: Expr;
}

/** An operation of `intrinsics.ts` on whole vectors. */
export interface Intrinsic {
  readonly k: "intrinsic";
  readonly type: ValueType;
  readonly name: IntrinsicName;
  readonly args: readonly Expr[];
}

/**
 * How a loop's iterations run. Only `serial` promises an order. `grid` iterations are independent and may run on
 * different threads; `workgroup` iterations run together and meet at barriers; `vector` and `unroll` are advice.
 */
export type LoopKind = "serial" | "grid" | "workgroup" | "vector" | "unroll";
export const loopKinds: readonly LoopKind[] = ["serial", "grid", "workgroup", "vector", "unroll"];

export type Stmt = Let | Var | Set_ | Store | For | If | Barrier | Combine | Multiply | Note;
export type Multiply = MultiplyOf<Expr>;

export interface Let {
  readonly k: "let";
  readonly name: string;
  readonly value: Expr;
}
export interface Var {
  readonly k: "var";
  readonly name: string;
  readonly type: ValueType;
  readonly init: Expr;
}
export interface Set_ {
  readonly k: "set";
  readonly name: string;
  readonly value: Expr;
}
/** Writes the value's lanes to consecutive elements from `index`, narrowed to the buffer's dtype. */
export interface Store {
  readonly k: "store";
  readonly buf: string;
  readonly index: Expr;
  readonly value: Expr;
}
/** For i32 `name` from `from` below `to` in steps of `step` (at least 1); both bounds are evaluated once. */
export interface For {
  readonly k: "for";
  readonly name: string;
  readonly from: Expr;
  readonly to: Expr;
  readonly step: number;
  readonly how: LoopKind;
  readonly body: readonly Stmt[];
}
export interface If {
  readonly k: "if";
  readonly cond: Expr;
  readonly then: readonly Stmt[];
  readonly else: readonly Stmt[];
}
/** All iterations of the enclosing workgroup loops arrive before any goes on, and see what the others stored to shared memory. */
export interface Barrier {
  readonly k: "barrier";
}
/**
 * Binds `name` to the sum or the largest of the values that `over` iterations of the enclosing workgroup loop give, in any
 * order of addition: of each run of `over * apart` those that are `apart` from each other. A barrier as well.
 */
export interface Combine {
  readonly k: "combine";
  readonly name: string;
  readonly op: CombineOp;
  readonly value: Expr;
  /** Powers of two whose product divides the workgroup loop's iterations. */
  readonly over: number;
  readonly apart: number;
}
export type CombineOp = "add" | "max";
export interface Note {
  readonly k: "note";
  readonly text: string;
}

export interface Kernel {
  readonly name: string;
  /** The tensor ops it came from, as printed text. */
  readonly origin: readonly string[];
  readonly bufs: readonly Buf[];
  readonly body: readonly Stmt[];
}

export function num(dtype: VDType, value: number): Num {
  return { k: "num", type: valueType(dtype), value: convert(dtype, value) };
}

/** An i32 constant. */
export function int(value: number): Num {
  return num("i32", value);
}

export function ref(name: string, type: ValueType | VDType = "i32"): Ref {
  return { k: "ref", type: typeof type === "string" ? valueType(type) : type, name };
}

export function load(buf: Buf, index: Expr, lanes = 1): Load {
  invariant(isIndex(index.type), () => `load: expected an i32 index, got ${showValueType(index.type)}`);
  return { k: "load", type: valueType(loadedDType(buf.dtype), lanes), buf: buf.name, index };
}

/** Bytes of an i8 or u8 buffer as they are: 4, 8 or 16 from `index`. */
export function loadBytes(buf: Buf, index: Expr, lanes: number): Expr {
  invariant(isIndex(index.type), () => `load: expected an i32 index, got ${showValueType(index.type)}`);
  invariant(buf.dtype === "i8" || buf.dtype === "u8", () => `load: ${buf.name} does not hold bytes`);
  return { k: "load", type: valueType(buf.dtype, lanes), buf: buf.name, index };
}

/** An intrinsic on operands of the types that its row asks for. */
export function intrinsic(name: IntrinsicName, ...args: readonly Expr[]): Expr {
  const type = intrinsicType(
    name,
    args.map((arg) => arg.type),
  );
  invariant(typeof type !== "string", () => `${type}`);
  return { k: "intrinsic", type, name, args };
}

/** A scalar op on operands of one type (`select`: a bool and two of one type), folded where that is exact. */
export function op(name: ScalarOp, ...args: readonly Expr[]): Expr {
  const type = opType(
    name,
    args.map((arg) => arg.type),
  );
  const values = args.map((arg) => (arg.k === "num" ? arg.value : undefined));
  const operands = args.at(-1)!.type.dtype;
  if (name === "select" && values[0] !== undefined) return values[0] !== 0 ? args[1]! : args[2]!;
  if (values.every((value) => value !== undefined)) {
    return { k: "num", type, value: evalValue(name, operands, values) };
  }
  const def: ScalarOpDef = scalarOps[name];
  const ordered = def.commutative && args[0]!.k === "num" ? [args[1]!, args[0]!] : args;
  return foldOp(name, ordered) ?? { k: "op", type, op: name, args: ordered };
}

export const iadd = (a: Expr, b: Expr): Expr => op("add", a, b);
export const isub = (a: Expr, b: Expr): Expr => op("sub", a, b);
export const imul = (a: Expr, b: Expr): Expr => op("mul", a, b);
export const idiv = (a: Expr, b: Expr): Expr => op("div", a, b);
export const irem = (a: Expr, b: Expr): Expr => op("rem", a, b);

/** `a` where `condition` holds, else `b`; only the chosen one is evaluated, so a load in a branch is guarded. */
export function select(condition: Expr, a: Expr, b: Expr): Expr {
  return op("select", condition, a, b);
}

export function cast(dtype: VDType, value: Expr): Expr {
  if (value.type.dtype === dtype) return value;
  if (value.k === "num") return num(dtype, value.value);
  return { k: "cast", type: valueType(dtype, value.type.lanes), value };
}

export function splat(value: Expr, lanes: number): Expr {
  invariant(value.type.lanes === 1, () => `splat: expected a scalar, got ${showValueType(value.type)}`);
  return lanes === 1 ? value : { k: "splat", type: valueType(value.type.dtype, lanes), value };
}

export function extract(value: Expr, lane: number): Expr {
  const { dtype, lanes } = value.type;
  invariant(Number.isInteger(lane) && lane >= 0 && lane < lanes, () => `extract: no lane ${lane} in ${lanes}`);
  if (lanes === 1) return value;
  return value.k === "splat" ? value.value : { k: "extract", type: valueType(dtype), value, lane };
}

/** The sum of all lanes. */
export function sum(value: Expr): Expr {
  return value.type.lanes === 1 ? value : { k: "sum", type: valueType(value.type.dtype), value };
}

/** Identities that hold for every value of the type, -0, NaN and wrapping included; a constant stands on the right. */
function foldOp(name: ScalarOp, args: readonly Expr[]): Expr | undefined {
  const [x, y] = args;
  const c = y?.k === "num" && args.length === 2 ? y.value : undefined;
  if (x === undefined || y === undefined || c === undefined) return undefined;
  const integer = isIntValue(y.type.dtype);
  switch (name) {
    case "add":
      // x + 0 turns -0 into 0 in floats; x + -0 does not.
      return c === 0 && (integer || Object.is(c, -0)) ? x : integer ? foldChain(name, x, y) : undefined;
    case "sub":
      if (integer) return op("add", x, op("neg", y));
      return Object.is(c, 0) ? x : undefined;
    case "mul":
      return c === 1 ? x : integer ? (c === 0 ? y : foldChain(name, x, y)) : undefined;
    case "div":
      return c === 1 ? x : undefined;
    case "rem":
      return integer && c === 1 ? num(y.type.dtype, 0) : undefined;
    case "and":
      return c === 0 ? y : x;
    case "or":
      return c === 0 ? x : y;
    default:
      return undefined;
  }
}

/** (x + a) + b = x + (a + b) and (x * a) * b = x * (a * b), which wrapping arithmetic allows. */
function foldChain(name: "add" | "mul", x: Expr, y: Expr): Expr | undefined {
  if (x.k !== "op" || x.op !== name || x.args[1]!.k !== "num") return undefined;
  return op(name, x.args[0]!, op(name, x.args[1]!, y));
}
