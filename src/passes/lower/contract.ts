/**
 * Lowering of contractions. Loops: first the result axes of the activation operand `a` (outer), then those only the
 * streamed operand `b` has (rows), then the summed axes in the order in which `b` lies in memory. A tile of outer
 * indices times a tile of rows is kept in registers, so that each loaded element serves several sums. A staged operand
 * is computed into scratch once per outer tile; the epilogue is applied to each finished sum.
 */
import type { Node } from "../../ir/graph.ts";
import { type Buf, cast, type Expr, iadd, int, load, num, op, ref } from "../../ir/kernel/kernel.ts";
import { assign, note, store, variable } from "../../ir/kernel/stmt.ts";
import type { Group } from "../fuse.ts";
import { lowerContractGroup } from "./contract-group.ts";
import { chooseLine, writeLines } from "./contract-lines.ts";
import { type Axis, type Index, loopOver, type Nest, planNest, type ReadA, shift } from "./contract-loops.ts";
import { flatten } from "./index-math.ts";
import { forEachElement } from "./map.ts";
import { elementType } from "./values.ts";
import type { KernelWriter } from "./writer.ts";

export function lowerContract(w: KernelWriter, group: Group): void {
  if (w.target.workgroup !== null) {
    lowerContractGroup(w, group, w.target.workgroup);
    return;
  }
  const nest = planNest(w, group.anchor);
  // A step of one token has no outer loop that could be divided among threads, so its rows are.
  const once = nest.outer.every(({ size }, i) => size <= (i === nest.outer.length - 1 ? nest.tileOuter : 1));
  const last = (axes: readonly Axis[]) => axes.at(-1)?.name;
  const line = chooseLine(w, nest);
  const across = `${line === null ? nest.tileRows : `a line of ${line}`} of ${last(nest.rows) ?? "1"}`;
  const spaced = nest.apart > 1 ? ", far apart" : "";
  w.emit(note(`tile: ${nest.tileOuter} of ${last(nest.outer) ?? "1"} by ${across}${spaced}`));
  loopOver(w, nest.outer, nest.tileOuter, "grid", new Map(), (outer) => {
    const tile = Array.from({ length: nest.tileOuter }, (_, t) => shift(outer, last(nest.outer), t));
    const readA = group.staged === null ? undefined : stageRows(w, nest, tile);
    if (line !== null) {
      loopOver(w, nest.rows, line, once ? "grid" : "serial", new Map(), (rows) => {
        writeLines(w, group, nest, { tile, rows, line, readA });
      });
      return;
    }
    const lines = nest.apart === 1 ? nest.rows : nest.rows.with(-1, { ...nest.rows.at(-1)!, size: nest.apart });
    loopOver(w, lines, nest.apart === 1 ? nest.tileRows : 1, once ? "grid" : "serial", new Map(), (rows) => {
      const rowTile = Array.from({ length: nest.tileRows }, (_, j) => shift(rows, last(nest.rows), j * nest.apart));
      writeTile(w, group, nest, tile, rowTile, readA);
    });
  });
}

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
