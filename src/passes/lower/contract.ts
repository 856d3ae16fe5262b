/**
 * Lowering of contractions. Loops: first the result axes of the activation operand `a` (outer), then those only the
 * streamed operand `b` has (rows), then the summed axes in the order in which `b` lies in memory. A tile of outer
 * indices times a tile of rows is kept in registers, so that each loaded element serves several sums. A staged operand
 * is computed into scratch once per outer tile; the epilogue is applied to each finished sum.
 */
import { axisSizes, parseAxes } from "../../ir/axes.ts";
import { attrsOf, type Node } from "../../ir/graph.ts";
import { type Buf, cast, type Expr, iadd, int, load, num, op, ref } from "../../ir/kernel/kernel.ts";
import { assign, note, store, variable } from "../../ir/kernel/stmt.ts";
import { contractOperands, type Group } from "../fuse.ts";
import { chooseTile, spacingOf } from "../schedule/choose.ts";
import { lowerContractGroup } from "./contract-group.ts";
import { flatten } from "./index-math.ts";
import { forEachElement } from "./map.ts";
import { elementType } from "./values.ts";
import type { KernelWriter } from "./writer.ts";

interface Axis {
  readonly name: string;
  readonly size: number;
}

/** The loop nest of a contraction. */
interface Nest {
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

type Index = ReadonlyMap<string, Expr>;

export function lowerContract(w: KernelWriter, group: Group): void {
  if (w.target.workgroup !== null) {
    lowerContractGroup(w, group, w.target.workgroup);
    return;
  }
  const nest = planNest(w, group.anchor);
  // A step of one token has no outer loop that could be divided among threads, so its rows are.
  const once = nest.outer.every(({ size }, i) => size <= (i === nest.outer.length - 1 ? nest.tileOuter : 1));
  const last = (axes: readonly Axis[]) => axes.at(-1)?.name;
  w.emit(
    note(
      `tile: ${nest.tileOuter} of ${last(nest.outer) ?? "1"} by ${nest.tileRows} of ${last(nest.rows) ?? "1"}${nest.apart > 1 ? ", far apart" : ""}`,
    ),
  );
  loopOver(w, nest.outer, nest.tileOuter, "grid", new Map(), (outer) => {
    const tile = Array.from({ length: nest.tileOuter }, (_, t) => shift(outer, last(nest.outer), t));
    const readA = group.staged === null ? undefined : stageRows(w, nest, tile);
    const lines = nest.apart === 1 ? nest.rows : nest.rows.with(-1, { ...nest.rows.at(-1)!, size: nest.apart });
    loopOver(w, lines, nest.apart === 1 ? nest.tileRows : 1, once ? "grid" : "serial", new Map(), (rows) => {
      const rowTile = Array.from({ length: nest.tileRows }, (_, j) => shift(rows, last(nest.rows), j * nest.apart));
      writeTile(w, group, nest, tile, rowTile, readA);
    });
  });
}

function planNest(w: KernelWriter, contract: Node): Nest {
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
function loopOver(
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

function shift(index: Index, axis: string | undefined, by: number): Index {
  if (axis === undefined || by === 0) return index;
  return new Map([...index, [axis, iadd(index.get(axis)!, int(by))]]);
}

type ReadA = (t: number, summed: Index) => Expr;

/** Computes the rows of `a` that an outer tile needs into scratch. */
function stageRows(w: KernelWriter, nest: Nest, tile: readonly Index[]): ReadA {
  const kept = nest.aAxes
    .map((name, axis) => ({ name, size: nest.a.type.shape[axis]! }))
    .filter(({ name }) => !nest.out.includes(name));
  const shape = kept.map(({ size }) => size);
  const length = shape.reduce((product, size) => product * size, 1);
  const rows: Buf = w.scratch("row", elementType(nest.a), tile.length * length);
  const at = (t: number, idx: readonly Expr[]) => iadd(flatten(idx, shape), int(t * length));
  for (const [t, outer] of tile.entries()) {
    forEachElement(
      w,
      nest.a,
      nest.aAxes.map((name) => outer.get(name) ?? null),
      (idx, value) => {
        const own = idx.filter((_, axis) => !nest.out.includes(nest.aAxes[axis]!));
        w.emit(store(rows, at(t, own), value));
      },
    );
  }
  return (t, summed) =>
    load(
      rows,
      at(
        t,
        kept.map(({ name }) => summed.get(name)!),
      ),
    );
}

/** One register tile: sums, then the epilogue of each. */
function writeTile(
  w: KernelWriter,
  group: Group,
  nest: Nest,
  tile: readonly Index[],
  rowTile: readonly Index[],
  staged: ReadA | undefined,
): void {
  const { accumulator } = w.target;
  const read = (node: Node, axes: readonly string[], ...parts: Index[]) => {
    const index = new Map(parts.flatMap((part) => [...part]));
    const idx = axes.map((axis) => index.get(axis)!);
    return w.value(node, idx);
  };
  const sums = tile.map(() => rowTile.map(() => ref(w.unique("acc"), accumulator)));
  for (const acc of sums.flat()) w.emit(variable(acc.name, num(accumulator, 0)));
  loopOver(w, nest.summed, 1, "serial", new Map(), (summed) => {
    const as = tile.map((outer, t) => {
      const value = staged?.(t, summed) ?? read(nest.a, nest.aAxes, outer, summed);
      return w.bind("a", cast(accumulator, value));
    });
    for (const [j, rows] of rowTile.entries()) {
      // Axes that both operands keep run with the outer tile; b does not vary along the tiled one.
      const b = w.bind("b", cast(accumulator, read(nest.b, nest.bAxes, tile[0]!, rows, summed)));
      for (const [t, a] of as.entries()) {
        const acc = sums[t]![j]!;
        w.emit(assign(acc.name, op("add", acc, op("mul", a, b))));
      }
    }
  });
  for (const [t, outer] of tile.entries()) {
    for (const [j, rows] of rowTile.entries()) {
      const index = new Map([...outer, ...rows]);
      const idx = nest.out.map((axis) => index.get(axis)!);
      w.hold(group.anchor, () => cast("f32", sums[t]![j]!));
      w.emit(store(w.out, flatten(idx, group.root.type.shape), w.value(group.root, idx)));
    }
  }
}
