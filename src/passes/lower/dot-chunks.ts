/**
 * The chunks of a block of rows that an invocation multiplies where there are few tokens: every so many-th, as many of
 * them on their way from memory at once as registers hold.
 */
import { type Expr, iadd, idiv, imul, int, intrinsic, irem, num, op, select, splat } from "../../ir/kernel/kernel.ts";
import { dotGroup } from "../../ir/ops/dot.ts";
import {
  addGroup,
  bytesAt,
  codesOf,
  type Dot,
  type RowScales,
  type Sums,
  scalesOf,
  weightBytes,
} from "./dot-group-parts.ts";
import type { StagedInput } from "./dot-input.ts";
import { range } from "./index-math.ts";
import type { Together } from "./writer.ts";

/** Indices of the tile's tokens. */
export type Tokens = readonly (readonly Expr[])[];

/** Chunks of a group: of four codes each. */
export const perGroup = dotGroup / 4;

/** So many chunks are loaded at once where these are all. */
const mostAtOnce = 6;
/** Else so many of more, best first. */
const chunksAtOnce = [6, 7, 5, 4, 3, 8];

interface LoadedChunk {
  readonly j: Expr;
  readonly g: Expr;
  readonly chunk: Expr;
  readonly bytes: Expr;
  readonly ofRows: readonly RowScales[];
  /** Whether it is one of the row's; left out where it must be. */
  readonly counts?: Expr;
}

export class Chunks {
  readonly #dot: Dot;
  readonly #own: Together;
  readonly #chunks: number;
  readonly #idx: Tokens;
  readonly #block: Expr;
  readonly #atOnce: number;
  /** Whether all are loaded at once. */
  readonly #all: boolean;
  /** Loaded before the others. */
  #first: readonly LoadedChunk[] = [];

  constructor(dot: Dot, own: Together, chunks: number, idx: Tokens, block: Expr) {
    const each = chunks / own.size;
    this.#dot = dot;
    this.#own = own;
    this.#chunks = chunks;
    this.#idx = idx;
    this.#block = block;
    this.#all = Math.ceil(each) <= mostAtOnce;
    const some = () => chunksAtOnce.find((count) => each % count === 0) ?? 4;
    this.#atOnce = this.#all ? Math.ceil(each) : some();
  }

  /** Loads the first ones now, while something else is computed that they do not need. */
  loadFirst(): void {
    this.#first = this.#load(this.#own.lane);
  }

  /** Adds the products of all chunks. */
  add(sums: Sums, staged: StagedInput | null): void {
    const { w } = this.#dot;
    const { lane, size } = this.#own;
    const add = (loaded: readonly LoadedChunk[]) => {
      for (const each of loaded) addChunk(this.#dot, sums, this.#idx, each, staged);
    };
    if (this.#all) {
      add(this.#first.length > 0 ? this.#first : this.#load(lane));
      return;
    }
    add(this.#first);
    const done = this.#first.length * size;
    const step = size * this.#atOnce;
    const whole = this.#chunks - ((this.#chunks - done) % step);
    // The first of each iteration's chunks ends so far before the last.
    const most = whole - done - (this.#atOnce - 1) * size;
    if (most > 0) w.strided({ lane, size: step }, "j", most, (j) => add(this.#load(iadd(j, int(done)))));
    if (whole < this.#chunks) {
      w.strided(this.#own, "j", this.#chunks - whole, (j) => add(this.#load(iadd(j, int(whole)), 1)));
    }
  }

  #load(first: Expr, count = this.#atOnce): readonly LoadedChunk[] {
    return range(count).map((i) => {
      const j = iadd(first, int(i * this.#own.size));
      if (!this.#all || (i + 1) * this.#own.size <= this.#chunks) return this.#loadOne(j);
      // Past the end the last one is loaded again, and counts as nothing.
      const counts = this.#dot.w.bind("counts", op("lt", j, int(this.#chunks)));
      const last = this.#dot.w.bind("last", op("min", j, int(this.#chunks - 1)));
      return { ...this.#loadOne(last), counts };
    });
  }

  #loadOne(j: Expr): LoadedChunk {
    const { w, fours } = this.#dot;
    const [idx] = this.#idx as [Tokens[number]]; // never empty
    const [g, chunk] = [w.bind("g", idiv(j, int(perGroup))), w.bind("c", irem(j, int(perGroup)))];
    const bytes = weightBytes(this.#dot, idx, this.#block, j);
    return {
      j,
      g,
      chunk,
      bytes,
      ofRows: range(fours).map((four) => scalesOf(this.#dot, idx, this.#block, g, int(4 * four))),
    };
  }
}

/** Adds the products of a chunk of a block of rows to the sums of the tile's tokens. */
function addChunk(dot: Dot, sums: Sums, idx: Tokens, loaded: LoadedChunk, staged: StagedInput | null): void {
  const { w } = dot;
  const { j, g, chunk, bytes, ofRows, counts } = loaded;
  const codes = codesOf(dot, bytes);
  const first = op("eq", chunk, int(0));
  for (const [t, own] of sums.entries()) {
    const k = iadd(imul(g, int(dotGroup)), imul(chunk, int(4)));
    const x = w.bind("x", intrinsic("repeat4", staged?.codes(j) ?? bytesAt(dot, 0, idx[t]!, k, 4)));
    // What a group has once is added with its first chunk.
    const once = (value: Expr) => select(first, value, num("f32", 0));
    const products = codes.map((code) => intrinsic("dot4s8", splat(int(0), 4), x, code));
    addGroup(dot, own, idx[t]!, g, { products, ofRows, once, ...(counts && { counts }) });
  }
}
