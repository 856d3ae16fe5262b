/**
 * Engines of equal models as one (data parallelism): a request goes to the one with the fewest, and stays there with its
 * cache. Requests of an engine whose runner has failed end with its error; later ones go to the others.
 */
import type { Engine, EngineRequest, EngineStats } from "./engine.ts";
import type { Generation } from "./generation.ts";

/** What takes requests. */
export interface RequestEngine {
  readonly stats: EngineStats;
  readonly add: (request: EngineRequest) => Generation;
  readonly close: () => Promise<void>;
}

export interface Replica {
  readonly engine: RequestEngine | Engine;
  /** Whether it can still run. */
  readonly alive: () => boolean;
}

export class EngineGroup implements RequestEngine {
  readonly #replicas: readonly Replica[];

  /** At least one. */
  constructor(replicas: readonly Replica[]) {
    this.#replicas = replicas;
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
    const alive = this.#replicas.filter((each) => each.alive());
    // Where none is, the error of the first says why.
    const possible = alive.length > 0 ? alive : this.#replicas.slice(0, 1);
    const load = ({ engine }: Replica) => engine.stats.running + engine.stats.waiting;
    return possible.reduce((best, each) => (load(each) < load(best) ? each : best)).engine.add(request);
  }

  async close(): Promise<void> {
    await Promise.all(this.#replicas.map(({ engine }) => engine.close()));
  }
}
