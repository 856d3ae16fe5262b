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
import type { Plan } from "../../ir/plan.ts";
import { printModule } from "../../ir/print.ts";
import type { TensorData } from "../../ir/tensor.ts";
import { byteSize, type TensorType } from "../../ir/types.ts";
import { compiledWeightBytes, type WeightStore } from "../weight-store.ts";
import { bindExchange } from "./bind-exchange.ts";
import type { Link } from "./link.ts";

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
  const { pieces, values } = rankProgram.pieces;
  const compiler = new PieceCompiler(home);
  const planned = pieces.map(({ module }) => (module === null ? null : compiler.plan(module)));
  const plans = planned.flatMap((piece) => (piece === null ? [] : [piece.plan]));
  // Each piece is small; together they may need more than memory for the first would be made for.
  home.device.expect?.(plans.reduce((sum, plan) => sum + bytesOf(plan), caches.moreBytes + valueBytes(values)));
  for (const plan of plans) await home.weights.load(plan);
  const binder = new Binder(rankProgram, home);
  binder.bindParams(caches);
  for (const [at, piece] of planned.entries()) {
    if (piece !== null) binder.bindPiece(at, compiler.load(piece));
    binder.bindExchanges(at);
  }
  binder.bindCaches(caches);
  return binder;
}

/** Bytes of a piece's weights and of what it computes between. */
function bytesOf(plan: Plan): number {
  return compiledWeightBytes(plan) + plan.funcs.get(plan.entry)!.arenaBytes;
}

function valueBytes(values: readonly TensorType[]): number {
  return values.reduce((sum, type) => sum + byteSize(type), 0);
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
  readonly #memory: TensorData[] = [];
  readonly #stages: Stage[] = [];

  constructor(program: RankProgram, home: RankHome) {
    this.#program = program;
    this.#home = home;
  }

  input(name: string): TensorData | undefined {
    const param = this.#program.pieces.params.find((each) => each.name === name);
    return param && this.#memory[param.value];
  }

  result(i: number): TensorData | undefined {
    const place = this.#program.results.indexOf(i);
    return place < 0 ? undefined : this.#memory[this.#program.pieces.results[place]!];
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
      const type = this.#typeOf(value);
      this.#memory[value] = caches.memory(name, () => device.allocate(type, "resident")) ?? device.allocate(type);
    }
  }

  bindPiece(at: number, { plan, program }: CompiledPiece): void {
    const { device, weights } = this.#home;
    const piece = this.#program.pieces.pieces[at]!;
    const entry = plan.funcs.get(plan.entry)!;
    const params = piece.params.map((value, i): [string, TensorData] => {
      const { name } = entry.params[i]!;
      const memory = this.#memory[value]!;
      // A piece that leaves a result in the memory of a parameter that others read later gets a copy.
      if (!entry.donated.includes(i) || !this.#isReadAfter(at, value)) return [name, memory];
      const copy = device.allocate(this.#typeOf(value));
      this.#add(() => copy.set(memory));
      return [name, copy];
    });
    const instance = program.instantiate({ weight: weights.lookup(plan), params: new Map(params) });
    for (const [i, value] of piece.results.entries()) this.#memory[value] = instance.results[i]!;
    this.#add(() => instance.run());
  }

  bindExchanges(at: number): void {
    const { device, rank, link } = this.#home;
    const { exchanges } = this.#program.pieces.pieces[at]!;
    if (exchanges.length === 0) return;
    for (const { result } of exchanges) {
      if (result !== null) this.#memory[result] = device.allocate(this.#typeOf(result));
    }
    const memory = (value: number) => this.#memory[value]!;
    const handedOut = (value: number) => this.#home.handsOut && this.#isFirstResult(value) && !this.#isReadIn(value);
    const launch = bindExchange(exchanges, at, this.#program, rank, memory, link, handedOut);
    this.#stages.push({ launch, exchanges: true });
  }

  /** A cache that was not updated where it lies is copied there. */
  bindCaches(caches: RankCaches): void {
    for (const { name, value } of this.#program.pieces.params) {
      const number = caches.result(name);
      const updated = number === undefined ? undefined : this.result(number);
      const cache = this.#memory[value]!;
      if (updated !== undefined && updated !== cache) this.#add(() => cache.set(updated));
    }
  }

  #add(launch: Launch): void {
    this.#stages.push({ launch, exchanges: false });
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

  #isReadAfter(at: number, value: number): boolean {
    const { pieces, results } = this.#program.pieces;
    if (results.includes(value)) return true;
    return pieces.some(
      ({ params, exchanges }, i) =>
        (i > at && params.includes(value)) || (i >= at && exchanges.some(({ operand }) => operand === value)),
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
