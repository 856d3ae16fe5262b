/**
 * Messages that have come to a rank and that it has not asked for yet, or has asked for and that have not come. Whoever
 * delivers is told when too much lies there unasked for, and waits; but never while something from that sender is
 * missing, since what is missing may be behind it.
 */
import { InternalError } from "../../ir/errors.ts";

/** What tells messages of one sender apart; those that agree in it keep their order. */
export interface MessageKey {
  readonly from: number;
  readonly step: number;
  readonly tag: number;
}

interface Waiter {
  readonly into: Uint8Array;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

/** Of one sender. */
interface Sender {
  bytes: number;
  waiting: number;
  /** Who delivers and is to be called when there is room. */
  room: (() => void)[];
}

export class Inbox {
  readonly #mostBytes: number;
  readonly #unasked = new Map<string, Uint8Array[]>();
  readonly #waiters = new Map<string, Waiter[]>();
  readonly #senders = new Map<number, Sender>();
  #ended: Error | null = null;

  /** `mostBytes`: unasked for, of one sender. */
  constructor(mostBytes: number) {
    this.#mostBytes = mostBytes;
  }

  /** Takes a message, which is not written to any more. Resolves when there is room for the next; later where it is full. */
  async put(key: MessageKey, bytes: Uint8Array): Promise<void> {
    if (this.#ended !== null) return;
    const name = nameOf(key);
    const waiter = this.#waiters.get(name)?.shift();
    const sender = this.#sender(key.from);
    if (waiter !== undefined) {
      sender.waiting--;
      give(key, bytes, waiter);
    } else {
      const queue = this.#unasked.get(name) ?? [];
      queue.push(bytes);
      this.#unasked.set(name, queue);
      sender.bytes += bytes.length;
    }
    if (!this.#isOver(sender)) return;
    await new Promise<void>((resolve) => sender.room.push(resolve));
  }

  /** Resolves when the message is in `into`, which must be as long. */
  take(key: MessageKey, into: Uint8Array): Promise<void> {
    if (this.#ended !== null) return Promise.reject(this.#ended);
    const name = nameOf(key);
    const sender = this.#sender(key.from);
    const queue = this.#unasked.get(name);
    const bytes = queue?.shift();
    if (queue?.length === 0) this.#unasked.delete(name);
    if (bytes !== undefined) sender.bytes -= bytes.length;
    return new Promise((resolve, reject) => {
      const waiter = { into, resolve, reject };
      if (bytes !== undefined) give(key, bytes, waiter);
      else {
        sender.waiting++;
        this.#waiters.set(name, [...(this.#waiters.get(name) ?? []), waiter]);
      }
      this.#makeRoom(sender);
    });
  }

  /** Whether whoever delivers for this sender should wait. */
  isFull(from: number): boolean {
    return this.#isOver(this.#sender(from));
  }

  /** Everything that is waited for, now or later, fails with this. The first reason stays. */
  end(why: Error): void {
    if (this.#ended !== null) return;
    this.#ended = why;
    const waiters = [...this.#waiters.values()].flat();
    this.#waiters.clear();
    this.#unasked.clear();
    for (const { reject } of waiters) reject(why);
    for (const sender of this.#senders.values()) for (const resolve of sender.room.splice(0)) resolve();
  }

  #sender(from: number): Sender {
    const sender = this.#senders.get(from) ?? { bytes: 0, waiting: 0, room: [] };
    this.#senders.set(from, sender);
    return sender;
  }

  #isOver({ bytes, waiting }: Sender): boolean {
    return bytes > this.#mostBytes && waiting === 0;
  }

  #makeRoom(sender: Sender): void {
    if (this.#isOver(sender)) return;
    for (const resolve of sender.room.splice(0)) resolve();
  }
}

function nameOf({ from, step, tag }: MessageKey): string {
  return `${from} ${step} ${tag}`;
}

function give({ from, step, tag }: MessageKey, bytes: Uint8Array, { into, resolve, reject }: Waiter): void {
  if (bytes.length === into.length) {
    into.set(bytes);
    resolve();
    return;
  }
  const where = `message ${tag} of step ${step}`;
  reject(new InternalError(where, `expected ${into.length} bytes from rank ${from}, got ${bytes.length}`));
}
