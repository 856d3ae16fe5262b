/**
 * Products of tokens with weights that each of them chose, as of a mixture of experts: pairs of a token and a chosen weight
 * are put in the order of the weights, so that a tile of pairs meets one of them and its codes are loaded once for all.
 */
import { isOp, type Node } from "../../ir/graph.ts";
import { type Expr, iadd, idiv, imul, int, irem, isub, load, op, select } from "../../ir/kernel/kernel.ts";
import { store } from "../../ir/kernel/stmt.ts";
import { sizeOf } from "../../ir/types.ts";
import { clampTo, unflatten } from "./index-math.ts";
import type { KernelWriter } from "./writer.ts";

/** Weights chosen by an index per pair: how many pairs and weights there are. */
export interface Chosen {
  readonly index: Node;
  readonly weights: number;
}

/** Rows of a table, where every operand that holds weights is chosen by the same index, of the shape of `lead`. */
export function chosenBy(operands: readonly Node[], lead: readonly number[]): Chosen | undefined {
  const [first] = operands;
  if (first === undefined || !isOp(first, "gather")) return undefined;
  const [table, index] = first.ins as [Node, Node]; // its operands
  const same = operands.every((each) => isOp(each, "gather") && each.ins[1] === index);
  if (!same || index.type.shape.join() !== lead.join()) return undefined;
  return { index, weights: table.type.shape[0]! };
}

export interface PairTiles {
  readonly weights: number;
  /** The tiles that hold a weight's pairs: the first, and the one after the last; known when the kernel runs. */
  readonly tilesOf: (w: KernelWriter, weight: Expr) => readonly [Expr, Expr];
  /** The leading indices of a tile's pairs. */
  readonly pairs: (w: KernelWriter, tile: Expr) => readonly (readonly Expr[])[];
}

const tilesFor = (x: Expr, size: number): Expr => idiv(iadd(x, int(size - 1)), int(size));

/**
 * Writes the order of pairs, by counting those of each weight. Each weight's begin with a tile; where they do not fill
 * their last one, its last pair stands in it again: then it is computed again and stored where it was.
 */
export function orderPairs(
  w: KernelWriter,
  { index, weights }: Chosen,
  lead: readonly number[],
  size: number,
): PairTiles {
  const pairs = sizeOf(lead);
  const most = Math.floor(pairs / size) + weights;
  const starts = w.scratch("starts", "i32", weights);
  const total = w.scratch("total", "i32", 1);
  const order = w.scratch("order", "i32", most * size);
  const weightOf = (pair: Expr) => w.bind("chosen", clampTo(w.value(index, unflatten(pair, lead)), weights));

  w.loop("e", weights, (e) => w.emit(store(starts, e, int(0))));
  w.loop("p", pairs, (p) => {
    const chosen = weightOf(p);
    w.emit(store(starts, chosen, iadd(load(starts, chosen), int(1))));
  });
  w.emit(store(total, int(0), int(0)));
  w.loop("e", weights, (e) => {
    const [count, before] = [w.bind("count", load(starts, e)), w.bind("before", load(total, int(0)))];
    w.emit(store(starts, e, before));
    w.emit(store(total, int(0), iadd(before, imul(tilesFor(clampTo(count, pairs + 1), size), int(size)))));
  });
  w.loop("p", pairs, (p) => {
    const chosen = weightOf(p);
    const at = w.bind("at", clampTo(load(starts, chosen), most * size));
    const left = w.bind("left", isub(int(size), irem(at, int(size))));
    w.loop("r", left, (r) => w.emit(store(order, clampTo(iadd(at, r), most * size), p)));
    w.emit(store(starts, chosen, iadd(at, int(1))));
  });
  // Now a weight's start is where its pairs end.
  const endOf = (weight: Expr) => op("min", tilesFor(clampTo(load(starts, weight), most * size), size), int(most));
  return {
    weights,
    tilesOf: (inner, weight) => {
      const before = clampTo(isub(weight, int(1)), weights);
      const first = select(op("lt", int(0), weight), endOf(before), int(0));
      return [inner.bind("first", first), inner.bind("end", endOf(weight))];
    },
    pairs: (inner, tile) => {
      const at = inner.bind("at", imul(clampTo(tile, most), int(size)));
      return Array.from({ length: size }, (_, t) => {
        const pair = inner.bind("pair", clampTo(load(order, iadd(at, int(t))), pairs));
        return unflatten(pair, lead).map((i) => inner.bind("i", i));
      });
    },
  };
}
