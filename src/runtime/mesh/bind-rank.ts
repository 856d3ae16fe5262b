/**
 * One rank's program bound to memory: its pieces compiled, their weights read, the values between them in place. A value
 * has one memory for all pieces: results of one piece are parameters of the next without a copy.
 */
import { type CompileOptions, type Device, type Executable, loadCompiled } from "../../compile.ts";
import type { RankProgram } from "../../compile-ranks.ts";
import type { Plan } from "../../ir/plan.ts";
import { type Tensor, type TensorData, zeros } from "../../ir/tensor.ts";
import { byteSize, showType, type TensorType } from "../../ir/types.ts";
import { compiledWeightBytes, type WeightStore } from "../weights/weight-store.ts";
import { bindExchange } from "./bind-exchange.ts";
import type { Link } from "./link.ts";
import { entryOf, type PlannedPiece, planRank } from "./plan-rank.ts";
import type { ValuePlaces } from "./value-places.ts";

export interface BoundRank {
  /** Memory of a parameter; undefined where this rank does not use it. */
  input(name: string): TensorData | undefined;
  /** Memory of a result of the whole program; undefined where another rank computes it. */
  result(i: number): TensorData | undefined;
  /** Gives the milliseconds that exchanges took, waiting for other ranks included. */
  run(step: number): Promise<number>;
}

export interface RankHome {
  readonly rank: number;
  readonly device: Device;
  readonly weights: WeightStore;
  readonly link: Link;
  readonly compile: CompileOptions;
  /** Whether the first result of a program is only handed out, by the first rank of a group: then others need not have it. */
  readonly handsOut: boolean;
  /** Pieces compiled so far, by their text. */
  readonly known: Map<string, Executable>;
}

/** Caches are parameters whose result, by number, is to lie where they do. */
export interface RankCaches {
  /** The memory of a parameter that is a cache, of this length; undefined for others. */
  readonly memory: (name: string, allocate: () => TensorData) => TensorData | undefined;
  /** Bytes of caches besides those of one space. */
  readonly moreBytes: number;
  /** The number of the result that is the cache afterwards. */
  readonly result: (name: string) => number | undefined;
}

export async function bindRank(program: RankProgram, home: RankHome, caches: RankCaches): Promise<BoundRank> {
  const { device, compile, known, weights } = home;
  const { pieces, places } = planRank(program, { target: device.target, compile, known });
  const plans = pieces.flatMap((piece) => (piece === null ? [] : [piece.plan]));
  // Each piece is small; together they may need more than memory for the first would be made for.
  device.expect?.(bytesOf(plans, places) + caches.moreBytes);
  for (const plan of plans) await weights.load(plan);
  const binder = new Binder(program, home, places);
  binder.bindParams(caches);
  for (const [at, piece] of pieces.entries()) {
    if (piece !== null) binder.bindPiece(at, piece);
    binder.bindExchanges(at);
  }
  binder.bindCaches(caches);
  return binder;
}

/** Weights, values between pieces, and the largest of the arenas, which pieces share. */
function bytesOf(plans: readonly Plan[], { types }: ValuePlaces): number {
  const weights = plans.reduce((sum, plan) => sum + compiledWeightBytes(plan), 0);
  const values = types.reduce((sum, type) => sum + byteSize(type), 0);
  return weights + values + Math.max(0, ...plans.map((plan) => entryOf(plan).arenaBytes));
}

type Launch = (step: number) => void | Promise<void>;

/** What a run consists of, in order; exchanges are timed. */
interface Stage {
  readonly launch: Launch;
  readonly exchanges: boolean;
}

/** Gives every value its memory, in the order in which values come to be. */
class Binder implements BoundRank {
  readonly #program: RankProgram;
  readonly #home: RankHome;
  readonly #places: ValuePlaces;
  /** By place. */
  readonly #memory: TensorData[] = [];
  readonly #scratch = new Map<string, Tensor>();
  readonly #stages: Stage[] = [];

  constructor(program: RankProgram, home: RankHome, places: ValuePlaces) {
    this.#program = program;
    this.#home = home;
    this.#places = places;
  }

  input(name: string): TensorData | undefined {
    const param = this.#program.pieces.params.find((each) => each.name === name);
    return param && this.#at(param.value);
  }

  result(i: number): TensorData | undefined {
    const place = this.#program.results.indexOf(i);
    return place < 0 ? undefined : this.#at(this.#program.pieces.results[place]!);
  }

  async run(step: number): Promise<number> {
    let ms = 0;
    for (const { launch, exchanges } of this.#stages) {
      const start = performance.now();
      await launch(step);
      if (exchanges) ms += performance.now() - start;
    }
    return ms;
  }

  bindParams(caches: RankCaches): void {
    const { device } = this.#home;
    for (const { name, value } of this.#program.pieces.params) {
      const cache = caches.memory(name, () => device.allocate(this.#typeOf(value), "resident"));
      if (cache !== undefined) this.#memory[this.#places.placeOf[value]!] = cache;
    }
  }

  bindPiece(at: number, { key, compiled, plan }: PlannedPiece): void {
    const { device, known, compile, weights } = this.#home;
    const executable = known.get(key) ?? loadCompiled(compiled, device, compile);
    known.set(key, executable);
    const piece = this.#program.pieces.pieces[at]!;
    const entry = entryOf(plan);
    const given = new Map(piece.results.map((value, i) => [i, this.#at(value)]));
    const params = piece.params.map((value, i): [string, TensorData] => {
      const { name } = entry.params[i]!;
      const memory = this.#at(value);
      const result = given.get(entry.donated.indexOf(i));
      // A piece that leaves a result in the memory of a parameter that others read later gets a copy.
      if (result === undefined || result === memory) return [name, memory];
      this.#add(() => result.set(memory));
      return [name, result];
    });
    const memory = { weight: weights.lookup(plan), params: new Map(params), results: given };
    const instance = executable.program.instantiate(memory);
    this.#add(() => instance.run());
  }

  bindExchanges(at: number): void {
    const { rank, link } = this.#home;
    const { exchanges } = this.#program.pieces.pieces[at]!;
    if (exchanges.length === 0) return;
    const launch = bindExchange(exchanges, at, {
      program: this.#program,
      rank,
      link,
      memory: (value) => this.#at(value),
      scratch: (type, i) => this.#scratchOf(type, i),
      handedOut: (value) => this.#home.handsOut && this.#isFirstResult(value) && !this.#isReadIn(value),
    });
    this.#add(launch, true);
  }

  /** A cache that was not updated where it lies is copied there. */
  bindCaches(caches: RankCaches): void {
    for (const { name, value } of this.#program.pieces.params) {
      const number = caches.result(name);
      const updated = number === undefined ? undefined : this.result(number);
      const cache = this.#at(value);
      if (updated !== undefined && updated !== cache) this.#add(() => cache.set(updated));
    }
  }

  #add(launch: Launch, exchanges = false): void {
    this.#stages.push({ launch, exchanges });
  }

  #at(value: number): TensorData {
    const place = this.#places.placeOf[value]!;
    this.#memory[place] ??= this.#home.device.allocate(this.#places.types[place]!);
    return this.#memory[place];
  }

  #scratchOf(type: TensorType, i: number): Tensor {
    const key = `${showType(type)} ${i}`;
    const tensor = this.#scratch.get(key) ?? zeros(type.dtype, type.shape);
    this.#scratch.set(key, tensor);
    return tensor;
  }

  #typeOf(value: number): TensorType {
    return this.#program.pieces.values[value]!;
  }

  #isFirstResult(value: number): boolean {
    const place = this.#program.results.indexOf(0);
    return place >= 0 && this.#program.pieces.results[place] === value;
  }

  /** Whether a piece or an exchange reads it. */
  #isReadIn(value: number): boolean {
    return this.#program.pieces.pieces.some(
      ({ params, exchanges }) => params.includes(value) || exchanges.some(({ operand }) => operand === value),
    );
  }
}
