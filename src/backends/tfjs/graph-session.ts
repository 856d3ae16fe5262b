/**
 * The session of a device: TensorFlow keeps variables in a session, and a session has one graph. So a program that is new
 * makes a new session with the graphs of all programs, which takes over the caches and loads the weights again.
 */
import type { TensorData } from "../../ir/tensor.ts";
import { type HostTensor, toHost } from "./graph-bits.ts";
import type { GraphHost } from "./graph-host.ts";
import type { GraphMemory } from "./graph-memory.ts";
import { encodeModel, loadSignature, signatures, weightGroups } from "./graph-model.ts";
import type { GraphProgram, Variable } from "./graph-program.ts";

interface Opened {
  readonly id: number;
  readonly programs: ReadonlySet<string>;
  readonly caches: readonly Variable[];
}

export class GraphSession {
  readonly #host: GraphHost;
  readonly #memory: GraphMemory;
  readonly #programs = new Map<string, GraphProgram>();
  #opened: Opened | null = null;
  /** Runs come one after another. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(host: GraphHost, memory: GraphMemory) {
    this.#host = host;
    this.#memory = memory;
  }

  /** Takes part in the session from its next run on. */
  add(name: string, program: GraphProgram): void {
    this.#programs.set(name, program);
  }

  /** The program is no longer run; the next session is without it. */
  remove(name: string): void {
    this.#programs.delete(name);
  }

  /** Feeds a program from these arrays, by parameter, and gives what it fetches, by name. */
  async run(name: string, params: readonly TensorData[]): Promise<Readonly<Record<string, HostTensor["data"]>>> {
    const turn = this.#turn.then(async () => {
      const { fed } = this.#programs.get(name)!;
      const inputs = Object.fromEntries(fed.map((each) => [each.name, toHost(each.type, params[each.index]!)]));
      const id = this.#opened?.programs.has(name) === true ? this.#opened.id : await this.#reopen();
      return this.#host.run(id, name, inputs);
    });
    this.#turn = turn.catch(() => {});
    return turn;
  }

  /** A session of all programs. Caches are taken over and the old session ended before weights take memory. */
  async #reopen(): Promise<number> {
    const old = this.#opened;
    const { weights, caches } = this.#memory;
    const restored = caches.filter((cache) => old?.caches.includes(cache));
    const variables = weights.map(({ variable }) => variable);
    const programs = new Map(this.#programs);
    const id = await this.#host.open(encodeModel({ programs, weights: variables, caches, restored }));
    if (caches.length > 0) await this.#host.run(id, signatures.zero, {});
    if (old !== null) {
      const names = restored.map(({ name }) => name);
      if (names.length > 0) await this.#host.move(old.id, signatures.save, id, signatures.restore, names);
      await this.#host.drop(old.id);
    }
    this.#opened = { id, programs: new Set(programs.keys()), caches };
    const held = new Map(weights.map((each) => [each.variable, each]));
    for (const [i, group] of weightGroups(variables).entries()) {
      const inputs = group.map((variable) => {
        const { type, data } = held.get(variable)!;
        return [variable.name, toHost(type, data)] as const;
      });
      await this.#host.run(id, loadSignature(i), Object.fromEntries(inputs));
    }
    return id;
  }
}
