/**
 * The memory through which the threads of a mesh exchange messages: for each ordered pair of ranks a ring of bytes with
 * one writer and one reader, and for each rank a bell, a counter that others raise when they have moved something that
 * it may be waiting for, and a count of the messages that it has been sent by whoever drives.
 */

/** Plain data, so that it can be handed to threads. */
export interface MeshMemory {
  readonly ranks: number;
  /** Bytes of each ring, a power of two. */
  readonly ringBytes: number;
  readonly cells: SharedArrayBuffer;
  readonly rings: SharedArrayBuffer;
}

/** Cells of 32 bits that different threads write lie in cache lines of their own. */
const lineCells = 16;

export function meshMemory(ranks: number, ringBytes: number): MeshMemory {
  const pairs = ranks * ranks;
  return {
    ranks,
    ringBytes,
    cells: new SharedArrayBuffer(4 * lineCells * (1 + 2 * ranks + 2 * pairs)),
    // Pages that nobody touches cost nothing.
    rings: new SharedArrayBuffer(pairs * ringBytes),
  };
}

/** Not 0 once the mesh must stop: 1 plus the rank that is the reason, or -1 where no single one is. */
export const stopCell = 0;

export function bellCell(rank: number): number {
  return lineCells * (1 + rank);
}

/** Messages of whoever drives so far, modulo 2^32. */
export function postedCell({ ranks }: MeshMemory, rank: number): number {
  return lineCells * (1 + ranks + rank);
}

/** Bytes written to a ring so far, modulo 2^32; the cell of bytes read is a line later. */
export function writtenCell({ ranks }: MeshMemory, from: number, to: number): number {
  return lineCells * (1 + 2 * ranks + 2 * (from * ranks + to));
}

export function readCell(memory: MeshMemory, from: number, to: number): number {
  return writtenCell(memory, from, to) + lineCells;
}

export function ring({ ranks, ringBytes, rings }: MeshMemory, from: number, to: number): Uint8Array {
  return new Uint8Array(rings, (from * ranks + to) * ringBytes, ringBytes);
}

/** Makes every rank that waits, now or later, throw. The first reason stays. */
export function stopMesh({ cells, ranks }: MeshMemory, rank: number | null): void {
  const view = new Int32Array(cells);
  Atomics.compareExchange(view, stopCell, 0, rank === null ? -1 : 1 + rank);
  for (let each = 0; each < ranks; each++) {
    Atomics.add(view, bellCell(each), 1);
    Atomics.notify(view, bellCell(each));
  }
}
