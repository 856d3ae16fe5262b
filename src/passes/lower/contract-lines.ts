/**
 * Contractions whose streamed operand lies in memory along a result axis ("n h d, h d r -> n h r"), for vector targets:
 * sums of a line of rows lie in scratch, and a few summed indices at a time are added to all of them, so that lanes are
 * rows. The order in which a sum's terms are added is that of the other form.
 */
import { cast, type Expr, iadd, int, load, num, op } from "../../ir/kernel/kernel.ts";
import { store } from "../../ir/kernel/stmt.ts";
import { opDef } from "../../ir/ops/all.ts";
import type { Group } from "../fuse.ts";
import { type Index, loopOver, type Nest, type ReadA, shift } from "./contract-loops.ts";
import { flatten } from "./index-math.ts";
import type { KernelWriter } from "./writer.ts";

/** Rows of a line: their sums, of every token of a tile, stay in the first cache. */
const longest = 512;
/** Whole groups of scales, so that a line can be split by these. */
const unit = 32;
/** Summed indices at a time, so that sums are loaded and stored less often. */
const together = 4;

/** Rows of a line, or null where sums are better kept in registers. */
export function chooseLine(w: KernelWriter, { b, bAxes, rows, summed }: Nest): number | null {
  const row = rows.at(-1);
  if (w.target.lanes === 1 || row === undefined || summed.length === 0 || bAxes.at(-1) !== row.name) return null;
  // Elements that a view moves may lie elsewhere.
  if (!w.isBuffer(b) && opDef(b.op).view === true) return null;
  for (let line = longest; line >= unit; line -= unit) if (row.size % line === 0) return line;
  return null;
}

interface Lines {
  readonly tile: readonly Index[];
  readonly rows: Index;
  readonly line: number;
  readonly readA: ReadA | undefined;
}

/** An element as f32, at the indices of all parts together. */
function read(w: KernelWriter, node: Nest["a"], axes: readonly string[], ...parts: readonly Index[]): Expr {
  const index = new Map(parts.flatMap((part) => [...part]));
  const idx = axes.map((axis) => index.get(axis)!);
  return cast("f32", w.value(node, idx));
}

export function writeLines(w: KernelWriter, group: Group, nest: Nest, { tile, rows, line, readA }: Lines): void {
  const row = nest.rows.at(-1)!.name;
  const last = nest.summed.at(-1)!;
  const count = last.size % together === 0 ? together : 1;
  const sums = w.scratch("sums", "f32", tile.length * line);
  const at = (t: number, r: Expr) => iadd(r, int(t * line));
  const along = (r: Expr): Index => new Map([...rows, [row, iadd(rows.get(row)!, r)]]);
  for (const t of tile.keys()) w.loop("r", line, (r) => w.emit(store(sums, at(t, r), num("f32", 0))));
  loopOver(w, nest.summed, count, "serial", new Map(), (first) => {
    const steps = Array.from({ length: count }, (_, u) => shift(first, last.name, u));
    const as = tile.map((outer, t) =>
      steps.map((summed) =>
        w.bind("a", readA ? cast("f32", readA(t, summed)) : read(w, nest.a, nest.aAxes, outer, summed)),
      ),
    );
    w.loop("r", line, (r) => {
      const bs = steps.map((summed) => w.bind("b", read(w, nest.b, nest.bAxes, tile[0]!, along(r), summed)));
      for (const [t, factors] of as.entries()) {
        const sum = factors.reduce<Expr>((total, a, u) => op("add", total, op("mul", a, bs[u]!)), load(sums, at(t, r)));
        w.emit(store(sums, at(t, r), sum));
      }
    });
  });
  for (const [t, outer] of tile.entries()) {
    w.loop("r", line, (r) => {
      const index = new Map([...outer, ...along(r)]);
      const idx = nest.out.map((axis) => index.get(axis)!);
      w.hold(group.anchor, () => load(sums, at(t, r)));
      w.emit(store(w.out, flatten(idx, group.root.type.shape), w.value(group.root, idx)));
    });
  }
}
