/**
 * The vectors of a block of rows that an invocation multiplies where there is one token: every so many-th, all of one row, as
 * many of them on their way from memory at once as registers hold.
 */
import {
  cast,
  type Expr,
  extract,
  iadd,
  idiv,
  imul,
  int,
  intrinsic,
  irem,
  num,
  op,
  type Ref,
  select,
  splat,
} from "../../ir/kernel/kernel.ts";
import { assign } from "../../ir/kernel/stmt.ts";
import { codesOf, type Dot, type RowScales, readsSums, scalesOf, shareOf, weightBytes } from "./dot-group-parts.ts";
import type { StagedInput } from "./dot-input.ts";
import { range } from "./index-math.ts";
import type { Together } from "./writer.ts";

/** Vectors of a group of a block. */
export const perGroup = 8;

/** So many vectors are loaded at once where these are all. */
const mostAtOnce = 12;
/** Else so many of more, best first. */
const vectorsAtOnce = [8, 7, 6, 5, 4, 3];

interface LoadedVector {
  readonly j: Expr;
  readonly g: Expr;
  readonly bytes: Expr;
  readonly ofRow: RowScales;
  /** Whether it is one of the row's; left out where it must be. */
  readonly counts?: Expr;
}

export class Vectors {
  readonly #dot: Dot;
  readonly #own: Together;
  readonly #count: number;
  readonly #idx: readonly Expr[];
  readonly #block: Expr;
  readonly #row: Expr;
  readonly #atOnce: number;
  /** Whether all are loaded at once. */
  readonly #all: boolean;
  /** Loaded before the others. */
  #first: readonly LoadedVector[] = [];

  /** Of `own.size` invocations this is number `own.lane`, which multiplies `row` of `block`. */
  constructor(dot: Dot, own: Together, idx: readonly Expr[], block: Expr, row: Expr) {
    const count = dot.groups * perGroup;
    const each = count / own.size;
    this.#dot = dot;
    this.#own = own;
    this.#count = count;
    this.#idx = idx;
    this.#block = block;
    this.#row = row;
    this.#all = Math.ceil(each) <= mostAtOnce;
    const some = () => vectorsAtOnce.find((some) => each % some === 0) ?? 6;
    this.#atOnce = this.#all ? Math.ceil(each) : some();
  }

  /** Loads the first ones now, while something else is computed that they do not need. */
  loadFirst(): void {
    this.#first = this.#load(this.#own.lane);
  }

  /** Adds the products of all vectors. */
  add(sum: Ref, input: StagedInput): void {
    const { w } = this.#dot;
    const { size } = this.#own;
    const add = (loaded: readonly LoadedVector[]) => {
      for (const each of loaded) addVector(this.#dot, sum, each, input);
    };
    add(this.#first);
    if (this.#all) return;
    const done = this.#first.length * size;
    const step = size * this.#atOnce;
    const whole = this.#count - ((this.#count - done) % step);
    // The first of each iteration's vectors ends so far before the last.
    const most = whole - done - (this.#atOnce - 1) * size;
    const { lane } = this.#own;
    if (most > 0) w.strided({ lane, size: step }, "j", most, (j) => add(this.#load(iadd(j, int(done)))));
    if (whole < this.#count) {
      w.strided(this.#own, "j", this.#count - whole, (j) => add(this.#load(iadd(j, int(whole)), 1)));
    }
  }

  #load(first: Expr, count = this.#atOnce): readonly LoadedVector[] {
    return range(count).map((i) => {
      const j = iadd(first, int(i * this.#own.size));
      if (!this.#all || (i + 1) * this.#own.size <= this.#count) return this.#loadOne(j);
      // Past the end the last one is loaded again, and counts as nothing.
      const counts = this.#dot.w.bind("counts", op("lt", j, int(this.#count)));
      const last = this.#dot.w.bind("last", op("min", j, int(this.#count - 1)));
      return { ...this.#loadOne(last), counts };
    });
  }

  #loadOne(j: Expr): LoadedVector {
    const dot = this.#dot;
    const g = dot.w.bind("g", idiv(j, int(perGroup)));
    const bytes = weightBytes(dot, this.#idx, this.#block, j);
    return { j, g, bytes, ofRow: scalesOf(dot, this.#idx, this.#block, g, this.#row, 1) };
  }
}

/** Adds the product of a vector of a row. */
function addVector(dot: Dot, sum: Ref, { j, g, bytes, ofRow, counts }: LoadedVector, input: StagedInput): void {
  const { w, bits } = dot;
  const codes = codesOf(dot, bytes);
  // Sixteen codes of the input at a time: a group's two, or the one that the vector has of it.
  const at = (i: number) => (bits === 4 ? iadd(imul(g, int(2)), int(i)) : idiv(j, int(4)));
  const fours = codes.reduce<Expr>(
    (dots, each, i) => intrinsic("dot4s8", dots, w.bind("x", input.codes(at(i))), each),
    splat(int(0), 4),
  );
  const four = w.bind("dot", fours);
  const product = [1, 2, 3].reduce((all, i) => iadd(all, extract(four, i)), extract(four, 0));
  const known = input.scale(g);
  const scale = counts === undefined ? known : select(counts, known, num("f32", 0));
  const factor = op("mul", ofRow.scale, scale);
  w.emit(assign(sum.name, intrinsic("fma", cast("f32", product), factor, sum)));
  if (!readsSums(dot)) return;
  // What a group has once is added with its first vector of the row.
  const first = bits === 4 ? counts : both(op("lt", irem(j, int(perGroup)), int(dot.block)), counts);
  const total = input.sum(g);
  const once = first === undefined ? total : select(first, total, num("f32", 0));
  w.emit(assign(sum.name, intrinsic("fma", once, shareOf(dot, ofRow), sum)));
}

const both = (a: Expr, b: Expr | undefined): Expr => (b === undefined ? a : op("and", a, b));
