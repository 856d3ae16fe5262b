/**
 * The walk over a token's keys by a workgroup of teams: the invocations of a team have neighbouring elements of one key at a
 * time and the same columns of its value, score it for some query heads, and add it to their sums, so that teams need nothing
 * of each other until their keys are through. What counts is how often an invocation waits for memory: a team has several keys
 * at once, and asks for their values before the scores are known. What was summed before is scaled when a larger score turns
 * up, so that no scores are kept and the context may be of any length.
 */
import {
  type Expr,
  extract,
  iadd,
  imul,
  int,
  intrinsic,
  isub,
  num,
  op,
  type Ref,
  select,
  splat,
  sum,
} from "../../ir/kernel/kernel.ts";
import { assign, when } from "../../ir/kernel/stmt.ts";
import type { RowShares } from "./attention-row-choice.ts";
import { lowest, type Row, type RowReader } from "./attention-rows.ts";
import { clampTo, range } from "./index-math.ts";
import type { KernelWriter } from "./writer.ts";

const zero = num("f32", 0);

export interface Walk extends RowShares {
  readonly w: KernelWriter;
  /** The team's number among those with the same heads, and the invocation's in the team. */
  readonly team: Expr;
  readonly place: Expr;
  /** Elements that are read together. */
  readonly lanes: number;
  /** Elements of the scaled query of one of the team's heads from `j` on. */
  readonly query: (head: number, j: Expr) => Expr;
  readonly keys: RowReader;
  /** The keys' own where each value is the first elements of its key. */
  readonly values: RowReader;
  /** Keys that the token sees, of at most `end`; of them, every `parts`-th block is this workgroup's, from `part` on. */
  readonly visible: Expr;
  readonly end: number;
  readonly part: Expr;
  readonly parts: number;
  readonly block: number;
}

/** Of a head, what a team found: the largest score, the sum of weights, and those of weights times values. */
export interface Sums {
  readonly most: Ref;
  readonly total: Ref;
  /** Vectors of the invocation's columns. */
  readonly columns: readonly Ref[];
}

/** Vectors of an invocation in a row of so many elements. */
export function vectorsOf({ perKey, lanes }: Pick<Walk, "perKey" | "lanes">, width: number): number {
  return Math.ceil(width / (perKey * lanes));
}

/** The first element of an invocation's `i`-th vector; whether all invocations have one. */
export function vectorAt({ perKey, lanes, place }: Pick<Walk, "perKey" | "lanes" | "place">, i: number, width: number) {
  const at = iadd(place, int(i * perKey));
  const whole = (i + 1) * perKey * lanes <= width;
  // Beyond the row stands its last vector.
  return { whole, at: imul(whole ? at : clampTo(at, width / lanes), int(lanes)), inside: imul(at, int(lanes)) };
}

export function walkKeys(walk: Walk): Sums[] {
  const { w, keys, lanes, heads, visible, part, parts, block, tile } = walk;
  const d = keys.e;
  const sums = range(heads).map(() => ({
    most: w.variable("most", lowest),
    total: w.variable("total", zero),
    columns: range(vectorsOf(walk, walk.values.e)).map(() => w.variable("sum", splat(zero, lanes))),
  }));
  const queries = range(heads).map((head) =>
    range(vectorsOf(walk, d)).map((i) => {
      const { at, whole, inside } = vectorAt(walk, i, d);
      const found = walk.query(head, at);
      return w.bind("q", whole ? found : select(op("lt", inside, int(d)), found, splat(zero, lanes)));
    }),
  );
  const takeTile = (first: Expr, end: Expr) => addTile(walk, { queries, sums }, first, end);
  const step = parts * block;
  w.strided({ lane: w.bind("begin", imul(part, int(block))), size: step }, "t", visible, (first) => {
    if (block === tile) takeTile(first, visible);
    else {
      const end = w.bind("end", op("min", visible, iadd(first, int(block))));
      w.strided({ lane: first, size: tile }, "u", end, (t) => takeTile(t, end));
    }
  });
  return sums;
}

interface Held {
  /** Vectors of each head's query. */
  readonly queries: readonly (readonly Expr[])[];
  readonly sums: readonly Sums[];
}

function addTile(walk: Walk, { queries, sums }: Held, first: Expr, end: Expr): void {
  const { w, lanes, team, teams, keysEach } = walk;
  const numbers = range(keysEach).map((u) => w.bind("key", iadd(iadd(first, int(u * teams)), team)));
  const taken = takeKeys(walk, numbers, end);
  const seen = numbers.map((key) => w.bind("seen", op("lt", key, end)));
  const dots = queries.flatMap((query) => taken.map(({ key }) => dotOf(walk, query, key)));
  const found = together(walk, dots);
  for (const [head, { most, total, columns }] of sums.entries()) {
    const scores = seen.map((is, u) => w.bind("score", select(is, found[head * keysEach + u]!, lowest)));
    const next = w.bind(
      "next",
      scores.reduce<Expr>((a, b) => op("max", a, b), most),
    );
    const shrink = w.bind("shrink", op("exp", op("sub", most, next)));
    const weights = seen.map((is, u) => w.bind("p", select(is, op("exp", op("sub", scores[u]!, next)), zero)));
    const added = weights.reduce((a, b) => op("add", a, b));
    w.emit(assign(most.name, next));
    w.emit(assign(total.name, op("add", op("mul", total, shrink), added)));
    for (const [i, column] of columns.entries()) {
      w.emit(assign(column.name, op("mul", column, splat(shrink, lanes))));
      for (const [u, { value }] of taken.entries()) {
        w.emit(assign(column.name, timesPlus(splat(weights[u]!, lanes), value[i]!, column)));
      }
    }
  }
}

/** An invocation's vectors of a key and of its value. */
interface Taken {
  readonly key: readonly Expr[];
  readonly value: readonly Expr[];
}

/** Keys by their numbers, all asked for together; for those from `end` on the last before it stands. */
function takeKeys(walk: Walk, numbers: readonly Expr[], end: Expr): Taken[] {
  const { w, keys, values } = walk;
  const readers = keys === values ? [keys] : [keys, values];
  const rows = numbers.map((key) => {
    const source = w.bind("source", clampTo(op("min", key, isub(end, int(1))), walk.end));
    return readers.map((reader) => ({ reader, row: reader.row(source) }));
  });
  const read = rows.map((each) =>
    each.map(({ reader, row }) => ({ reader, row, vectors: readRow(walk, reader, row) })),
  );
  for (const { reader, row, vectors } of read.flat()) {
    if (row.isNew === undefined) continue;
    const fresh = vectors.map(({ name }, i) => assign(name, reader.fresh!(vectorAt(walk, i, reader.e).at)));
    w.emit(when(row.isNew, fresh));
  }
  return read.map(([key, value = key]) => ({ key: key!.vectors, value: value!.vectors }));
}

/** Of variables, since a new row takes the place of what memory holds. */
function readRow(walk: Walk, { e }: RowReader, { at }: Row): Ref[] {
  return range(vectorsOf(walk, e)).map((i) => walk.w.variable("x", at(vectorAt(walk, i, e).at)));
}

/** An invocation's part of the product of a query and a key. */
function dotOf({ w }: Walk, query: readonly Expr[], key: readonly Expr[]): Expr {
  const products = query.map((q, i) => ({ q, x: key[i]! }));
  const [first, ...rest] = products;
  const all = w.variable("dot", op("mul", first!.q, first!.x));
  for (const { q, x } of rest) w.emit(assign(all.name, timesPlus(q, x, all)));
  return w.bind("part_of_dot", sum(all));
}

/** The sums of what the invocations of a team have, by fours: a device without subgroups has them wait for each. */
function together({ w, perKey }: Walk, values: readonly Expr[]): Expr[] {
  if (perKey === 1) return [...values];
  const fours = range(Math.floor(values.length / 4)).flatMap((i) => {
    const four = w.combine("dots", "add", intrinsic("join4", ...values.slice(4 * i, 4 * i + 4)), perKey);
    return range(4).map((lane) => extract(four, lane));
  });
  const rest = values.slice(fours.length).map((value) => w.combine("dot", "add", value, perKey));
  return [...fours, ...rest];
}

function timesPlus(a: Expr, b: Expr, c: Expr): Expr {
  return c.type.lanes > 1 ? intrinsic("fma", a, b, c) : op("add", op("mul", a, b), c);
}
