/**
 * The threads of a mesh as one: a command goes to all ranks, and what they answer comes back together. Whatever goes wrong
 * on one rank (it fails, it ends, it does not answer in time) ends all of them, since the others would wait for it and the
 * caches no longer agree: the command under way and all later ones fail with an error that names the rank and the step.
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
  #pending: Pending | null = null;
  /** Why the mesh can no longer be used. */
  #broken: Error | null = null;
  #turn: Promise<unknown> = Promise.resolve();
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

  /** Sends a command to all ranks and waits for all answers, in the order of ranks. Commands follow one another. */
  async command(message: ToRank, what: string, deadlineMs: number): Promise<readonly Answer[]> {
    const turn = this.#turn.then(() => this.#send(message, what, deadlineMs));
    this.#turn = turn.catch(() => {});
    return turn;
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

  async #send(message: ToRank, what: string, deadlineMs: number): Promise<readonly Answer[]> {
    if (this.#broken !== null) throw this.#broken;
    this.#last = what;
    for (const thread of this.#threads) thread.hold(true);
    let timer: ReturnType<typeof setTimeout> | undefined;
    try {
      return await new Promise<readonly Answer[]>((resolve, reject) => {
        const answers = this.#threads.map(() => null);
        this.#pending = { what, answers, resolve, reject };
        timer = setTimeout(() => this.#late(deadlineMs), deadlineMs);
        for (const thread of this.#threads) thread.post(message);
      });
    } finally {
      clearTimeout(timer);
      this.#pending = null;
      for (const thread of this.#threads) thread.hold(false);
    }
  }

  #hear(rank: number, message: FromRank): void {
    if (message.kind === "failed") {
      const cause = errorFrom(message.error);
      const what = `failed: ${message.error.message}`;
      const kind = message.error.kind ?? "internal";
      this.#break(new CompilerError(kind, `${this.#name}rank ${rank}, ${this.#last}`, what, { cause }), rank);
      return;
    }
    const pending = this.#pending;
    if (pending === null) return;
    pending.answers[rank] = message;
    const answers = pending.answers.filter((answer) => answer !== null);
    if (answers.length === this.ranks) pending.resolve(answers);
  }

  #lose(rank: number, why: string): void {
    const what = `the thread ended: ${why}`;
    this.#break(
      new CompilerError("internal", `${this.#name}rank ${rank}, ${this.#last}`, what, { hint: endedHint }),
      rank,
    );
  }

  #late(deadlineMs: number): void {
    const silent = this.#pending?.answers.flatMap((answer, rank) => (answer === null ? [rank] : [])) ?? [];
    const what = `expected an answer within ${deadlineMs} ms, got none`;
    const where = `${this.#name}rank ${silent.join(" and ")}, ${this.#last}`;
    this.#break(new CompilerError("internal", where, what, { hint: endedHint }), silent[0] ?? null);
  }

  /** The first reason stays; others follow from it. */
  #break(why: Error, rank: number | null): void {
    if (this.#broken !== null) return;
    this.#broken = why;
    stopMesh(this.#memory, rank);
    this.#pending?.reject(why);
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
