/**
 * A rank's program cut at its collectives into pieces that a device runs alone, with an exchange after each. A piece is an
 * ordinary module. What it takes from others, and what others take from it, are numbered values: parameters of the
 * program, results of pieces, and what came of exchanges.
 *
 * A node belongs to the piece whose number is how many exchanges lie before it on the longest way from the inputs, so
 * collectives that do not wait for each other are one exchange. All that stages send to a stage comes in its first
 * exchange and all that it sends goes in its last: between two devices messages then keep one order. What depends on
 * weights alone, and views of values, are made anew in every piece that reads them.
 */
import {
  attrsOf,
  Builder,
  type Func,
  getFunc,
  isOp,
  type Module,
  makeModule,
  type Node,
  topoOrder,
} from "../../ir/graph.ts";
import { opDef, opKind } from "../../ir/ops/all.ts";
import { keepName } from "../../ir/rewrite.ts";
import type { TensorType } from "../../ir/types.ts";

export interface Piece {
  /** Null where nothing is to be computed between two exchanges. */
  readonly module: Module | null;
  /** Values that the entry takes and gives, by number. */
  readonly params: readonly number[];
  readonly results: readonly number[];
  /** What is exchanged after it, all at once. */
  readonly exchanges: readonly PieceExchange[];
}

export interface PieceExchange {
  /** A collective, a send or a receive. */
  readonly node: Node;
  /** Null where it only receives. */
  readonly operand: number | null;
  /** Null where it only sends. */
  readonly result: number | null;
}

export interface Pieces {
  readonly values: readonly TensorType[];
  /** The program's parameters: each one's name, and its number as a value. */
  readonly params: readonly { readonly name: string; readonly value: number }[];
  readonly results: readonly number[];
  readonly pieces: readonly Piece[];
}

/** Functions that the entry calls exchange nothing; see `inlineCalls`. */
export function cutAtCollectives(module: Module): Pieces {
  return new Cutter(module).cut();
}

class Cutter {
  readonly #func: Func;
  readonly #callees: readonly Func[];
  readonly #order: readonly Node[];
  readonly #depth = new Map<Node, number>();
  /** Nodes that depend on weights and constants alone. */
  readonly #free = new Set<Node>();
  readonly #numbers = new Map<Node, number>();
  /** By piece: the values of it that something outside of it needs. */
  readonly #wanted: Set<Node>[];

  constructor(module: Module) {
    const func = getFunc(module, module.entry);
    this.#func = func;
    this.#callees = [...module.funcs.values()].filter((each) => each !== func);
    this.#order = topoOrder([...func.params, ...func.outs]);
    for (const node of this.#order) this.#place(node);
    const last = Math.max(0, ...this.#order.map((node) => this.#depth.get(node)!));
    this.#wanted = Array.from({ length: last + 1 }, () => new Set());
  }

  cut(): Pieces {
    const { params, outs } = this.#func;
    const inputs = params.map((param) => ({ name: param.attrs.name, value: this.#number(param) }));
    const results = outs.map((out) => this.#want(isSend(out) ? out.ins[0]! : out));
    const last = this.#wanted.length - 1;
    const exchanges = this.#wanted.map((): PieceExchange[] => []);
    for (const node of this.#order.filter(isExchange)) {
      const at = isSend(node) ? last : this.#depth.get(node)! - 1;
      const [operand] = node.ins;
      exchanges[at]!.push({
        node,
        operand: operand === undefined ? null : this.#want(operand),
        result: isSend(node) ? null : this.#number(node),
      });
    }
    for (const each of exchanges) each.sort(inOrderOfChannels);
    const pieces: Piece[] = [];
    // Later pieces say what they want of earlier ones.
    for (let at = last; at >= 0; at--) pieces.unshift({ ...this.#piece(at), exchanges: exchanges[at]! });
    const values = [...this.#numbers.keys()].map(({ type }) => type);
    return { values, params: inputs, results, pieces };
  }

  #place(node: Node): void {
    const ins = node.ins.map((x) => this.#depth.get(x)!);
    const depth = Math.max(0, ...ins);
    this.#depth.set(node, isExchange(node) && !isSend(node) ? depth + 1 : depth);
    const known = node.op === "param" || node.op === "call" || isExchange(node);
    if (!known && node.ins.every((x) => this.#free.has(x))) this.#free.add(node);
  }

  /** The number of a value that is kept between pieces. */
  #number(node: Node): number {
    const number = this.#numbers.get(node) ?? this.#numbers.size;
    this.#numbers.set(node, number);
    return number;
  }

  #want(node: Node): number {
    if (!isGiven(node)) this.#wanted[this.#depth.get(node)!]!.add(node);
    return this.#number(node);
  }

  #piece(at: number): Omit<Piece, "exchanges"> {
    const outs = [...this.#wanted[at]!];
    if (outs.length === 0) return { module: null, params: [], results: [] };
    const builder = new Builder();
    const made = new Map<Node, Node>();
    const params = new Map<number, Node<"param">>();
    const take = (node: Node): Node => {
      const value = this.#want(node);
      const { dtype, shape } = node.type;
      // By position, so that the pieces of equal layers are equal.
      const param = builder.make("param", [], { name: `in${params.size}`, dtype, shape });
      params.set(value, param);
      return param;
    };
    const isTaken = (node: Node) =>
      isGiven(node) || (this.#depth.get(node)! < at && !this.#free.has(node) && !isView(node));
    // Iterative: operands before users, not beyond what is taken.
    const stack = [...outs].reverse();
    while (stack.length > 0) {
      const node = stack.at(-1)!;
      const waits = made.has(node) || isTaken(node) ? undefined : node.ins.find((x) => !made.has(x));
      if (waits !== undefined) {
        stack.push(waits);
        continue;
      }
      stack.pop();
      if (made.has(node)) continue;
      const ins = node.ins.map((x) => made.get(x)!);
      made.set(node, isTaken(node) ? take(node) : keepName(node, builder.make(node.op, ins, node.attrs)));
    }
    const { name } = this.#func;
    const func = { name, params: [...params.values()], outs: outs.map((out) => made.get(out)!) };
    const results = outs.map((out) => this.#number(out));
    const called = this.#calledFrom(func);
    return { module: makeModule(name, [...called, func], name), params: [...params.keys()], results };
  }

  /** The functions that `func` calls, or those call, in order of definition. */
  #calledFrom(func: Func): readonly Func[] {
    const found = new Set<string>();
    const visit = ({ outs }: Func) => {
      for (const node of topoOrder(outs)) {
        if (!isOp(node, "call") || found.has(node.attrs.func)) continue;
        found.add(node.attrs.func);
        for (const callee of this.#callees) if (callee.name === node.attrs.func) visit(callee);
      }
    };
    visit(func);
    return this.#callees.filter(({ name }) => found.has(name));
  }
}

function isExchange(node: Node): boolean {
  return opKind(node.op) === "collective" || opDef(node.op).transfer !== undefined;
}

function isSend(node: Node): boolean {
  return opDef(node.op).transfer === "send";
}

/** There without any piece computing it. */
function isGiven(node: Node): boolean {
  return isOp(node, "param") || isExchange(node);
}

/** Costs nothing to make again. */
function isView(node: Node): boolean {
  return opKind(node.op) === "injective" && node.ins.length === 1;
}

/** Messages between stages by stage and channel, which both ends know; collectives as they come. */
function inOrderOfChannels({ node: a }: PieceExchange, { node: b }: PieceExchange): number {
  const key = (node: Node, name: "stage" | "channel") => Number(attrsOf(node)[name] ?? -1);
  return key(a, "stage") - key(b, "stage") || key(a, "channel") - key(b, "channel");
}
