/** The loops of a contraction on processors: which axes are outer, rows or summed, how they are tiled, and nested loops over them. */
import { axisSizes, parseAxes } from "../../ir/axes.ts";
import { attrsOf, type Node } from "../../ir/graph.ts";
import { type Expr, iadd, int } from "../../ir/kernel/kernel.ts";
import { contractOperands } from "../contract-operands.ts";
import { chooseTile, spacingOf } from "../schedule/choose.ts";
import type { KernelWriter } from "./writer.ts";

export interface Axis {
  readonly name: string;
  readonly size: number;
}

/** The loop nest of a contraction. */
export interface Nest {
  readonly a: Node;
  readonly b: Node;
  readonly aAxes: readonly string[];
  readonly bAxes: readonly string[];
  readonly out: readonly string[];
  /** Result axes of `a`, with the tiled one last. */
  readonly outer: readonly Axis[];
  readonly rows: readonly Axis[];
  readonly summed: readonly Axis[];
  readonly tileOuter: number;
  readonly tileRows: number;
  /** From one row of a tile to the next, along the last axis of rows. */
  readonly apart: number;
}

export type Index = ReadonlyMap<string, Expr>;

export type ReadA = (t: number, summed: Index) => Expr;

export function planNest(w: KernelWriter, contract: Node): Nest {
  const text = String(attrsOf(contract).axes);
  const { ins, out, reduced } = parseAxes(text);
  const sizes = axisSizes(
    text,
    contract.ins.map((x) => x.type),
  );
  const { a, b, swapped } = contractOperands(contract);
  const [aAxes, bAxes] = swapped ? [ins[1]!, ins[0]!] : [ins[0]!, ins[1]!];
  const sized = (names: readonly string[]) => names.map((name) => ({ name, size: sizes.get(name)! }));
  const rows = sized(out.filter((axis) => !aAxes.includes(axis)));
  const alone = out.filter((axis) => aAxes.includes(axis) && !bAxes.includes(axis));
  // Only an outer axis that b lacks can share b's elements, so the last such axis is tiled and comes last.
  const tiled = alone.at(-1);
  const outerNames = out.filter((axis) => aAxes.includes(axis) && axis !== tiled);
  const outer = sized(tiled === undefined ? outerNames : [...outerNames, tiled]);
  const summed = sized([...reduced].sort((x, y) => bAxes.indexOf(x) - bAxes.indexOf(y)));
  const tile = chooseTile(w.target, {
    outer: tiled === undefined ? 1 : sizes.get(tiled)!,
    rows: rows.at(-1)?.size ?? 1,
  });
  const inPieces = bAxes.at(-1) !== undefined && bAxes.at(-1) === summed.at(-1)?.name;
  const weights = [...rows, ...summed].reduce((product, { size }) => product * size, 1);
  const far = spacingOf(w.target, tile, weights, inPieces) === "apart";
  const apart = far ? rows.at(-1)!.size / tile.rows : 1;
  return { a, b, aAxes, bAxes, out, outer, rows, summed, tileOuter: tile.outer, tileRows: tile.rows, apart };
}

/** Nested loops over axes, the last in steps of `step`. */
export function loopOver(
  w: KernelWriter,
  axes: readonly Axis[],
  step: number,
  how: "grid" | "serial",
  index: Index,
  body: (index: Index) => void,
): void {
  const [axis, ...rest] = axes;
  if (axis === undefined) {
    body(index);
    return;
  }
  const enter = (i: Expr) => loopOver(w, rest, step, "serial", new Map([...index, [axis.name, i]]), body);
  w.loop(axis.name, axis.size, enter, how, rest.length === 0 ? step : 1);
}

export function shift(index: Index, axis: string | undefined, by: number): Index {
  if (axis === undefined || by === 0) return index;
  return new Map([...index, [axis, iadd(index.get(axis)!, int(by))]]);
}
