/**
 * Lowering of `dotGroups` for GPUs, whose invocations multiply four codes of each of four rows by one load of 16 bytes (a
 * *chunk*). Codes of weights become signed, so that only another zero point than the middle needs the sum of the input's.
 *
 * - *rows*: few tokens. Some invocations of a workgroup share a quad of rows and take its chunks in turn, so that together
 *   they read one stretch of memory; each loaded chunk serves a tile of tokens.
 * - *tiles*: many tokens. An invocation computes four tokens of a quad of rows; its neighbours, in a square, read the same
 *   inputs and weights at about the same time.
 */
import { invariant } from "../../ir/errors.ts";
import { attrsOf, type Node } from "../../ir/graph.ts";
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
  ref,
  select,
  splat,
} from "../../ir/kernel/kernel.ts";
import { assign, note, store, variable, when } from "../../ir/kernel/stmt.ts";
import { valueType } from "../../ir/kernel/value.ts";
import { dotGroup } from "../../ir/ops/dot.ts";
import type { Workgroup } from "../../ir/target.ts";
import type { Group } from "../fuse.ts";
import { clampTo, flatten } from "./index-math.ts";
import type { KernelWriter } from "./writer.ts";

interface Dot {
  readonly w: KernelWriter;
  readonly group: Group;
  readonly bits: number;
  /** Zero point of the codes after they became signed. */
  readonly rest: number;
  readonly lead: readonly number[];
  readonly quads: number;
  readonly groups: number;
  readonly tokens: number;
}

/** Indices of the tile's tokens. */
type Tokens = readonly (readonly Expr[])[];

export function lowerDotWorkgroup(w: KernelWriter, anchor: Node, group: Group, workgroup: Workgroup): void {
  const { bits, zero } = attrsOf(anchor) as { bits: number; zero: number }; // the op's attributes
  const lead = anchor.type.shape.slice(0, -1);
  const packed = anchor.ins[3]!.type.shape;
  const [quads, groups] = packed.slice(-5) as [number, number]; // as packed
  const last = packed.length === 5 ? (lead.at(-1) ?? 1) : 1;
  const tokens = dividing(last, [4, 2, 1]);
  const dot: Dot = { w, group, bits, rest: zero - (bits === 4 ? 8 : 128), lead, quads, groups, tokens };
  if (last >= 16 && tokens === 4) lowerTiles(dot, last);
  else lowerRows(dot, workgroup);
}

/** Invocations that a GPU wants at least: enough loads on their way to keep its memory busy. */
const busy = 1 << 16;

function lowerRows(dot: Dot, { invocations }: Workgroup): void {
  const { w, bits, quads, groups, tokens } = dot;
  const chunks = groups * bits;
  let perQuad = Math.min(32, invocations);
  while (perQuad < Math.min(128, invocations) && perQuad * quads < busy && chunks >= 2 * perQuad) perQuad *= 2;
  const together = Math.max(1, Math.min(invocations, 128) / perQuad);
  w.emit(note(`${tokens} tokens by ${together} quads of rows, ${perQuad} invocations a quad`));
  const body = (idx: Tokens, firstQuad: Expr): void =>
    w.workgroup(perQuad * together, ({ lane }) => {
      const mine = w.bind("quad", iadd(firstQuad, idiv(lane, int(perQuad))));
      const start = w.bind("start", irem(lane, int(perQuad)));
      // What is past the end is computed from the last quad and not stored.
      const quad = quads % together === 0 ? mine : w.bind("inside", clampTo(mine, quads));
      const sums = idx.map(() => sumOfRows(w));
      w.strided({ lane: start, size: perQuad }, "j", chunks, (j) => addChunk(dot, sums, idx, quad, j));
      const totals = sums.map((sum) => w.combine("total", "add", sum, perQuad));
      storeRows(dot, totals, idx, { quad, start, inside: op("lt", mine, int(quads)) });
    });
  overLead(dot, tokens, (idx) => w.loop("q", quads, (quad) => body(idx, quad), "grid", together));
}

/** Adds the products of chunk `j` of a quad of rows to the sums of the tile's tokens. */
function addChunk(dot: Dot, sums: readonly Ref[], idx: Tokens, quad: Expr, j: Expr): void {
  const { w, bits } = dot;
  const [g, chunk] = [w.bind("g", idiv(j, int(bits))), w.bind("c", irem(j, int(bits)))];
  const codes = codesOf(dot, weightBytes(dot, idx[0]!, quad, j));
  const scale = w.bind("scale", rowScales(dot, 4, idx[0]!, quad, g));
  const minimum = minimumsOf(dot, idx[0]!, quad, g);
  const first = op("eq", chunk, int(0));
  for (const [t, sum] of sums.entries()) {
    const inputs = codes.map((_, half) => {
      const k = iadd(imul(g, int(dotGroup)), iadd(imul(chunk, int(4)), int(16 * half)));
      return w.bind("x", intrinsic("repeat4", bytesAt(dot, 0, idx[t]!, k, 4)));
    });
    const products = inputs.reduce<Expr>(
      (total, x, half) => intrinsic("dot4s8", total, x, codes[half]!),
      splat(int(0), 4),
    );
    // What a group has once is added with its first chunk.
    const once = (value: Expr) => select(first, value, num("f32", 0));
    addGroup(dot, sum, idx[t]!, g, { products, scale, minimum, once });
  }
}

interface OwnRow {
  readonly quad: Expr;
  /** Which of the quad's invocations this is. */
  readonly start: Expr;
  /** Whether the quad is one of the result's. */
  readonly inside: Expr;
}

/** The first four invocations of a quad store a row each. */
function storeRows(dot: Dot, totals: readonly Expr[], idx: Tokens, { quad, start, inside }: OwnRow): void {
  const { w, group, lead, quads } = dot;
  // Every invocation has a row, since what the epilogue sums may stand before the condition below.
  const each = w.bind("each", irem(start, int(4)));
  const row = w.bind("row", iadd(imul(quad, int(4)), each));
  const stores = w.nested(() => {
    for (const [t, total] of totals.entries()) {
      const at = [...idx[t]!, row];
      const [x, y, z, last] = [0, 1, 2, 3].map((i) => extract(total, i)) as [Expr, Expr, Expr, Expr];
      const own = select(
        op("lt", each, int(2)),
        select(op("eq", each, int(0)), x, y),
        select(op("eq", each, int(2)), z, last),
      );
      w.hold(group.anchor, () => own);
      w.emit(store(w.out, flatten(at, [...lead, quads * 4]), w.value(group.root, at)));
    }
  });
  w.emit(when(op("and", op("lt", start, int(4)), inside), stores));
}

function lowerTiles(dot: Dot, last: number): void {
  const { w, quads, tokens } = dot;
  const [high, wide] = [dividing(last, [16, 8, 4]), dividing(quads, [8, 4, 2, 1])];
  w.emit(note(`an invocation for ${tokens} tokens by 4 rows, squares of ${high} tokens by ${4 * wide} rows`));
  const grid = (hint: string, to: number, step: number, body: (i: Expr) => void) =>
    w.loop(hint, to, body, "grid", step);
  overLead(dot, high, ([at]) =>
    grid("q", quads, wide, (firstQuad) =>
      grid("t", high, tokens, (t) =>
        grid("r", wide, 1, (r) => {
          const first = iadd(at!.at(-1)!, t);
          const idx = range(tokens).map((i) => at!.with(-1, iadd(first, int(i))));
          writeSquare(dot, idx, iadd(firstQuad, r));
        }),
      ),
    ),
  );
}

/** What one invocation computes: the tile's tokens by a quad of rows. */
function writeSquare(dot: Dot, idx: Tokens, quad: Expr): void {
  const { w, group, bits, lead, quads, groups } = dot;
  const sums = idx.map(() => sumOfRows(w));
  w.loop("g", groups, (g) => {
    const halves = idx.map((at) =>
      [0, 16].map((k) => w.bind("codes", bytesAt(dot, 0, at, iadd(imul(g, int(dotGroup)), int(k)), 16))),
    );
    const products: Expr[] = idx.map(() => splat(int(0), 4));
    for (let chunk = 0; chunk < bits; chunk++) {
      const codes = codesOf(dot, weightBytes(dot, idx[0]!, quad, iadd(imul(g, int(bits)), int(chunk))));
      for (const t of idx.keys()) {
        for (const [half, code] of codes.entries()) {
          const four = chunk + 4 * half;
          const x = intrinsic("spread4", halves[t]![four >> 2]!, int(four & 3));
          products[t] = intrinsic("dot4s8", products[t]!, x, code);
        }
        products[t] = w.bind("dot", products[t]!);
      }
    }
    const scale = w.bind("scale", rowScales(dot, 4, idx[0]!, quad, g));
    const minimum = minimumsOf(dot, idx[0]!, quad, g);
    for (const [t, sum] of sums.entries()) {
      addGroup(dot, sum, idx[t]!, g, { products: products[t]!, scale, minimum, once: (value) => value });
    }
  });
  for (const [t, sum] of sums.entries()) {
    for (const each of [0, 1, 2, 3]) {
      const at = [...idx[t]!, iadd(imul(quad, int(4)), int(each))];
      w.hold(group.anchor, () => extract(sum, each));
      w.emit(store(w.out, flatten(at, [...lead, quads * 4]), w.value(group.root, at)));
    }
  }
}

/** Grid loops over the leading indices, the last in steps; the body gets those of the step's tokens. */
function overLead({ w, lead, tokens }: Dot, step: number, body: (idx: Tokens) => void): void {
  const enter = (axis: number, idx: readonly Expr[]): void => {
    if (axis === lead.length) {
      body(range(lead.length === 0 ? 1 : tokens).map((t) => (t === 0 ? idx : idx.with(-1, iadd(idx.at(-1)!, int(t))))));
      return;
    }
    w.loop(
      "nkl"[axis] ?? "l",
      lead[axis]!,
      (i) => enter(axis + 1, [...idx, i]),
      "grid",
      axis === lead.length - 1 ? step : 1,
    );
  };
  enter(0, []);
}

function sumOfRows(w: KernelWriter): Ref {
  const sum = ref(w.unique("sum"), valueType("f32", 4));
  w.emit(variable(sum.name, splat(num("f32", 0), 4)));
  return sum;
}

/** Chunk `j` of all chunks of a quad. */
function weightBytes(dot: Dot, idx: readonly Expr[], quad: Expr, j: Expr): Expr {
  const { w, group, bits } = dot;
  const weights = group.anchor.ins[3]!;
  const element = w.value(weights, [...own(weights, idx, 5), quad, int(0), int(0), int(0), int(0)]);
  invariant(element.k === "load", () => "a dot reads its operands from memory");
  // Chunks of a quad lie one after another, whichever group they are of.
  invariant(weights.type.shape.at(-3) === bits, () => "chunks as packed");
  return w.bind("bytes", {
    ...element,
    index: iadd(element.index, imul(j, int(16))),
    type: valueType("u8", 16),
  });
}

/** Signed codes of a chunk: one vector, or two where a byte holds two codes, which are then 16 times as large. */
function codesOf({ w, bits }: Dot, bytes: Expr): readonly Expr[] {
  if (bits === 8) return [w.bind("codes", intrinsic("less128", bytes))];
  return [w.bind("low", intrinsic("low4s", bytes)), w.bind("high", intrinsic("high4s", bytes))];
}

interface Parts {
  readonly products: Expr;
  readonly scale: Expr;
  readonly minimum: Expr | undefined;
  /** A value that counts once in a group. */
  readonly once: (value: Expr) => Expr;
}

/** sum += xScale * (scale * (products - rest * xSum) + minimum * xSum) */
function addGroup(dot: Dot, sum: Ref, idx: readonly Expr[], g: Expr, { products, scale, minimum, once }: Parts): void {
  const { w, group, bits, rest } = dot;
  const [xScale, xSum] = [group.anchor.ins[1]!, group.anchor.ins[2]!];
  const at = (node: Node) => w.value(node, [...own(node, idx, 1), g]);
  const inputScale = w.bind("x_scale", finiteScale(at(xScale)));
  // A power of two, so exact.
  const size = bits === 4 ? op("mul", inputScale, num("f32", 1 / 16)) : inputScale;
  const factor = op("mul", scale, splat(size, 4));
  w.emit(assign(sum.name, intrinsic("fma", cast("f32", products), factor, sum)));
  if (rest === 0 && minimum === undefined) return;
  const total = w.bind("x_sum", once(op("mul", inputScale, at(xSum))));
  const share = op("mul", scale, splat(num("f32", -rest), 4));
  const each = minimum === undefined ? share : op("add", share, minimum);
  w.emit(assign(sum.name, intrinsic("fma", splat(total, 4), each, sum)));
}

/** The scales (operand 4) or minimums (5) of a quad's rows in a group. */
function rowScales({ w, group }: Dot, operand: number, idx: readonly Expr[], quad: Expr, g: Expr): Expr {
  const node = group.anchor.ins[operand]!;
  const element = w.value(node, [...own(node, idx, 3), quad, g, int(0)]);
  invariant(element.k === "load", () => "a dot reads its operands from memory");
  return intrinsic("finite", { ...element, type: valueType("f32", 4) });
}

/** Scales are bounded when they are made, so that none is infinite. */
function finiteScale(value: Expr): Expr {
  return value.k === "load" ? intrinsic("finite", value) : value;
}

function minimumsOf(dot: Dot, idx: readonly Expr[], quad: Expr, g: Expr): Expr | undefined {
  return dot.group.anchor.ins.length < 6 ? undefined : dot.w.bind("least", rowScales(dot, 5, idx, quad, g));
}

/** Consecutive bytes of an operand from element `k` of its last axis. */
function bytesAt({ w, group }: Dot, operand: number, idx: readonly Expr[], k: Expr, lanes: number): Expr {
  const node = group.anchor.ins[operand]!;
  const element = w.value(node, [...own(node, idx, 1), k]);
  invariant(element.k === "load", () => "a dot reads its operands from memory");
  return { ...element, type: valueType("i8", lanes) };
}

/** The leading indices that an operand has. */
function own(node: Node, idx: readonly Expr[], trailing: number): readonly Expr[] {
  return idx.slice(0, node.type.shape.length - trailing);
}

const range = (length: number): number[] => Array.from({ length }, (_, i) => i);

/** The first of these sizes that divides. */
function dividing(size: number, sizes: readonly number[]): number {
  return sizes.find((each) => size % each === 0) ?? 1;
}
