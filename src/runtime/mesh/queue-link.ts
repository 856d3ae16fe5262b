/** A Link over whatever can hand a message to another rank: it waits for those that are to come, but not for ever. */
import { CompilerError } from "../../ir/errors.ts";
import { Inbox } from "./inbox.ts";
import type { ExchangeId, Incoming, Link, Outgoing } from "./link.ts";

export interface QueueLinkOptions {
  readonly rank: number;
  /** How long an exchange may take, in milliseconds. */
  readonly deadlineMs: number;
  /** Hands over a message; `bytes` are the sender's again when it resolves. */
  readonly send: (to: number, step: number, tag: number, bytes: Uint8Array) => Promise<void>;
}

/** Bytes of one sender that may lie about unasked for: several steps of a pipeline. */
const mostUnasked = 2 ** 24;

export class QueueLink implements Link {
  readonly interleaves = true;
  /** Where what others send is put. */
  readonly inbox = new Inbox(mostUnasked);
  readonly #options: QueueLinkOptions;

  constructor(options: QueueLinkOptions) {
    this.#options = options;
  }

  async exchange(id: ExchangeId, sends: readonly Outgoing[], receives: readonly Incoming[]): Promise<void> {
    const { deadlineMs, send } = this.#options;
    const { step } = id;
    const open = new Map<Promise<void>, number>();
    const add = (peer: number, moved: Promise<void>) => {
      open.set(moved, peer);
      moved.then(
        () => open.delete(moved),
        () => {},
      );
    };
    for (const { to, tag, bytes } of sends) add(to, send(to, step, tag, bytes));
    for (const { from, tag, into } of receives) add(from, this.inbox.take({ from, step, tag }, into));
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        const peers = [...new Set(open.values())].sort((a, b) => a - b).join(", ");
        const what = `expected an exchange with rank ${peers} within ${deadlineMs} ms, got none`;
        const hint = "A rank hangs, or the deadline is short.";
        reject(new CompilerError("internal", this.#where(id), what, { hint }));
      }, deadlineMs);
    });
    try {
      await Promise.race([Promise.all(open.keys()), late]);
    } finally {
      clearTimeout(timer);
    }
  }

  stop(why: string): void {
    this.inbox.end(new CompilerError("internal", `rank ${this.#options.rank}`, why));
  }

  #where({ step, exchange }: ExchangeId): string {
    return `rank ${this.#options.rank}, step ${step}, exchange ${exchange}`;
  }
}
