/** Contractions of many outer indices with many rows on GPUs: squares of the result, of slices of both operands in shared memory. */
import { type Expr, iadd, idiv, imul, int, irem, load, num, op, select } from "../../ir/kernel/kernel.ts";
import { barrier, note, store, when } from "../../ir/kernel/stmt.ts";
import type { Workgroup } from "../../ir/target.ts";
import { accumulate, finish, indexOf, type Nest, newSum, overBatch, read } from "./contract-nest.ts";
import { clampTo, range } from "./index-math.ts";

/** Sums along each side of an invocation's own square, and summed indices that go through shared memory at once. */
const [own, depth] = [4, 16];

/** Workgroups that a result takes. */
export function squaresOf(outer: number, rows: number, workgroup: Workgroup): number {
  const { side, each } = squareFor(outer, rows, workgroup);
  return Math.ceil(outer / (side * each)) * Math.ceil(rows / (side * each));
}

function squareFor(outer: number, rows: number, { invocations }: Workgroup): { side: number; each: number } {
  // Invocations along each side of a workgroup's square.
  const side = invocations >= 256 ? 16 : invocations >= 64 ? 8 : 4;
  // Small squares for small results, which would leave most invocations idle.
  return { side, each: outer >= 64 && rows >= 64 ? own : outer >= 32 && rows >= 32 ? 2 : 1 };
}

export function lowerTiles(nest: Nest, outer: number, rows: number, summed: number, workgroup: Workgroup): void {
  const { w } = nest;
  const { side, each } = squareFor(outer, rows, workgroup);
  const square = side * each;
  w.emit(note(`tile: ${square} by ${square} in shared memory, ${each} by ${each} an invocation`));
  overBatch(nest, (batch) => {
    const parts = [
      { buf: w.shared("a_part", "f32", depth * square), node: nest.a, axes: nest.aAxes, own: nest.outer, count: outer },
      { buf: w.shared("b_part", "f32", depth * square), node: nest.b, axes: nest.bAxes, own: nest.rows, count: rows },
    ] as const;
    w.loop(
      "o",
      outer,
      (firstOuter) =>
        w.loop(
          "r",
          rows,
          (firstRow) =>
            w.workgroup(side * side, (together) => {
              const { lane } = together;
              const [y, x] = [w.bind("y", idiv(lane, int(side))), w.bind("x", irem(lane, int(side)))];
              const sums = range(each).map(() => range(each).map(() => newSum(w)));
              w.loop(
                "k",
                summed,
                (k) => {
                  for (const [p, { buf, node, axes, own: mine, count }] of parts.entries()) {
                    // Neighbours in the workgroup take neighbours along the sum, as operands mostly lie in memory.
                    w.strided(together, "i", depth * square, (i) => {
                      const at = w.bind("at", iadd(p === 0 ? firstOuter : firstRow, idiv(i, int(depth))));
                      const step = w.bind("step", iadd(k, irem(i, int(depth))));
                      const inside = indexOf(nest, mine, count % square === 0 ? at : clampTo(at, count));
                      const value = read(
                        nest,
                        node,
                        axes,
                        batch,
                        inside,
                        indexOf(nest, nest.summed, clampTo(step, summed)),
                      );
                      const whole = summed % depth === 0;
                      const kept = whole ? value : select(op("lt", step, int(summed)), value, num("f32", 0));
                      w.emit(store(buf, iadd(imul(irem(i, int(depth)), int(square)), idiv(i, int(depth))), kept));
                    });
                  }
                  w.emit(barrier);
                  w.loop("d", depth, (d) => {
                    const column = (p: 0 | 1, from: Expr) =>
                      range(each).map((i) =>
                        w.bind("v", load(parts[p].buf, iadd(iadd(imul(d, int(square)), from), int(i * side)))),
                      );
                    const [as, bs] = [column(0, y), column(1, x)];
                    for (const [i, line] of sums.entries()) {
                      for (const [j, sum] of line.entries()) accumulate(w, sum, as[i]!, bs[j]!);
                    }
                  });
                  w.emit(barrier);
                },
                "serial",
                depth,
              );
              for (const [i, line] of sums.entries()) {
                for (const [j, sum] of line.entries()) {
                  const [o, r] = [iadd(iadd(firstOuter, y), int(i * side)), iadd(iadd(firstRow, x), int(j * side))];
                  const inside = op("and", op("lt", o, int(outer)), op("lt", r, int(rows)));
                  // The clamps change nothing under the condition; they show that the store is inside.
                  const [at, row] = [
                    indexOf(nest, nest.outer, outer % square === 0 ? o : clampTo(o, outer)),
                    indexOf(nest, nest.rows, rows % square === 0 ? r : clampTo(r, rows)),
                  ];
                  const body = w.nested(() => finish(nest, sum, batch, at, row));
                  w.emit(when(inside, body));
                }
              }
            }),
          "grid",
          square,
        ),
      "grid",
      square,
    );
  });
}
