/**
 * A rank's share of steps that choose their own tokens: the last stage has the ids of a step and sends them to the first,
 * which needs them for the next; nobody asks the one who drives. Ranks of one stage have the same ids without a message.
 */
import { InternalError } from "../../ir/errors.ts";
import { coordsOf, type Mesh, rankCount } from "../../ir/mesh.ts";
import { fillBatch } from "../steps/padded-batch.ts";
import type { RaggedBatch } from "../steps/step.ts";
import type { BoundRank } from "./bind-rank.ts";
import type { Link } from "./link.ts";
import type { Command, RankDecode } from "./messages.ts";

export interface DecodeRank {
  readonly rank: number;
  readonly mesh: Mesh;
  readonly link: Link;
  /** Bound to the sampling program of the bucket. */
  readonly bound: BoundRank;
  /** Of a sequence, in the bucket. */
  readonly blocks: number;
  readonly blockSize: number;
  /** Whether it is the one of its stage that hands out results. */
  readonly speaks: boolean;
}

/** Larger than the number of any exchange within a step. */
const idsTag = 2 ** 30;

export async function runDecode(
  self: DecodeRank,
  { step, run, before, uniforms }: Extract<Command, { kind: "decode" }>,
): Promise<RankDecode> {
  const { bound, blocks, blockSize, speaks } = self;
  const { batch, options } = run;
  const rows = batch.tokens.length;
  const steps = uniforms.length / rows;
  const exchangeTokens = bindTokens(self, rows);
  const ids = new Int32Array(uniforms.length);
  let exchangeMs = 0;
  const begin = performance.now();
  const own = bound.input("tokens");
  bound.input("options")?.set(options);
  for (let i = 0; i < steps; i++) {
    const moved = movedBy(batch, before + i, blockSize);
    // After the first step of a run tokens are in place.
    const tokens = before + i === 0 || own === undefined ? batch.tokens : Int32Array.from(own.subarray(0, rows));
    fillBatch((name) => bound.input(name), { ...moved, tokens }, blocks);
    bound.input("uniforms")?.set(uniforms.subarray(i * rows, (i + 1) * rows));
    exchangeMs += await bound.run(step + i);
    const result = bound.result(0);
    const start = performance.now();
    const next = await exchangeTokens(
      step + i,
      result === undefined ? null : Int32Array.from(result.subarray(0, rows)),
    );
    exchangeMs += performance.now() - start;
    if (next === null) continue;
    ids.set(next, i * rows);
    own?.set(next.map((id) => Math.max(id, 0)));
  }
  const ms = performance.now() - begin;
  return { ids: bound.result(0) !== undefined && speaks ? ids : null, ms, exchangeMs };
}

/** The batch so many steps later, but for its tokens. */
function movedBy(batch: RaggedBatch, steps: number, blockSize: number): RaggedBatch {
  const positions = batch.positions.map((position) => position + steps);
  const slots = positions.map((position, i) => {
    const block = batch.blockTables[batch.sequence[i]!]?.[Math.floor(position / blockSize)];
    if (block === undefined) throw new InternalError("decode", `no block for position ${position} of row ${i}`);
    return block * blockSize + (position % blockSize);
  });
  return { ...batch, positions, slots };
}

/** What brings the ids of a step to where they are needed: this rank gives its own, if it has any, and gets them if it needs them. */
function bindTokens({ rank, mesh, link, bound, speaks }: DecodeRank, rows: number) {
  const { pp: stages = 1 } = mesh;
  const stageOf = (each: number) => coordsOf(mesh, each).pp ?? 0;
  const ranks = Array.from({ length: rankCount(mesh) }, (_, each) => each);
  const [first, last] = [0, stages - 1].map((stage) => ranks.filter((each) => stageOf(each) === stage)) as [
    number[],
    number[],
  ]; // of two
  const speaker = last[0]!; // whose other coordinates are 0
  return async (step: number, ids: Int32Array | null): Promise<Int32Array | null> => {
    if (stages === 1) return ids;
    const id = { step, exchange: idsTag };
    if (ids !== null) {
      const bytes = new Uint8Array(ids.buffer, ids.byteOffset, ids.byteLength);
      if (speaks)
        await link.exchange(
          id,
          first.map((to) => ({ to, tag: idsTag, bytes })),
          [],
        );
      return ids;
    }
    if (!first.includes(rank) || bound.input("tokens") === undefined) return null;
    const into = new Int32Array(rows);
    await link.exchange(id, [], [{ from: speaker, tag: idsTag, into: new Uint8Array(into.buffer) }]);
    return into;
  };
}
