/** Random programs that match a pattern: the pattern itself, with random leaves, types and attributes. */

import type { Attrs } from "../../src/ir/attrs.ts";
import { parseAxes } from "../../src/ir/axes.ts";
import { IrError } from "../../src/ir/errors.ts";
import { Builder, type Node } from "../../src/ir/graph.ts";
import { type OpName, opDef } from "../../src/ir/ops/all.ts";
import type { OpPattern, Pattern, Rule } from "../../src/ir/pattern.ts";
import { type ScalarOp, scalarOps } from "../../src/ir/scalar.ts";
import { type DType, dtypes, type Shape, sizeOf } from "../../src/ir/types.ts";

/** A source of random choices. */
export class Chance {
  readonly #random: () => number;
  constructor(random: () => number) {
    this.#random = random;
  }
  below(limit: number): number {
    return Math.floor(this.#random() * limit);
  }
  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)]!;
  }
  shape(rank = this.below(4)): number[] {
    return Array.from({ length: rank }, () => this.pick([1, 1, 2, 3, 4]));
  }
}

interface Wanted {
  readonly dtype: DType;
  readonly shape: Shape;
}

const arithmetic: readonly DType[] = ["f32", "i32", "u32"];
const constants = [0, -0, 1, -1, 2, 0.5, -4, 3, Number.NaN, Number.POSITIVE_INFINITY];

/** Grows a node that matches `pattern`, with `param` leaves; throws IrError where the choices do not fit together. */
export class Grower {
  readonly builder = new Builder();
  readonly params: Node<"param">[] = [];
  readonly #vars = new Map<string, Node>();
  readonly #chance: Chance;

  constructor(chance: Chance) {
    this.#chance = chance;
  }

  grow(pattern: Pattern, wanted: Wanted): Node {
    if (pattern.kind === "const") return this.#full(wanted, pattern.value);
    if (pattern.kind === "op") return this.#op(pattern, wanted);
    let node = this.#vars.get(pattern.name);
    if (node === undefined) {
      node = this.#leaf(wanted);
      this.#vars.set(pattern.name, node);
    }
    return node;
  }

  #leaf({ dtype, shape }: Wanted): Node {
    // Now and then the same leaf twice, or a part of another.
    const same = this.params.filter((node) => node.type.dtype === dtype && node.type.shape.join() === shape.join());
    if (same.length > 0 && this.#chance.below(3) === 0) return this.#chance.pick(same);
    const node = this.builder.param(`x${this.params.length}`, dtype, shape);
    this.params.push(node);
    return node;
  }

  #full({ dtype, shape }: Wanted, value = this.#chance.pick(constants)): Node {
    return this.builder.make("full", [], { dtype, shape, value });
  }

  #op(pattern: OpPattern, wanted: Wanted): Node {
    const { op } = pattern;
    const make = (ins: readonly Node[], attrs: Attrs) =>
      (this.builder.make as (op: OpName, ins: readonly Node[], attrs: Attrs) => Node).call(
        this.builder,
        op,
        ins,
        attrs,
      );
    if (op === "full") return this.#full(wanted);
    if (op === "iota") return make([], { dtype: "i32", shape: [wanted.shape[0] ?? 1], axis: 0 });
    if (Object.hasOwn(scalarOps, op)) {
      const kinds = operandTypes(op as ScalarOp, wanted.dtype, this.#chance);
      return make(
        pattern.ins.map((each, i) => this.grow(each, { dtype: kinds[i]!, shape: wanted.shape })),
        {},
      );
    }
    const dtype = op === "cast" ? this.#chance.pick(Object.keys(dtypes) as DType[]) : wanted.dtype;
    if (op === "contract") return this.#contract(pattern, make);
    const ins = this.#operands(pattern, { dtype, shape: this.#chance.shape() });
    return make(ins, this.#attrs(op, ins, wanted));
  }

  #operands(pattern: OpPattern, wanted: Wanted): Node[] {
    const { op } = pattern;
    if (op === "gather" || op === "takeAlong") {
      const table = this.grow(pattern.ins[0]!, wanted);
      const { shape } = table.type;
      const size = op === "gather" ? this.#chance.shape() : [...shape.slice(0, -1), this.#chance.below(3) + 1];
      const index = pattern.ins[1]!;
      const whole = index.kind === "op" && index.op === "iota" ? shape.slice(0, 1) : size;
      return [table, this.grow(index, { dtype: "i32", shape: whole })];
    }
    if (op !== "concat") return pattern.ins.map((each) => this.grow(each, wanted));
    if (pattern.ins.length > 0) return pattern.ins.map((each) => this.grow(each, wanted));
    return this.#concatParts(wanted);
  }

  /** Leaves, constants, concats, and slices of one tensor that follow each other. */
  #concatParts(wanted: Wanted): Node[] {
    const axis = this.#chance.below(wanted.shape.length);
    const slices = () => {
      const whole = this.#leaf(wanted);
      const at = this.#chance.below((wanted.shape[axis] ?? 0) + 1);
      const stop = wanted.shape[axis] ?? 0;
      const [a, b] = [
        { axis, start: 0, stop: at },
        { axis, start: at, stop },
      ];
      return [a, b].map((attrs) => this.builder.make("slice", [whole], attrs));
    };
    const castSlices = () => {
      const dtype = this.#chance.pick(["f16", "i8", "f32"] as const);
      const whole = this.#leaf({ dtype, shape: wanted.shape });
      const [at, stop] = [this.#chance.below((wanted.shape[axis] ?? 0) + 1), wanted.shape[axis] ?? 0];
      const parts = [this.builder.make("slice", [whole], { axis, start: 0, stop: at })];
      parts.push(this.builder.make("slice", [whole], { axis, start: at, stop }));
      return parts.map((part) => this.builder.make("cast", [part], { dtype: wanted.dtype }));
    };
    const nested = () => [this.builder.make("concat", [this.#leaf(wanted), this.#leaf(wanted)], { axis })];
    const value = this.#chance.pick(constants);
    if (this.#chance.below(4) === 0) return castSlices();
    if (this.#chance.below(3) === 0) return [this.#full(wanted, value), this.#full(wanted, value)];
    const parts = [() => [this.#leaf(wanted)], slices, nested, () => [this.#full(wanted)]];
    return Array.from({ length: this.#chance.below(3) + 1 }, () => this.#chance.pick(parts)()).flat();
  }

  #contract(pattern: OpPattern, make: (ins: readonly Node[], attrs: Attrs) => Node): Node {
    const ins = pattern.ins.map((each) => this.grow(each, { dtype: "f32", shape: this.#chance.shape(2) }));
    const axes = this.#chance.pick([
      "n i, i o -> n o",
      "n i, o i -> n o",
      "a b, a b -> a",
      "a b, b a -> ",
      "a b, c d -> d b",
    ]);
    parseAxes(axes);
    return make(ins, { axes });
  }

  #attrs(op: OpName, ins: readonly Node[], wanted: Wanted): Attrs {
    const { shape } = ins[0]!.type;
    const axis = this.#chance.below(shape.length);
    switch (op) {
      case "cast":
        return {
          dtype: this.#chance.below(2) === 0 ? wanted.dtype : this.#chance.pick(Object.keys(dtypes) as DType[]),
        };
      case "reshape":
        return {
          shape: this.#chance.pick([shape, [sizeOf(shape)], [1, ...shape], [...shape, 1], [...shape].reverse()]),
        };
      case "transpose": {
        const perm = shape.map((_, i) => i);
        return {
          perm: perm
            .map((at) => ({ at, key: this.#chance.below(100) }))
            .sort((a, b) => a.key - b.key)
            .map(({ at }) => at),
        };
      }
      case "slice": {
        const start = this.#chance.below((shape[axis] ?? 0) + 1);
        return { axis, start, stop: start + this.#chance.below((shape[axis] ?? 0) - start + 1) };
      }
      case "concat":
        return { axis };
      case "broadcast": {
        const lead = this.#chance.pick([[], [1], [2], [2, 1]]);
        return { shape: [...lead, ...shape.map((dim) => (dim === 1 ? this.#chance.pick([1, 2]) : dim))] };
      }
      default:
        return {};
    }
  }
}

function operandTypes(op: ScalarOp, dtype: DType, chance: Chance): DType[] {
  const { arity, operands, result } = opRow(op);
  if (op === "select") return ["bool", dtype, dtype];
  if (result === "same") return new Array<DType>(arity).fill(dtype);
  const pool =
    operands === "float" ? (["f32"] as const) : operands === "any" ? [...arithmetic, "bool" as const] : arithmetic;
  return new Array<DType>(arity).fill(chance.pick(pool));
}

function opRow(op: ScalarOp): { arity: number; operands: string; result: string } {
  return scalarOps[op];
}

/** A node on which the rule applies, its replacement and the leaves; undefined where a thousand tries found none. */
export function sampleRule(rule: Rule, chance: Chance, build: (builder: Builder) => Parameters<Rule["attempt"]>[1]) {
  const pattern = rule.pattern!;
  for (let attempt = 0; attempt < 1000; attempt++) {
    const grower = new Grower(chance);
    const dtype = chance.pick(pattern.op in opClasses ? (["bool"] as const) : ([...arithmetic, "bool"] as const));
    try {
      const before = grower.grow(pattern, { dtype, shape: chance.shape() });
      const after = rule.attempt(before, build(grower.builder));
      if (after !== undefined) return { before, after, params: grower.params, builder: grower.builder };
    } catch (error) {
      if (!(error instanceof IrError)) throw error;
    }
  }
  return undefined;
}

/** Ops whose result is a truth value. */
const opClasses = Object.fromEntries(
  Object.entries(scalarOps)
    .filter(([name, { result }]) => result === "bool" || name === "not")
    .map(([name]) => [name, opDef(name as OpName)]),
);
