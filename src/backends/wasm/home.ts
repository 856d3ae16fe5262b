/**
 * Where the programs of a device live: its memory and its threads, which are made when the first array or program comes.
 * A program that needs more than 32-bit addresses reach gets 64-bit ones, and so does everything after it.
 */
import { UnsupportedError } from "../../ir/errors.ts";
import type { FuncPlan, Plan } from "../../ir/plan.ts";
import { byteSize } from "../../ir/types.ts";
import { Workspace } from "../workspace.ts";
import { type AddressType, narrow, wide } from "./address-type.ts";
import type { Allotment } from "./allotment.ts";
import { Host, openProgram } from "./guests.ts";
import { machineMemory, startWorker } from "./machine.ts";
import { DeviceMemory } from "./memory.ts";
import { ThreadPool } from "./pool.ts";
import { hasWideMemory } from "./probe.ts";
import type { ModuleOptions, ProgramEntry } from "./program.ts";
import type { Rules } from "./rules.ts";

export interface HomeOptions {
  /** Programs that need more bytes than this get 64-bit addresses. Default: 4 GiB, less room for what comes later. */
  readonly narrowBytes?: number;
  /** Where the first array lies. Default: at the start. */
  readonly start?: number;
  /** Operations that a chunk of a shared launch has at least. Default: what is worth sharing. */
  readonly smallest?: number;
  /** See `DeviceOptions`. */
  readonly threadUrl?: string | undefined;
  readonly guests?: number | undefined;
  /** Bytes of memory that the machine has. Default: what it says, undefined where it does not. */
  readonly machineBytes?: number | undefined;
}

/** A program and the addresses that its entry takes. */
export interface Placed {
  readonly built: ProgramEntry & { readonly scratchBytes: number };
  readonly module: WebAssembly.Module;
  readonly args: readonly number[];
  /** Where its scratch comes from. */
  readonly memory: Allotment;
}

/** A program that can be run. */
export interface Bound {
  readonly run: (signal?: AbortSignal) => void | Promise<void>;
  readonly forget: () => void;
}

/** Other buckets of a model share its weights, caches and arenas, but larger ones need larger arenas, and results of their own. */
const laterBytes = 512 * 2 ** 20;
const gibibyte = 2 ** 30;
/** Operations, ten microseconds: most of the time nobody comes, and cutting a launch makes it a little slower. */
const smallestForGuests = 2 ** 19;

export class Home {
  readonly rules: Rules;
  readonly #wanted: number;
  readonly #options: HomeOptions;
  #memory: DeviceMemory | null = null;
  /** Intermediate values of the program that runs. */
  readonly arenas = this.#workspace("the arena");
  /**
   * By thread: one that comes late to a step that is over may still write to its scratch, which must then be nothing that
   * another thread uses.
   */
  readonly #scratches: Workspace<number>[] = [];
  #pool: ThreadPool | null = null;
  #host: Host | null = null;
  #closed = false;

  /** `threads`: how many should compute, where memory can be shared. */
  constructor(rules: Rules, threads: number, options: HomeOptions = {}) {
    this.rules = rules;
    this.#wanted = threads;
    this.#options = options;
  }

  get memory(): DeviceMemory {
    this.#memory ??= new DeviceMemory(narrow, this.#options.start);
    return this.#memory;
  }

  /** Null where the calling thread computes alone. */
  get pool(): ThreadPool | null {
    if (this.threads > 1 && !this.#closed) this.#pool ??= this.#startPool();
    return this.#pool;
  }

  get threads(): number {
    return typeof SharedArrayBuffer === "undefined" ? 1 : this.#wanted;
  }

  get guests(): number {
    return typeof SharedArrayBuffer === "undefined" ? 0 : (this.#options.guests ?? 0);
  }

  /** Null where nobody helps the calling thread. */
  get host(): Host | null {
    if (this.guests > 0) this.#host ??= new Host(this.memory.memory);
    return this.#host;
  }

  get summary(): string {
    const simd = this.rules.tier === "relaxed" ? "relaxed SIMD" : "SIMD";
    const alone = this.#wanted > 1 ? " (no shared memory: the page is not cross-origin isolated)" : "";
    const threads = this.threads === 1 ? `one thread${alone}` : `${this.threads} threads`;
    return `WebAssembly, ${simd}, ${threads}${this.#memory?.address === wide ? ", 64-bit addresses" : ""}`;
  }

  get moduleOptions(): ModuleOptions {
    const { shared, address } = this.memory;
    const { smallest = this.guests > 0 ? smallestForGuests : undefined } = this.#options;
    const threads = this.threads + this.guests;
    return { rules: this.rules, shared, address, threads, ...(smallest !== undefined && { smallest }) };
  }

  /** Chooses how wide addresses are, by the first bytes asked for. @throws UnsupportedError for what cannot fit. */
  prepareFor(bytes: number): void {
    const { machineBytes = machineMemory(), narrowBytes, start } = this.#options;
    const need = `the program needs ${show(bytes)} for weights, caches and intermediate values`;
    const hint = "Use smaller weights (quantised), a smaller cache or a shorter context.";
    if (machineBytes !== undefined && bytes > machineBytes) {
      throw new UnsupportedError("wasm memory", `${need}, and the machine has ${show(machineBytes)}`, { hint });
    }
    if (this.#memory !== null) return;
    let address: AddressType = bytes > (narrowBytes ?? 4 * gibibyte - laterBytes) ? wide : narrow;
    if (address === wide && !hasWideMemory()) {
      if (bytes > 4 * gibibyte) {
        const limit = "the engine has no 64-bit addresses (memory64), so its memory ends at 4 GiB";
        throw new UnsupportedError("wasm memory", `${need}, and ${limit}`, {
          hint: `${hint} Node 24 has them, and Chrome 133.`,
        });
      }
      address = narrow;
    }
    this.#memory = new DeviceMemory(address, start);
  }

  /** A step of a program, on all threads; and what lets them forget it. */
  bind(placed: Placed): Bound {
    const { pool, host } = this;
    const { tickets } = placed.built;
    const scratches = Array.from({ length: this.threads + this.guests }, (_, thread) => this.#scratch(placed, thread));
    if (host !== null) {
      const [own, ...others] = scratches as [number | bigint, ...(number | bigint)[]]; // of one thread at least
      return { run: host.bind({ ...this.#called(placed), scratches: others, tickets }, own), forget: () => {} };
    }
    if (pool === null) return { run: this.bindHere(placed), forget: () => {} };
    const id = pool.load({ ...this.#called(placed), scratch: (thread) => scratches[thread]!, tickets });
    return { run: (signal) => pool.run(id, signal), forget: () => pool.forget(id) };
  }

  /** A step of a program on the calling thread, with what it imports besides the memory. */
  bindHere(placed: Placed, imports: WebAssembly.ModuleImports = {}): () => void {
    return openProgram(this.#called(placed), this.#scratch(placed, 0), this.memory.memory, imports).run;
  }

  #called({ built, module, args }: Placed) {
    return { module, entry: built.entry, args: args.map((address) => this.#value(address)) };
  }

  #scratch({ built, memory }: Placed, thread: number): number | bigint {
    this.#scratches[thread] ??= this.#workspace("scratch");
    return this.#value(memory.share(this.#scratches[thread], built.scratchBytes));
  }

  #workspace(what: string): Workspace<number> {
    return new Workspace(
      (bytes) => this.memory.allocate(bytes, () => what),
      (at) => this.memory.free(at),
    );
  }

  #startPool(): ThreadPool {
    const { threadUrl } = this.#options;
    return new ThreadPool(this.memory.memory, this.threads, (events) => startWorker(events, threadUrl));
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#pool?.close();
  }

  /** An address as the program takes it. */
  #value(address: number): number | bigint {
    return this.memory.address === wide ? BigInt(address) : address | 0;
  }
}

function show(bytes: number): string {
  return `${bytes} bytes (${(bytes / gibibyte).toFixed(2)} GiB)`;
}

/** Bytes of a program in memory: weights of every layer, parameters, results, arena. */
export function bytesOf(plan: Plan): number {
  const entry = plan.funcs.get(plan.entry)!;
  const weights = (func: FuncPlan): number =>
    func.weights.reduce((sum, { type }) => sum + byteSize(type), 0) +
    func.steps.reduce((sum, step) => sum + (step.step === "call" ? weights(plan.funcs.get(step.func)!) : 0), 0);
  const own = entry.results.filter((_, i) => (entry.donated[i] ?? null) === null);
  const values = [...entry.params, ...own].reduce((sum, { type }) => sum + byteSize(type), 0);
  return weights(entry) + values + entry.arenaBytes;
}
