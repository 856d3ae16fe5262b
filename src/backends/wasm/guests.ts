/**
 * Programs that the calling thread computes while threads that wait for something else help: ranks of a mesh that are early
 * take chunks of launches of those that are late. The host is a program's first thread (see `sync.ts`). A guest looks into
 * the host's memory, takes what is open there, and leaves: it never waits, and the host waits for it while it has a chunk alone.
 */
import { invariant } from "../../ir/errors.ts";
import type { GuestOffer, GuestProgram } from "../backend.ts";
import { syncCells as cells } from "./sync.ts";

/** A program as one thread runs it. */
export interface OpenProgram {
  readonly run: () => void;
  /** Exported globals of the program. */
  readonly global: (name: string) => { value: number | bigint };
}

/** An instance of a program for one thread. */
export function openProgram(
  { module, entry, args }: Pick<GuestProgram, "module" | "entry" | "args">,
  scratch: number | bigint,
  memory: WebAssembly.Memory,
  imports: WebAssembly.ModuleImports = {},
): OpenProgram {
  const { exports } = new WebAssembly.Instance(module, { env: { memory, ...imports } });
  // The driver and the globals are exported by `buildProgram`.
  const step = exports[entry] as (...addresses: readonly (number | bigint)[]) => void;
  const global = (name: string) => exports[name] as { value: number | bigint };
  global("scratch").value = scratch;
  return { run: () => step(...args), global };
}

export class Host {
  readonly #memory: WebAssembly.Memory;
  readonly #cells: Int32Array;
  /** Programs that guests have not been told of. */
  #news: GuestProgram[] = [];
  #count = 0;
  /** The first ticket of the next step; null after one that failed, of which nobody knows what is done. */
  #ticket: number | null = 0;

  constructor(memory: WebAssembly.Memory) {
    this.#memory = memory;
    this.#cells = new Int32Array(memory.buffer, 0, 256);
  }

  /** A step of a program; `scratch` is the host's. */
  bind(given: Omit<GuestProgram, "id">, scratch: number | bigint): () => void {
    const id = ++this.#count;
    this.#news.push({ ...given, id });
    const { run, global } = openProgram(given, scratch, this.#memory);
    const ticket = global("ticket");
    return () => {
      const first = this.#ticket;
      invariant(first !== null, () => "a program runs after one that failed");
      this.#ticket = null;
      Atomics.add(this.#cells, cells.command, 1);
      Atomics.store(this.#cells, cells.program, id);
      Atomics.store(this.#cells, cells.ticket, first);
      Atomics.add(this.#cells, cells.command, 1);
      ticket.value = first;
      run();
      this.#ticket = (first + given.tickets) | 0;
    };
  }

  /** What was bound since this was asked for last. */
  offer(): GuestOffer {
    const programs = this.#news;
    this.#news = [];
    return { memory: this.#memory, programs };
  }
}

/** A thread that helps one host. */
export class Guest {
  readonly #memory: WebAssembly.Memory;
  readonly #cells: Int32Array;
  /** Of the host's guests. */
  readonly #number: number;
  readonly #programs = new Map<number, OpenProgram>();

  constructor(memory: WebAssembly.Memory, number: number) {
    this.#memory = memory;
    this.#cells = new Int32Array(memory.buffer, 0, 256);
    this.#number = number;
  }

  add(programs: readonly GuestProgram[]): void {
    for (const given of programs) {
      const program = openProgram(given, given.scratches[this.#number]!, this.#memory);
      program.global("thread").value = -1;
      this.#programs.set(given.id, program);
    }
  }

  /** Computes chunks of what is open, if anything is; whether it was. Throws what a kernel throws; then the host fails too. */
  help(): boolean {
    const memory = this.#cells;
    if (((Atomics.load(memory, cells.limit) - Atomics.load(memory, cells.next)) | 0) <= 0) return false;
    const command = Atomics.load(memory, cells.command);
    const program = this.#programs.get(Atomics.load(memory, cells.program));
    const first = Atomics.load(memory, cells.ticket);
    // Written while they were read, or not known yet.
    if (command % 2 !== 0 || Atomics.load(memory, cells.command) !== command || program === undefined) return false;
    program.global("ticket").value = first;
    try {
      program.run();
    } catch (error) {
      Atomics.store(memory, cells.stop, 1);
      // A chunk that will never be done is over as well.
      if (program.global("holds").value !== 0) Atomics.add(memory, cells.done, 1);
      Atomics.notify(memory, cells.done);
      throw error;
    }
    return true;
  }
}
