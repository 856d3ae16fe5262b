/**
 * One rank's program bound to memory: its pieces compiled, their weights read, the values between them in place. A value
 * has one memory for all pieces: results of one piece are parameters of the next without a copy.
 */
import {
  type Compiled,
  type CompileOptions,
  compileToPlan,
  type Device,
  type Executable,
  loadCompiled,
  overridesFor,
  type Program,
} from "../../compile.ts";
import { absoluteLayers, type RankProgram, relativeLayers } from "../../compile-ranks.ts";
import { isOp, type Module, topoOrder } from "../../ir/graph.ts";
import type { FuncPlan, Plan } from "../../ir/plan.ts";
import { printModule } from "../../ir/print.ts";
import { type Tensor, type TensorData, zeros } from "../../ir/tensor.ts";
import { byteSize, showType, type TensorType } from "../../ir/types.ts";
import { compiledWeightBytes, type WeightStore } from "../weights/weight-store.ts";
import { bindExchange } from "./bind-exchange.ts";
import type { Link } from "./link.ts";
import { placeValues, type ValuePlaces } from "./value-places.ts";

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

export async function bindRank(rankProgram: RankProgram, home: RankHome, caches: RankCaches): Promise<BoundRank> {
  const { pieces } = rankProgram.pieces;
  const compiler = new PieceCompiler(home);
  const planned = pieces.map(({ module }) => (module === null ? null : compiler.plan(module)));
  const plans = planned.flatMap((piece) => (piece === null ? [] : [piece.plan]));
  // Each piece is small; together they may need more than memory for the first would be made for.
  const places = placeValues(rankProgram.pieces, (at) => (planned[at] ? entryOf(planned[at].plan).donated : []));
  home.device.expect?.(bytesOf(plans, places) + caches.moreBytes);
  for (const plan of plans) await home.weights.load(plan);
  const binder = new Binder(rankProgram, home, places);
  binder.bindParams(caches);
  for (const [at, piece] of planned.entries()) {
    if (piece !== null) binder.bindPiece(at, compiler.load(piece));
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

function entryOf(plan: Plan): FuncPlan {
  return plan.funcs.get(plan.entry)!;
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

  bindPiece(at: number, { plan, program }: CompiledPiece): void {
    const { weights } = this.#home;
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
    const instance = program.instantiate({ weight: weights.lookup(plan), params: new Map(params), results: given });
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
    this.#stages.push({ launch, exchanges: true });
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

  #add(launch: Launch): void {
    this.#stages.push({ launch, exchanges: false });
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

/** A piece as it is compiled, and its plan with the names that its weights have in the checkpoint. */
interface PlannedPiece {
  /** Of pieces of equal text. */
  readonly key: string;
  readonly compiled: Compiled;
  readonly plan: Plan;
}

interface CompiledPiece {
  readonly plan: Plan;
  readonly program: Program;
}

/** Compiles pieces that differ in the number of the layer alone once. */
class PieceCompiler {
  readonly #home: RankHome;
  readonly #planned = new Map<string, Compiled>();

  constructor(home: RankHome) {
    this.#home = home;
  }

  plan(module: Module): PlannedPiece {
    const { device, known } = this.#home;
    const relative = relativeLayers(module);
    const key = printModule(relative.module, { canonical: true });
    const options = this.#optionsFor(relative.module);
    const compiled = known.get(key) ?? this.#planned.get(key) ?? compileToPlan(relative.module, device.target, options);
    this.#planned.set(key, compiled);
    return { key, compiled, plan: withLayers(compiled.plan, relative.first) };
  }

  load({ key, compiled, plan }: PlannedPiece): CompiledPiece {
    const { device, known, compile: options } = this.#home;
    const executable = known.get(key) ?? loadCompiled(compiled, device, options);
    known.set(key, executable);
    return { plan, program: executable.program };
  }

  /** Overrides are checked against the model; a piece has a few of its weights. */
  #optionsFor(module: Module): CompileOptions {
    const { compile: options } = this.#home;
    if (options.quantize === undefined) return options;
    const nodes = [...module.funcs.values()].flatMap(({ outs }) => topoOrder(outs));
    const names = nodes.flatMap((node) => (isOp(node, "weight") ? [node.attrs.name] : []));
    return { ...options, quantize: overridesFor(names, options.quantize) };
  }
}

function withLayers(plan: Plan, first: number): Plan {
  const entry = plan.funcs.get(plan.entry)!;
  const named = { ...entry, weights: absoluteLayers(entry.weights, first) };
  return { ...plan, funcs: new Map(plan.funcs).set(plan.entry, named) };
}
