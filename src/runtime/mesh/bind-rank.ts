/**
 * One rank's program bound to memory: its pieces compiled, their weights read, the values between them in place. A value
 * has one memory for all pieces: results of one piece are parameters of the next without a copy.
 */
import { type CompileOptions, compile, type Device, type Executable } from "../../compile.ts";
import type { RankProgram } from "../../compile-ranks.ts";
import type { TensorData } from "../../ir/tensor.ts";
import type { WeightStore } from "../weight-store.ts";
import { bindExchange } from "./bind-exchange.ts";
import type { Link } from "./link.ts";

export interface BoundRank {
  /** Memory of a parameter; undefined where this rank does not use it. */
  readonly input: (name: string) => TensorData | undefined;
  /** Memory of a result of the whole program; undefined where another rank computes it. */
  readonly result: (i: number) => TensorData | undefined;
  readonly run: (step: number) => Promise<void>;
}

export interface RankHome {
  readonly rank: number;
  readonly device: Device;
  readonly weights: WeightStore;
  readonly link: Link;
  readonly compile: CompileOptions;
}

/** Caches are parameters whose result, by number, is to lie where they do. */
export interface RankCaches {
  /** The memory of a parameter that is a cache, of this length; undefined for others. */
  readonly memory: (name: string, allocate: () => TensorData) => TensorData | undefined;
  /** The number of the result that is the cache afterwards. */
  readonly result: (name: string) => number | undefined;
}

export async function bindRank(program: RankProgram, home: RankHome, caches: RankCaches): Promise<BoundRank> {
  const { device, weights, link, rank } = home;
  const { values, params, pieces, results } = program.pieces;
  const compiled: (Executable | null)[] = [];
  for (const { module } of pieces) {
    const executable = module === null ? null : compile(module, device, home.compile);
    if (executable !== null) await weights.load(executable.plan);
    compiled.push(executable);
  }
  const memory: TensorData[] = [];
  for (const { name, value } of params) {
    const type = values[value]!;
    memory[value] = caches.memory(name, () => device.allocate(type, "resident")) ?? device.allocate(type);
  }
  const after = (at: number, value: number) =>
    program.pieces.results.includes(value) ||
    pieces.some(
      (piece, i) =>
        (i > at && piece.params.includes(value)) ||
        (i >= at && piece.exchanges.some(({ operand }) => operand === value)),
    );
  const launches: ((step: number) => void | Promise<void>)[] = [];
  for (const [at, piece] of pieces.entries()) {
    const executable = compiled[at];
    if (executable != null) {
      const entry = executable.plan.funcs.get(executable.plan.entry)!;
      const given = piece.params.map((value, i) => {
        // A piece that leaves a result in the memory of a parameter that others read later gets a copy.
        if (!entry.donated.includes(i) || !after(at, value)) return memory[value]!;
        const copy = device.allocate(values[value]!);
        launches.push(() => copy.set(memory[value]!));
        return copy;
      });
      const instance = executable.instantiate({
        weight: weights.lookup(executable.plan),
        params: new Map(entry.params.map(({ name }, i) => [name, given[i]!])),
      });
      for (const [i, value] of piece.results.entries()) memory[value] = instance.results[i]!;
      launches.push(() => instance.run());
    }
    if (piece.exchanges.length === 0) continue;
    for (const { result } of piece.exchanges) if (result !== null) memory[result] = device.allocate(values[result]!);
    launches.push(bindExchange(piece.exchanges, at, program, rank, (value) => memory[value]!, link));
  }
  const resultOf = (i: number): TensorData | undefined => {
    const place = program.results.indexOf(i);
    return place < 0 ? undefined : memory[results[place]!];
  };
  for (const { name, value } of params) {
    const number = caches.result(name);
    const updated = number === undefined ? undefined : resultOf(number);
    const cache = memory[value]!;
    if (updated !== undefined && updated !== cache) launches.push(() => cache.set(updated));
  }
  const numbers = new Map(params.map(({ name, value }) => [name, value]));
  return {
    input: (name) => (numbers.has(name) ? memory[numbers.get(name)!] : undefined),
    result: resultOf,
    run: async (step) => {
      for (const launch of launches) await launch(step);
    },
  };
}
