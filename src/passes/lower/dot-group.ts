/**
 * Lowering of `dotGroups` for GPUs. An invocation multiplies vectors of 16 bytes, each of one row (16 codes, or 32 where a byte
 * holds two), so that a group takes one conversion and one scale for all of them. Codes of weights become signed, so that only
 * another zero point than the middle needs the sum of the input's.
 *
 * - *one token*: some invocations of a workgroup share a block of rows and take its vectors in turn, so that together they
 *   read one stretch of memory (`dot-vectors.ts`).
 * - *several tokens*: each loaded vector serves all tokens of a tile (`dot-tokens.ts`), or where the device has matrix units
 *   and is told to use them, these multiply (`dot-tiles.ts`).
 */

import { UnsupportedError } from "../../ir/errors.ts";
import { attrsOf, type Node } from "../../ir/graph.ts";
import { type Expr, iadd, idiv, imul, int, irem, num, op } from "../../ir/kernel/kernel.ts";
import { note, store, when } from "../../ir/kernel/stmt.ts";
import { dotBlock, pairBits } from "../../ir/ops/dot.ts";
import type { Workgroup } from "../../ir/target.ts";
import type { Group } from "../fuse.ts";
import { lowerDotExperts } from "./dot-experts.ts";
import type { Dot } from "./dot-group-parts.ts";
import { copyInput, stageInput } from "./dot-input.ts";
import { lowerDotTiles } from "./dot-tiles.ts";
import { lowerDotTokens } from "./dot-tokens.ts";
import { perGroup, Vectors } from "./dot-vectors.ts";
import { clampTo, flatten } from "./index-math.ts";
import type { KernelWriter } from "./writer.ts";

export function lowerDotWorkgroup(w: KernelWriter, anchor: Node, group: Group, workgroup: Workgroup): void {
  const { bits, zero } = attrsOf(anchor) as { bits: number; zero: number }; // the op's attributes
  if (bits === pairBits) throw new UnsupportedError("dotGroups", `pairs of codes on target ${w.target.name}`);
  const lead = anchor.type.shape.slice(0, -1);
  const packed = anchor.ins[3]!.type.shape;
  const [blocks, groups] = packed.slice(-5) as [number, number]; // as packed
  const last = packed.length === 5 ? (lead.at(-1) ?? 1) : 1;
  const dot: Dot = {
    w,
    group,
    bits,
    rest: zero - (bits === 4 ? 8 : 128),
    ...{ lead, blocks, block: dotBlock(bits), groups },
  };
  const { matrices } = w.target;
  if (last >= 16 && matrices && lowerDotTiles(dot, workgroup, matrices)) return;
  if (last > 1) lowerDotTokens(dot, workgroup);
  else if (!lowerDotExperts(dot, workgroup)) lowerRows(dot, workgroup);
}

/** Invocations that a GPU wants at least: enough loads on their way to keep its memory busy. */
const busy = 1 << 16;

/** Invocations that share a block: more while the GPU is not busy, unless each has few vectors left. */
function invocationsOf({ blocks, groups, lead }: Dot, { invocations }: Workgroup): number {
  const each = groups * perGroup;
  const all = blocks * lead.reduce((product, size) => product * size, 1);
  let perBlock = Math.min(32, invocations);
  while (perBlock < Math.min(256, invocations)) {
    const least = perBlock * all < busy / 2 ? 4 : 16;
    if (perBlock * all >= busy || each < least * perBlock) break;
    perBlock *= 2;
  }
  return perBlock;
}

function lowerRows(dot: Dot, workgroup: Workgroup): void {
  const { w, group, lead, blocks, block: rows } = dot;
  const perBlock = invocationsOf(dot, workgroup);
  // What is quantised, or copied, serves as many blocks as may be.
  const together = Math.max(1, Math.min(workgroup.invocations, 256) / perBlock);
  w.emit(note(`a token by ${together} blocks of ${rows} rows, ${perBlock} invocations a block`));
  const body = (idx: readonly Expr[], firstBlock: Expr): void =>
    w.workgroup(perBlock * together, ({ lane, size }) => {
      const mine = w.bind("block", iadd(firstBlock, idiv(lane, int(perBlock))));
      const start = w.bind("start", irem(lane, int(perBlock)));
      // What is past the end is computed from the last block and not stored.
      const block = blocks % together === 0 ? mine : w.bind("inside", clampTo(mine, blocks));
      const own = w.bind("own", irem(start, int(rows)));
      const sum = w.variable("sum", num("f32", 0));
      const walk = new Vectors(dot, { lane: start, size: perBlock }, idx, block, own);
      walk.loadFirst();
      const [codes] = group.anchor.ins as [Node]; // and more
      // Codes without a buffer are computed here.
      const input = w.isBuffer(codes)
        ? copyInput(dot, idx, { lane, size }, workgroup.bytes)
        : stageInput(dot, idx, { lane, size });
      walk.add(sum, input);
      const over = perBlock / rows;
      const total = over > 1 ? w.combine("total", "add", sum, over, rows) : sum;
      const row = w.bind("row", iadd(imul(block, int(rows)), own));
      // Every invocation has a row, since what the epilogue sums may stand before the condition below.
      const stores = w.nested(() => {
        const at = [...idx, row];
        w.hold(group.anchor, () => total);
        w.emit(store(w.out, flatten(at, [...lead, blocks * rows]), w.value(group.root, at)));
      });
      const inside = op("lt", mine, int(blocks));
      w.emit(when(op("and", op("lt", start, int(rows)), inside), stores));
    });
  overLead(dot, (idx) => w.loop("b", blocks, (block) => body(idx, block), "grid", together));
}

/** Grid loops over the leading indices. */
function overLead({ w, lead }: Dot, body: (idx: readonly Expr[]) => void): void {
  const enter = (axis: number, idx: readonly Expr[]): void => {
    if (axis === lead.length) body(idx);
    else w.loop("nkl"[axis] ?? "l", lead[axis]!, (i) => enter(axis + 1, [...idx, i]), "grid");
  };
  enter(0, []);
}
