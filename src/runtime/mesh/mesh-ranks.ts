/**
 * The ranks of a mesh as one, whether they are threads, processes, or live on this thread: a command goes to all of them,
 * and what they answer comes back together. Whatever goes wrong on one rank (it fails, it ends, it does not answer in time)
 * ends all of them, since the others would wait for it and the caches no longer agree: the commands under way and all later
 * ones fail with an error that names the rank and the step.
 */
import { CompilerError, InputError } from "../../ir/errors.ts";
import { errorFrom } from "../error-message.ts";
import type { Answer, Command, FromRank, RankStart, ToRank } from "./messages.ts";

/** One rank, wherever it runs. */
export interface RankHandle {
  readonly post: (message: ToRank) => void;
  /** Whether it keeps this process alive. */
  readonly hold: (alive: boolean) => void;
  /** Ends it, in the middle of whatever it does. */
  readonly end: () => Promise<unknown>;
  /** When it has ended. */
  readonly gone: Promise<unknown>;
}

/** What a rank tells: its messages, and that it is gone, as in "the thread ended: exit code 1". */
export interface RankEvents {
  readonly message: (message: FromRank) => void;
  readonly gone: (what: string) => void;
}

/** What kind of ranks, and how they are reached. */
export interface RankSite {
  readonly start: (start: RankStart, events: RankEvents) => RankHandle;
  /** Makes ranks that wait for each other stop, because of one of them or none. May be called again. */
  readonly stop: (rank: number | null) => void;
  /** Takes away what is left when all ranks have ended. */
  readonly clear?: () => Promise<void>;
}

interface Pending {
  readonly id: number;
  /** For messages: "step 7". */
  readonly what: string;
  readonly deadlineMs: number;
  readonly answers: (Answer | null)[];
  readonly resolve: (answers: readonly Answer[]) => void;
  readonly reject: (error: unknown) => void;
}

/** How long a rank may take to end by itself, in milliseconds. */
const graceMs = 1000;
const endedHint = "The mesh cannot go on; load the model again.";

export class MeshRanks {
  readonly ranks: number;
  readonly #name: string;
  readonly #site: RankSite;
  readonly #handles: readonly RankHandle[];
  #nextId = 0;
  /** Commands that are not answered yet, in the order in which they were given. */
  readonly #pending: Pending[] = [];
  /** Until the first of these must be answered. */
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** Why the mesh can no longer be used. */
  #broken: Error | null = null;
  #last = "its start";
  #ended: Promise<unknown> = Promise.resolve();

  /** `name` goes before ranks in messages, for one mesh of several. */
  constructor(starts: readonly RankStart[], site: RankSite, name = "") {
    this.#name = name;
    this.ranks = starts.length;
    this.#site = site;
    this.#handles = starts.map((start) => {
      const { rank } = start;
      const handle = site.start(start, {
        message: (message) => this.#hear(rank, message),
        gone: (what) => this.#lose(rank, what),
      });
      handle.hold(false);
      return handle;
    });
  }

  get alive(): boolean {
    return this.#broken === null;
  }

  /**
   * Sends a command to all ranks and waits for all answers, in the order of ranks. Every rank obeys the commands of a cache
   * space in the order in which they were given; several may be under way. The deadline counts from when those before have
   * been answered.
   */
  command(command: Command, what: string, deadlineMs: number): Promise<readonly Answer[]> {
    if (this.#broken !== null) return Promise.reject(this.#broken);
    const answers = this.#handles.map(() => null);
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#pending.push({ id, what, deadlineMs, answers, resolve, reject });
      if (this.#pending.length === 1) this.#watch();
      for (const handle of this.#handles) handle.post({ kind: "command", id, command });
    });
  }

  /** Ends one rank at once, as a crash would. */
  async endRank(rank: number): Promise<void> {
    await this.#handles[rank]?.end();
  }

  /** Ends all ranks, in the middle of a step if there is one. May be called again. */
  async close(): Promise<void> {
    this.#break(new InputError("mesh", "closed: expected an open mesh, got a step after close()"), null);
    await this.#ended;
  }

  /** Waits for the first command that is not answered; with none, ranks do not keep the process alive. */
  #watch(): void {
    clearTimeout(this.#timer);
    const [first] = this.#pending;
    for (const handle of this.#handles) handle.hold(first !== undefined);
    if (first === undefined) return;
    this.#last = first.what;
    this.#timer = setTimeout(() => this.#late(first), first.deadlineMs);
  }

  #hear(rank: number, message: FromRank): void {
    if (message.kind === "failed") {
      const cause = errorFrom(message.error);
      const what = `failed: ${message.error.message}`;
      const kind = message.error.kind ?? "internal";
      const under = this.#pending.find(({ id }) => id === message.id)?.what ?? this.#under(rank);
      this.#break(new CompilerError(kind, `${this.#name}rank ${rank}, ${under}`, what, { cause }), rank);
      return;
    }
    const at = this.#pending.findIndex(({ id }) => id === message.id);
    const pending = this.#pending[at];
    if (pending === undefined) return;
    pending.answers[rank] = message.answer;
    const answers = pending.answers.filter((answer) => answer !== null);
    if (answers.length < this.ranks) return;
    this.#pending.splice(at, 1);
    if (at === 0) this.#watch();
    pending.resolve(answers);
  }

  /** What a rank is at: the first command that it has not answered. */
  #under(rank: number): string {
    return this.#pending.find(({ answers }) => answers[rank] === null)?.what ?? this.#last;
  }

  #lose(rank: number, what: string): void {
    this.#break(
      new CompilerError("internal", `${this.#name}rank ${rank}, ${this.#under(rank)}`, what, { hint: endedHint }),
      rank,
    );
  }

  #late({ answers, deadlineMs }: Pending): void {
    const silent = answers.flatMap((answer, rank) => (answer === null ? [rank] : []));
    const what = `expected an answer within ${deadlineMs} ms, got none`;
    const where = `${this.#name}rank ${silent.join(" and ")}, ${this.#last}`;
    this.#break(new CompilerError("internal", where, what, { hint: endedHint }), silent[0] ?? null);
  }

  /** The first reason stays; others follow from it. */
  #break(why: Error, rank: number | null): void {
    if (this.#broken !== null) return;
    this.#broken = why;
    this.#site.stop(rank);
    clearTimeout(this.#timer);
    for (const pending of this.#pending.splice(0)) pending.reject(why);
    const ends = this.#handles.map((handle) => this.#end(handle));
    this.#ended = Promise.all(ends).then(() => this.#site.clear?.());
  }

  /** Lets a rank close its files, but not for long. */
  async #end(handle: RankHandle): Promise<void> {
    handle.post({ kind: "end" });
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise((resolve) => {
      timer = setTimeout(resolve, graceMs);
    });
    await Promise.race([handle.gone, late]);
    clearTimeout(timer);
    await handle.end();
  }
}
