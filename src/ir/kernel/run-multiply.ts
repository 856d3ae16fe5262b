/** How the executor multiplies matrices: the first of the neighbours that take part does it, and the others must ask for the same. */
import { IrError } from "../errors.ts";
import type { Multiply } from "./kernel.ts";
import { matricesOf } from "./multiply.ts";
import type { Group, Memory } from "./run-memory.ts";

/** `indices`: where the matrices begin, in the order of `matricesOf`. */
export function multiplyTogether(
  stmt: Multiply,
  indices: readonly number[],
  group: Group,
  memoryOf: (buf: string) => Memory,
): void {
  const { multiplied, lane } = group;
  if (multiplied.epoch !== group.epoch) {
    multiplied.epoch = group.epoch;
    multiplied.asked.clear();
  }
  const { asked } = multiplied;
  const mine = [...(asked.get(lane) ?? []), { stmt, at: indices.join() }];
  asked.set(lane, mine);
  const first = lane - (lane % stmt.over);
  if (lane === first) {
    // Which of them touches an element is not said, so it is no iteration of the loop.
    group.lane = Number.NaN;
    computeProduct(stmt, indices, memoryOf);
    group.lane = lane;
    return;
  }
  const [own, other] = [mine.at(-1)!, asked.get(first)?.[mine.length - 1]];
  if (other?.stmt !== own.stmt || other.at !== own.at) {
    throw new IrError(
      `multiply ${stmt.result.buf}`,
      `iterations ${first} and ${lane} do not multiply the same matrices`,
    );
  }
}

function computeProduct(stmt: Multiply, indices: readonly number[], memoryOf: (buf: string) => Memory): void {
  const [result, left, right] = matricesOf(stmt).map(({ at, rows, columns }, i) => {
    const [{ read, write }, first] = [memoryOf(at.buf), indices[i]!];
    const place = (row: number, column: number) => first + row * at.stride + column;
    const load = () =>
      Array.from({ length: rows }, (_, row) =>
        Array.from({ length: columns }, (_, column) => read(place(row, column))),
      );
    return { load, store: (row: number, column: number, value: number) => write(place(row, column), value) };
  });
  const [a, b] = [left!.load(), right!.load()];
  for (const [i, x] of a.entries()) {
    for (const [j, y] of b.entries()) {
      let sum = stmt.from;
      for (let k = 0; k < stmt.size.k; k++) sum = (sum + x[k]! * y[k]!) | 0;
      result!.store(i, j, sum);
    }
  }
}
