/**
 * The threads of a mesh as one: a command goes to all ranks, and what they answer comes back together. Whatever goes wrong
 * on one rank (it fails, it ends, it does not answer in time) ends all of them, since the others would wait for it and the
 * caches no longer agree: the commands under way and all later ones fail with an error that names the rank and the step.
 */
import { CompilerError, InputError } from "../../ir/errors.ts";
import { errorFrom } from "../error-message.ts";
import type { FromRank, RankStart, ToRank } from "./messages.ts";
import { type MeshMemory, stopMesh } from "./shared-memory.ts";
import { type RankEvents, type RankThread, startRankThread } from "./threads.ts";

export type StartThread = (start: RankStart, events: RankEvents) => RankThread;

type Answer = Exclude<FromRank, { kind: "failed" }>;

interface Pending {
  /** For messages: "step 7". */
  readonly what: string;
  readonly deadlineMs: number;
  readonly answers: (Answer | null)[];
  readonly resolve: (answers: readonly Answer[]) => void;
  readonly reject: (error: unknown) => void;
}

/** How long a thread may take to end by itself, in milliseconds. */
const graceMs = 1000;
const endedHint = "The mesh cannot go on; load the model again.";

export class MeshThreads {
  readonly ranks: number;
  readonly #name: string;
  readonly #memory: MeshMemory;
  readonly #threads: readonly RankThread[];
  /** Commands that are not answered yet, in the order in which every rank obeys them. */
  readonly #pending: Pending[] = [];
  /** Until the first of these must be answered. */
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** Why the mesh can no longer be used. */
  #broken: Error | null = null;
  #last = "its start";
  #ended: Promise<unknown> = Promise.resolve();

  /** `name` goes before ranks in messages, for one mesh of several. */
  constructor(starts: readonly RankStart[], memory: MeshMemory, name = "", startThread: StartThread = startRankThread) {
    this.#name = name;
    this.ranks = starts.length;
    this.#memory = memory;
    this.#threads = starts.map((start) => {
      const { rank } = start;
      const thread = startThread(start, {
        message: (message) => this.#hear(rank, message),
        gone: (why) => this.#lose(rank, why),
      });
      thread.hold(false);
      return thread;
    });
  }

  get alive(): boolean {
    return this.#broken === null;
  }

  /**
   * Sends a command to all ranks and waits for all answers, in the order of ranks. Every rank obeys commands in the order in
   * which they were given; several may be under way. The deadline counts from when those before have been answered.
   */
  command(message: ToRank, what: string, deadlineMs: number): Promise<readonly Answer[]> {
    if (this.#broken !== null) return Promise.reject(this.#broken);
    const answers = this.#threads.map(() => null);
    return new Promise((resolve, reject) => {
      this.#pending.push({ what, deadlineMs, answers, resolve, reject });
      if (this.#pending.length === 1) this.#watch();
      for (const thread of this.#threads) thread.post(message);
    });
  }

  /** Ends one rank's thread at once, as a crash would. */
  async endRank(rank: number): Promise<void> {
    await this.#threads[rank]?.end();
  }

  /** Ends all threads, in the middle of a step if there is one. May be called again. */
  async close(): Promise<void> {
    this.#break(new InputError("mesh", "closed: expected an open mesh, got a step after close()"), null);
    await this.#ended;
  }

  /** Waits for the first command that is not answered; with none, threads do not keep the process alive. */
  #watch(): void {
    clearTimeout(this.#timer);
    const [first] = this.#pending;
    for (const thread of this.#threads) thread.hold(first !== undefined);
    if (first === undefined) return;
    this.#last = first.what;
    this.#timer = setTimeout(() => this.#late(first), first.deadlineMs);
  }

  #hear(rank: number, message: FromRank): void {
    if (message.kind === "failed") {
      const cause = errorFrom(message.error);
      const what = `failed: ${message.error.message}`;
      const kind = message.error.kind ?? "internal";
      this.#break(new CompilerError(kind, `${this.#name}rank ${rank}, ${this.#under(rank)}`, what, { cause }), rank);
      return;
    }
    const pending = this.#pending.find(({ answers }) => answers[rank] === null);
    if (pending === undefined) return;
    pending.answers[rank] = message;
    const answers = pending.answers.filter((answer) => answer !== null);
    if (answers.length < this.ranks) return;
    // All ranks have answered what came before, too.
    this.#pending.shift();
    this.#watch();
    pending.resolve(answers);
  }

  /** What a rank is at: the first command that it has not answered. */
  #under(rank: number): string {
    return this.#pending.find(({ answers }) => answers[rank] === null)?.what ?? this.#last;
  }

  #lose(rank: number, why: string): void {
    const what = `the thread ended: ${why}`;
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
    stopMesh(this.#memory, rank);
    clearTimeout(this.#timer);
    for (const pending of this.#pending.splice(0)) pending.reject(why);
    this.#ended = Promise.all(this.#threads.map((thread) => this.#end(thread)));
  }

  /** Lets a thread close its files, but not for long. */
  async #end(thread: RankThread): Promise<void> {
    thread.post({ kind: "end" });
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise((resolve) => {
      timer = setTimeout(resolve, graceMs);
    });
    await Promise.race([thread.gone, late]);
    clearTimeout(timer);
    await thread.end();
  }
}
