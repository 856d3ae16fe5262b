/**
 * Byte-pair encoding: the adjacent pair of the lowest rank is merged, leftmost first, until no pair has a rank.
 * A heap of candidate pairs makes it O(n log n); merging by scanning takes seconds on one long word.
 */

export interface MergeTable {
  /** The place of this pair in the list of merges, or -1. */
  rank(left: number, right: number): number;
  /** The token that the pair of this rank becomes. */
  merged(rank: number): number;
}

/** A merge: left, right and merged token ids. */
export type Merge = readonly [left: number, right: number, merged: number];

/** @param vocabSize above every token id */
export function mergeTable(merges: readonly Merge[], vocabSize: number): MergeTable {
  const ranks = new Map<number, number>();
  const results = Int32Array.from(merges, ([, , merged]) => merged);
  merges.forEach(([left, right], rank) => {
    ranks.set(left * vocabSize + right, rank);
  });
  return {
    rank: (left, right) => ranks.get(left * vocabSize + right) ?? -1,
    merged: (rank) => results[rank]!,
  };
}

/** Positions stay below 2^31 and ranks below 2^20, so a rank and a position fit in one exact double, ordered by rank first. */
const positions = 2 ** 31;

/** Merges `symbols` in place and returns the part that holds the result. */
export function mergePairs(symbols: Int32Array, table: MergeTable): Int32Array {
  const n = symbols.length;
  if (n < 2) return symbols;
  const next = Int32Array.from(symbols, (_, i) => i + 1);
  const previous = Int32Array.from(symbols, (_, i) => i - 1);
  // At most n - 1 pairs at the start and two new ones for each of n - 1 merges.
  const heap = new Float64Array(3 * n);
  let size = 0;

  const consider = (at: number): void => {
    const after = next[at]!;
    if (after >= n) return;
    const rank = table.rank(symbols[at]!, symbols[after]!);
    if (rank >= 0) siftUp(heap, size++, rank * positions + at);
  };

  for (let i = 0; i < n - 1; i++) consider(i);
  while (size > 0) {
    const key = heap[0]!;
    siftDown(heap, --size, heap[size]!);
    const rank = Math.floor(key / positions);
    const at = key % positions;
    const after = next[at]!;
    // A merge nearby may have taken one of the two, or put another in its place.
    if (symbols[at]! < 0 || after >= n || table.rank(symbols[at]!, symbols[after]!) !== rank) continue;
    symbols[at] = table.merged(rank);
    symbols[after] = -1;
    next[at] = next[after]!;
    if (next[at]! < n) previous[next[at]!] = at;
    if (previous[at]! >= 0) consider(previous[at]!);
    consider(at);
  }
  let length = 0;
  for (let i = 0; i < n; i = next[i]!) symbols[length++] = symbols[i]!;
  return symbols.subarray(0, length);
}

/** Puts `key` into a heap whose free place is `at`. */
function siftUp(heap: Float64Array, at: number, key: number): void {
  while (at > 0) {
    const parent = (at - 1) >> 1;
    if (heap[parent]! <= key) break;
    heap[at] = heap[parent]!;
    at = parent;
  }
  heap[at] = key;
}

/** Puts `key` into a heap of `size` whose root was taken. */
function siftDown(heap: Float64Array, size: number, key: number): void {
  let at = 0;
  for (;;) {
    let child = 2 * at + 1;
    if (child >= size) break;
    if (child + 1 < size && heap[child + 1]! < heap[child]!) child++;
    if (heap[child]! >= key) break;
    heap[at] = heap[child]!;
    at = child;
  }
  heap[at] = key;
}
