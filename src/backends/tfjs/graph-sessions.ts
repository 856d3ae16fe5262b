/**
 * The sessions of a device. TensorFlow keeps variables in a session, and a session has one graph, so programs that share
 * memory are one graph: a *group*. A program that is new to a group makes a new session, which takes over the caches and
 * loads the weights again. Programs that share nothing do not meet.
 */
import { invariant } from "../../ir/errors.ts";
import { type HostTensor, toHost } from "./graph-bits.ts";
import { checkFiles } from "./graph-files.ts";
import { type GraphHost, once, type Repeat } from "./graph-host.ts";
import type { GraphMemory } from "./graph-memory.ts";
import {
  encodeModel,
  fedParts,
  loadSignature,
  partName,
  restoreSignature,
  signatures,
  weightGroups,
} from "./graph-model.ts";
import type { GraphProgram, Variable } from "./graph-program.ts";

/** A session that runs, and what it has. */
interface Opened {
  readonly id: number;
  readonly programs: ReadonlySet<string>;
  /** What another session can take over. */
  readonly saved: readonly Variable[];
}

/** What a program gives, by name. */
export type Fetched = Readonly<Record<string, HostTensor["data"]>>;

interface Group {
  readonly programs: Map<string, GraphProgram>;
  readonly variables: Set<Variable>;
  /** One, but none before the first run, and more after groups have become one. */
  opened: readonly Opened[];
}

export class GraphSessions {
  readonly #host: GraphHost;
  readonly #memory: GraphMemory;
  #groups: readonly Group[] = [];
  /** Runs come one after another. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(host: GraphHost, memory: GraphMemory) {
    this.#host = host;
    this.#memory = memory;
  }

  /** Makes a program part of a session from its next run on. */
  add(name: string, program: GraphProgram): void {
    const shares = (group: Group) => program.variables.some((variable) => group.variables.has(variable));
    const near = this.#groups.filter(shares);
    const group: Group = {
      programs: new Map([...near.flatMap(({ programs }) => [...programs]), [name, program]]),
      variables: new Set([...near.flatMap(({ variables }) => [...variables]), ...program.variables]),
      opened: near.flatMap(({ opened }) => opened),
    };
    this.#groups = [...this.#groups.filter((each) => !near.includes(each)), group];
  }

  /** The program is no longer run. Its session lives on for others, and for the caches. */
  remove(name: string): void {
    const group = this.#groupOf(name);
    group.programs.delete(name);
    const caches = this.#memory.caches.filter((cache) => group.variables.has(cache));
    if (group.programs.size > 0 || caches.length > 0) return;
    this.#groups = this.#groups.filter((each) => each !== group);
    this.#next(() => this.#drop(group)).catch(() => {}); // the host may have been closed
  }

  /** Makes a program ready to run, then runs it, if it is to run at all, on what `inputs` gives when its turn has come. */
  run(
    name: string,
    inputs: () => Readonly<Record<string, HostTensor>>,
    repeat: Repeat = once,
    done: (fetched: Fetched) => void = () => {},
  ): Promise<Fetched> {
    return this.#next(async () => {
      const group = this.#groupOf(name);
      const [only, ...more] = group.opened;
      const ready = only !== undefined && more.length === 0 && only.programs.has(name);
      const id = ready ? only.id : await this.#reopen(group);
      if (repeat.times === 0) return {};
      const fetched = await this.#host.run(id, name, inputs(), repeat);
      done(fetched);
      return fetched;
    });
  }

  #next<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#turn.then(work);
    this.#turn = turn.catch(() => {});
    return turn;
  }

  #groupOf(name: string): Group {
    const group = this.#groups.find(({ programs }) => programs.has(name));
    invariant(group !== undefined, () => `program ${name} has no session`);
    return group;
  }

  async #drop(group: Group): Promise<void> {
    for (const { id } of group.opened) await this.#host.drop(id);
    group.opened = [];
  }

  /**
   * A session of all programs of the group, which takes over what there is. Old sessions are ended before weights that they
   * cannot hand over take memory again.
   */
  async #reopen(group: Group): Promise<number> {
    const held = this.#memory.weights.filter(({ variable }) => group.variables.has(variable));
    const caches = this.#memory.caches.filter((cache) => group.variables.has(cache));
    const saved = this.#host.moves ? [...caches, ...held.map(({ variable }) => variable)] : caches;
    const taken = new Set<Variable>();
    // A weight that several have comes from the first.
    const restored = group.opened.map((old) => {
      const own = saved.filter((variable) => old.saved.includes(variable) && !taken.has(variable));
      for (const variable of own) taken.add(variable);
      return own;
    });
    const programs = new Map(group.programs);
    const weights = held.filter(({ variable }) => !taken.has(variable));
    const model = encodeModel({ programs, weights, caches, restored, saved });
    const id = await this.#host.open(model.bytes, model.signatures);
    if (caches.length > 0) await this.#host.run(id, signatures.zero, {});
    for (const [i, old] of group.opened.entries()) {
      const names = restored[i]!.map(({ name }) => name);
      if (names.length > 0) await this.#host.move(old.id, signatures.save, id, restoreSignature(i), names);
    }
    await this.#drop(group);
    // Where loading ends early, it has caches to hand over, and no weights.
    group.opened = [{ id, programs: new Set(), saved: caches }];
    for (const [i, part] of weightGroups(weights).entries()) {
      checkFiles(part.flatMap(({ file }) => file ?? []));
      const inputs = part.flatMap((weight) =>
        fedParts(weight).map(({ type, data }, each) => [partName(weight, each), toHost(type, data)] as const),
      );
      await this.#host.run(id, loadSignature(i), Object.fromEntries(inputs));
    }
    group.opened = [{ id, programs: new Set(programs.keys()), saved }];
    return id;
  }
}
