/**
 * What an op is: one declaration with its arity, attributes, kind, type rule and meaning. Everything else in the
 * compiler asks these columns instead of asking for an op by name.
 */
import type { AttrSpec, Attrs, AttrsFor } from "./attrs.ts";
import type { AxisRuleOf } from "./axis-rule.ts";
import { IrError } from "./errors.ts";
import type { ScalarOp } from "./scalar.ts";
import type { Tensor } from "./tensor.ts";
import { showType, type TensorType } from "./types.ts";

/**
 * How results depend on operands, which is what fusion needs to know:
 * - `source`: no operands;
 * - `elementwise`: element i of the result from element i of each operand;
 * - `injective`: each result element is a copy or a fixed function of one element per operand, at an index computed
 *   from the result's index;
 * - `reduce`: each result element from many elements of one operand along reduced axes;
 * - `contract`: sums of products of two operands;
 * - `dot`: a contraction of packed codes, whose operands are read from memory as they are;
 * - `update`: operand 0 with some rows replaced, in place where operand 0 is not needed any more;
 * - `composite`: has an expansion into other ops;
 * - `collective`: between devices; each result from the operands of all devices of a group;
 * - `opaque`: none of these.
 */
export type OpKind =
  | "source"
  | "elementwise"
  | "injective"
  | "reduce"
  | "contract"
  | "dot"
  | "update"
  | "composite"
  | "collective"
  | "opaque";

export interface OpDef<S extends AttrSpec = AttrSpec> {
  /** Number of operands; `variadic` is one or more. */
  readonly arity: number | "variadic";
  readonly kind: OpKind;
  readonly attrs: S;
  /** One sentence for the op list in the documentation. */
  readonly doc: string;
  /** For elementwise ops, the scalar op that is mapped. */
  readonly scalar?: ScalarOp;
  readonly commutative?: boolean;
  /** Injective and only moves elements: as an operand it is mere index arithmetic, free to repeat. */
  readonly view?: boolean;
  /**
   * Injective and makes wide elements of packed ones at the cost of an instruction or two: never computed ahead, as that
   * would undo the packing, and computed again wherever an element is read.
   */
  readonly unpacks?: boolean;
  /** How dimensions of operands and result relate, for dividing programs. Without it the op needs all operands whole. */
  readonly axes?: AxisRuleOf<AttrsFor<S>>;
  /** For collectives, the meaning: from the operands of the devices of a group, in order, the result of each. */
  readonly across?: (group: readonly Tensor[], attrs: AttrsFor<S>, type: TensorType) => readonly Tensor[];
  /** A collective whose result is the operands of the group one after another along the attribute `axis`. */
  readonly gathers?: true;
  /** For messages between pipeline stages: which end. */
  readonly transfer?: "send" | "receive";
  /** The result's type. Throws IrError where the operands do not fit. */
  readonly infer: (ins: readonly TensorType[], attrs: AttrsFor<S>) => TensorType;
  /** The meaning, in plain loops. Sources other than constants and calls are the interpreter's business. */
  readonly evaluate?: (ins: readonly Tensor[], attrs: AttrsFor<S>, type: TensorType) => Tensor;
}

/** An op whose attributes are not known statically: what generic code works with. */
export interface AnyOpDef extends Omit<OpDef, "infer" | "evaluate" | "axes" | "across"> {
  readonly axes?: AxisRuleOf<Attrs>;
  readonly across?: (group: readonly Tensor[], attrs: Attrs, type: TensorType) => readonly Tensor[];
  readonly infer: (ins: readonly TensorType[], attrs: Attrs) => TensorType;
  readonly evaluate?: (ins: readonly Tensor[], attrs: Attrs, type: TensorType) => Tensor;
}

/** Declares an op; exists for the sake of type inference. */
export function defineOp<const S extends AttrSpec>(def: OpDef<S>): OpDef<S> {
  return def;
}

/** A type error: what was expected against the operand types found. */
export function typeError(op: string, expected: string, ins: readonly TensorType[]): IrError {
  return new IrError(op, `expected ${expected}, got (${ins.map(showType).join(", ")})`);
}
