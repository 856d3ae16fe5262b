/** A Link between threads: messages go in pieces through rings of shared memory; who cannot go on sleeps at its bell. */
import { CompilerError, InternalError } from "../../ir/errors.ts";
import type { ExchangeId, Incoming, Link, Outgoing } from "./link.ts";
import { bellCell, type MeshMemory, readCell, ring, stopCell, stopMesh, writtenCell } from "./shared-memory.ts";

export interface SharedLinkOptions {
  /** How long an exchange may take, in milliseconds. */
  readonly deadlineMs: number;
  /** How long to look for something to move before sleeping; waking costs tens of microseconds. */
  readonly spinMs: number;
  /** Does something useful for others while it looks; whether there was any. */
  readonly help?: () => boolean;
}

/** Before each message: step, tag, and its bytes. */
const headerBytes = 12;

/** A message on its way: header and content, and how far it is. */
interface Flow {
  readonly peer: number;
  readonly sends: boolean;
  readonly header: Uint8Array;
  readonly expected: Uint8Array;
  readonly bytes: Uint8Array;
  done: number;
}

/** One end of a ring. */
interface RingEnd {
  readonly bytes: Uint8Array;
  readonly written: number;
  readonly read: number;
}

export class SharedLink implements Link {
  /** Rings know one order: that of the program. */
  readonly interleaves = false;
  readonly #memory: MeshMemory;
  readonly #rank: number;
  readonly #cells: Int32Array;
  readonly #options: SharedLinkOptions;
  readonly #ends = new Map<string, RingEnd>();

  constructor(memory: MeshMemory, rank: number, options: SharedLinkOptions) {
    this.#memory = memory;
    this.#rank = rank;
    this.#cells = new Int32Array(memory.cells);
    this.#options = options;
  }

  exchange(id: ExchangeId, sends: readonly Outgoing[], receives: readonly Incoming[]): void {
    let open: readonly Flow[] = [
      ...sends.map(({ to, tag, bytes }) => flow(id.step, tag, to, bytes, true)),
      ...receives.map(({ from, tag, into }) => flow(id.step, tag, from, into, false)),
    ];
    const start = performance.now();
    const bell = bellCell(this.#rank);
    while (open.length > 0) {
      // Looked at before anything else, so that what happens from here on is not slept through.
      const heard = Atomics.load(this.#cells, bell);
      if (Atomics.load(this.#cells, stopCell) !== 0) throw this.#stopped(id);
      if (this.#advance(open, id)) open = open.filter((each) => !isDone(each));
      else this.#wait(heard, start, open, id);
    }
  }

  stop(): void {
    stopMesh(this.#memory, null);
  }

  /** Moves what can be moved; whether anything could. */
  #advance(open: readonly Flow[], id: ExchangeId): boolean {
    const blocked = new Set<string>();
    let moved = false;
    for (const each of open) {
      const way = `${each.sends} ${each.peer}`;
      if (blocked.has(way)) continue;
      if (this.#move(each, id)) moved = true;
      // Messages of one way follow each other.
      if (!isDone(each)) blocked.add(way);
    }
    return moved;
  }

  #move(each: Flow, id: ExchangeId): boolean {
    const end = this.#end(each);
    const size = end.bytes.length;
    const [written, read] = [Atomics.load(this.#cells, end.written), Atomics.load(this.#cells, end.read)];
    // Counters wrap around; the difference does not.
    const filled = (written - read) | 0;
    let [room, at] = each.sends ? [size - filled, written] : [filled, read];
    const before = room;
    while (room > 0 && !isDone(each)) {
      const inHeader = each.done < headerBytes;
      const [part, offset] = inHeader ? [each.header, each.done] : [each.bytes, each.done - headerBytes];
      const place = (at >>> 0) % size;
      const count = Math.min(room, part.length - offset, size - place);
      if (each.sends) end.bytes.set(part.subarray(offset, offset + count), place);
      else part.set(end.bytes.subarray(place, place + count), offset);
      each.done += count;
      room -= count;
      at = (at + count) | 0;
      if (!each.sends && each.done === headerBytes) this.#check(each, id);
    }
    if (room === before) return false;
    Atomics.store(this.#cells, each.sends ? end.written : end.read, at);
    Atomics.add(this.#cells, bellCell(each.peer), 1);
    Atomics.notify(this.#cells, bellCell(each.peer));
    return true;
  }

  #end({ peer, sends }: Flow): RingEnd {
    const key = `${sends} ${peer}`;
    let end = this.#ends.get(key);
    if (end === undefined) {
      const [from, to] = sends ? [this.#rank, peer] : [peer, this.#rank];
      const memory = this.#memory;
      end = {
        bytes: ring(memory, from, to),
        written: writtenCell(memory, from, to),
        read: readCell(memory, from, to),
      };
      this.#ends.set(key, end);
    }
    return end;
  }

  #check({ peer, header, expected }: Flow, id: ExchangeId): void {
    if (header.every((byte, i) => byte === expected[i])) return;
    const show = (bytes: Uint8Array) => {
      const [step, tag, length] = new Int32Array(bytes.slice().buffer);
      return `message ${tag} of step ${step} with ${length} bytes`;
    };
    throw new InternalError(this.#where(id), `expected from rank ${peer} ${show(expected)}, got ${show(header)}`);
  }

  #wait(heard: number, start: number, open: readonly Flow[], id: ExchangeId): void {
    const { spinMs, deadlineMs, help = () => false } = this.#options;
    const bell = bellCell(this.#rank);
    const deadline = start + deadlineMs;
    let spinEnd = performance.now() + spinMs;
    while (performance.now() < Math.min(spinEnd, deadline)) {
      for (let turn = 0; turn < 64; turn++) {
        if (Atomics.load(this.#cells, bell) !== heard) return;
        if (!help()) continue;
        // Who is late has more to give away before long. That took time: whether any is left is looked at first.
        spinEnd = performance.now() + spinMs;
        break;
      }
    }
    // Helping may have taken beyond the deadline what came before it.
    if (Atomics.load(this.#cells, bell) !== heard) return;
    const left = deadline - performance.now();
    if (left <= 0) {
      const peers = [...new Set(open.map(({ peer }) => peer))].join(", ");
      const what = `expected an exchange with rank ${peers} within ${deadlineMs} ms, got none`;
      throw new CompilerError("internal", this.#where(id), what, { hint: "A rank hangs, or the deadline is short." });
    }
    Atomics.wait(this.#cells, bell, heard, left);
  }

  #stopped(id: ExchangeId): CompilerError {
    const by = Atomics.load(this.#cells, stopCell);
    const why = by < 0 ? "the mesh is closed" : `rank ${by - 1} has failed`;
    return new CompilerError("internal", this.#where(id), why);
  }

  #where({ step, exchange }: ExchangeId): string {
    return `rank ${this.#rank}, step ${step}, exchange ${exchange}`;
  }
}

function flow(step: number, tag: number, peer: number, bytes: Uint8Array, sends: boolean): Flow {
  const expected = new Uint8Array(Int32Array.of(step, tag, bytes.length).buffer);
  return { peer, sends, header: sends ? expected : new Uint8Array(headerBytes), expected, bytes, done: 0 };
}

function isDone({ done, bytes }: Flow): boolean {
  return done === headerBytes + bytes.length;
}
