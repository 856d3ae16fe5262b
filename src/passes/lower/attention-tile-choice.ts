/** How a workgroup of a GPU divides tokens, keys and columns of attention of many tokens. */
import type { Node } from "../../ir/graph.ts";
import type { Buf, Expr } from "../../ir/kernel/kernel.ts";
import type { Workgroup } from "../../ir/target.ts";
import type { KernelWriter, Together } from "./writer.ts";

/** Fours of columns that an invocation may have: with four rows, 16 sums each. */
const mostFours = 4;
/** Rows of a workgroup at most: more would share loads, fewer leave more workgroups to go round. */
const mostRows = 32;

export interface AttentionTile {
  readonly tokens: number;
  /** Tokens times heads of a key head. */
  readonly rows: number;
  /** Invocations that have the same four rows and divide keys and columns. */
  readonly perFour: number;
  /** Keys that are scored before their values are added. */
  readonly keys: number;
  /** Whether keys and values go through shared memory, all loads of a tile on their way together; else the cache serves. */
  readonly staged: boolean;
}

/** Everything the parts of the kernel share. */
export interface Attention extends AttentionTile {
  readonly w: KernelWriter;
  readonly q: Node;
  readonly k: Node;
  readonly v: Node;
  readonly out: Node;
  readonly scale: Expr;
  readonly heads: number;
  readonly together: Together;
  /** [row, column], and the tile's [key, column]; from one row to the next are `pitchOf` elements. */
  readonly queries: Buf;
  readonly tile: Buf | undefined;
  /** [key of the tile, row] */
  readonly weights: Buf;
}

/** From one row of `width` elements to the next: neighbours begin at different banks of the memory. */
export const pitchOf = (width: number): number => width + 4;

interface Sizes {
  readonly n: number;
  /** Heads that share a key head. */
  readonly heads: number;
  /** Elements of a key and of a value. */
  readonly d: number;
  readonly e: number;
}

export const tileSize = ({ rows, perFour }: AttentionTile): number => (rows / 4) * perFour;

/** Invocations for four rows, and keys of each in a tile: the best first. */
const shares = [
  [16, 2],
  [32, 1],
  [16, 1],
  [8, 2],
  [8, 1],
] as const;

/** Undefined where none fits. */
export function chooseAttentionTile({ n, heads, d, e }: Sizes, workgroup: Workgroup): AttentionTile | undefined {
  const fitting = (staged: boolean) =>
    shares.flatMap(([perFour, keysEach]) => {
      if (e > 4 * mostFours * perFour) return [];
      const tiles = [16, 8, 4, 2, 1].map((tokens): AttentionTile => {
        return { tokens, rows: tokens * heads, perFour, keys: keysEach * perFour, staged };
      });
      return tiles.filter((tile) => {
        const own = staged ? tile.keys * pitchOf(Math.max(d, e)) : 0;
        // With room for what is combined.
        const bytes = 4 * (tile.rows * (pitchOf(d) + tile.keys) + own) + 16 * tileSize(tile);
        const whole = tile.rows % 4 === 0 && tileSize(tile) % 32 === 0 && tileSize(tile) <= workgroup.invocations;
        return whole && tile.tokens <= n && tile.rows <= mostRows && bytes <= workgroup.bytes;
      });
    });
  for (const staged of [true, false]) {
    const found = fitting(staged);
    const most = Math.max(...found.map(({ rows }) => rows));
    const best = found.find(({ rows }) => rows === most);
    if (best !== undefined) return best;
  }
  return undefined;
}
