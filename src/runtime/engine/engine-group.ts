/**
 * Engines of equal models as one (data parallelism): a request goes to the one with the fewest, and stays there with its
 * cache. When the runner of one has failed for good, the others go on with its requests: they compute the tokens so far
 * again. Where no other is left, requests end with its error.
 */
import type { Engine, EngineOptions, EngineRequest, EngineStats } from "./engine.ts";
import type { Generation } from "./generation.ts";

/** What takes requests. */
export interface RequestEngine {
  readonly stats: EngineStats;
  readonly add: (request: EngineRequest) => Generation;
  readonly close: () => Promise<void>;
}

export interface Replica {
  readonly start: (options: Pick<EngineOptions, "handOver">) => Engine;
  /** Whether it can still run. */
  readonly alive: () => boolean;
}

interface Member {
  readonly engine: Engine;
  readonly alive: () => boolean;
}

export class EngineGroup implements RequestEngine {
  readonly #replicas: readonly Member[];

  /** At least one. */
  constructor(replicas: readonly Replica[]) {
    this.#replicas = replicas.map(({ start, alive }) => ({
      // A failure that leaves its runner alive is the request's own.
      engine: start({ handOver: (request) => !alive() && this.#leastBusy()?.engine.adopt(request) === true }),
      alive,
    }));
  }

  /** Sums over all engines. */
  get stats(): EngineStats {
    const all = this.#replicas.map(({ engine }) => engine.stats);
    const sum = (name: keyof EngineStats) => all.reduce((total, stats) => total + stats[name], 0);
    return {
      running: sum("running"),
      waiting: sum("waiting"),
      freeBlocks: sum("freeBlocks"),
      usedBlocks: sum("usedBlocks"),
      preemptions: sum("preemptions"),
      steps: sum("steps"),
    };
  }

  /** @throws InputError as `Engine.add` */
  add(request: EngineRequest): Generation {
    // Where none is alive, the error of the first says why.
    return (this.#leastBusy() ?? this.#replicas[0]!).engine.add(request);
  }

  #leastBusy(): Member | undefined {
    const load = ({ engine }: Member) => engine.stats.running + engine.stats.waiting;
    return this.#replicas.filter(({ alive }) => alive()).sort((a, b) => load(a) - load(b))[0];
  }

  async close(): Promise<void> {
    await Promise.all(this.#replicas.map(({ engine }) => engine.close()));
  }
}
