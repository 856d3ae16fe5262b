/**
 * Lowering of contractions. Loops: first the result axes of the activation operand `a` (outer), then those only the
 * streamed operand `b` has (rows), then the summed axes in the order in which `b` lies in memory. A tile of outer
 * indices times a tile of rows is kept in registers, so that each loaded element serves several sums. A staged operand
 * is computed into scratch once per outer tile; the epilogue is applied to each finished sum. Where `b` has to be unpacked
 * and meets many outer indices, rows come first, and those of a tile are unpacked into scratch once for all of them.
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
  const line = chooseLine(w, nest);
  if (line === null && group.staged === null && worthKeeping(w, nest)) {
    lowerByRows(w, group, nest);
    return;
  }
  const across = `${line === null ? nest.tileRows : `a line of ${line}`} of ${last(nest.rows) ?? "1"}`;
  const spaced = nest.apart > 1 ? ", far apart" : "";
  w.emit(note(`tile: ${nest.tileOuter} of ${last(nest.outer) ?? "1"} by ${across}${spaced}`));
  loopOver(w, nest.outer, nest.tileOuter, "grid", new Map(), (outer) => {
    const tile = Array.from({ length: nest.tileOuter }, (_, t) => shift(outer, last(nest.outer), t));
    const readA = group.staged === null ? undefined : stageRows(w, nest.a, nest.aAxes, nest.out, tile);
    if (line !== null) {
      loopOver(w, nest.rows, line, once ? "grid" : "serial", new Map(), (rows) => {
        writeLines(w, group, nest, { tile, rows, line, readA });
      });
      return;
    }
    const lines = nest.apart === 1 ? nest.rows : nest.rows.with(-1, { ...nest.rows.at(-1)!, size: nest.apart });
    loopOver(w, lines, nest.apart === 1 ? nest.tileRows : 1, once ? "grid" : "serial", new Map(), (rows) => {
      const rowTile = Array.from({ length: nest.tileRows }, (_, j) => shift(rows, last(nest.rows), j * nest.apart));
      writeTile(w, group, nest, tile, rowTile, { a: readA });
    });
  });
}

const last = (axes: readonly Axis[]) => axes.at(-1)?.name;
const countOf = (axes: readonly Axis[]) => axes.reduce((product, { size }) => product * size, 1);

/** Tiles of outer indices from which on it pays to keep unpacked rows. */
const tilesToKeep = 4;

/**
 * Sums of such a tile: vectors that find registers beside the operands'. Of sixteen some would be put aside in every step,
 * which is worth it only where rows come from memory (128 tokens with 4096 rows of 512 on AVX2: 49 and 31 GOP/s).
 */
const sumsKept = 8;

/** Whether `b` is not read as it lies in memory, by so many outer indices that a tile of its rows is better kept. */
function worthKeeping(w: KernelWriter, nest: Nest): boolean {
  const { b, bAxes, outer, rows, summed, tileOuter, tileRows, apart } = nest;
  const small = 4 * tileRows * countOf(summed) <= w.target.scratchBytes / 4;
  const many = countOf(outer) >= tilesToKeep * tileOuter && outer.every(({ name }) => !bAxes.includes(name));
  if (w.target.lanes === 1 || apart > 1 || rows.length === 0 || !small || !many) return false;
  let packed = false;
  w.nested(() => {
    packed =
      w.value(
        b,
        bAxes.map(() => int(0)),
      ).k !== "load";
  });
  return packed;
}

/** A tile of rows of `b` is unpacked into scratch, then all tiles of outer indices meet it. */
function lowerByRows(w: KernelWriter, group: Group, nest: Nest): void {
  const { tileOuter } = nest;
  const tileRows = Math.min(nest.tileRows, sumsKept / tileOuter);
  w.emit(note(`tile: ${tileOuter} of ${last(nest.outer)} by ${tileRows} of ${last(nest.rows)}, unpacked once`));
  loopOver(w, nest.rows, tileRows, "grid", new Map(), (rows) => {
    const rowTile = Array.from({ length: tileRows }, (_, j) => shift(rows, last(nest.rows), j));
    const b = stageRows(w, nest.b, nest.bAxes, nest.out, rowTile);
    loopOver(w, nest.outer, tileOuter, "serial", new Map(), (outer) => {
      const tile = Array.from({ length: tileOuter }, (_, t) => shift(outer, last(nest.outer), t));
      writeTile(w, group, nest, tile, rowTile, { b });
    });
  });
}

/** Computes the rows of an operand that a tile of result indices needs into scratch. */
function stageRows(
  w: KernelWriter,
  node: Node,
  axes: readonly string[],
  out: readonly string[],
  tile: readonly Index[],
): ReadA {
  const kept = axes
    .map((name, axis) => ({ name, size: node.type.shape[axis]! }))
    .filter(({ name }) => !out.includes(name));
  const shape = kept.map(({ size }) => size);
  const length = shape.reduce((product, size) => product * size, 1);
  const rows: Buf = w.scratch("row", elementType(node), tile.length * length);
  const at = (t: number, idx: readonly Expr[]) => iadd(flatten(idx, shape), int(t * length));
  for (const [t, index] of tile.entries()) {
    forEachElement(
      w,
      node,
      axes.map((name) => index.get(name) ?? null),
      (idx, value) => {
        const own = idx.filter((_, axis) => !out.includes(axes[axis]!));
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
  staged: { readonly a?: ReadA | undefined; readonly b?: ReadA },
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
      const value = staged.a?.(t, summed) ?? read(nest.a, nest.aAxes, outer, summed);
      return w.bind("a", cast(accumulator, value));
    });
    for (const [j, rows] of rowTile.entries()) {
      // Axes that both operands keep run with the outer tile; b does not vary along the tiled one.
      const value = staged.b?.(j, summed) ?? read(nest.b, nest.bAxes, tile[0]!, rows, summed);
      const b = w.bind("b", cast(accumulator, value));
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
