/** Reading ahead of computing: the next few items are read while one is worked on, in order, in memory that is used again. */

/** Each item with what `read` gives for it. At most `depth` reads are under way; all have ended when this ends. */
export async function* readAhead<T, R>(
  items: Iterable<T>,
  read: (item: T) => Promise<R>,
  depth: number,
): AsyncGenerator<{ readonly item: T; readonly value: R }> {
  const pending: { item: T; value: Promise<R> }[] = [];
  const iterator = items[Symbol.iterator]();
  const start = (): void => {
    const next = iterator.next();
    if (next.done === true) return;
    const value = read(next.value);
    // It is awaited in its turn; until then a failure is not unhandled.
    value.catch(() => {});
    pending.push({ item: next.value, value });
  };
  try {
    for (let i = 0; i < depth; i++) start();
    for (;;) {
      const next = pending[0];
      if (next === undefined) return;
      const value = await next.value;
      pending.shift();
      start();
      yield { item: next.item, value };
    }
  } finally {
    await Promise.allSettled(pending.map(({ value }) => value));
  }
}

/** Memory for what is read, given back when it has been used. Holds as many buffers as were out at once, each as large as the largest. */
export class ReadBuffers {
  readonly #free: ArrayBuffer[] = [];

  take(bytes: number): ArrayBuffer {
    const buffer = this.#free.pop();
    return buffer !== undefined && buffer.byteLength >= bytes ? buffer : new ArrayBuffer(bytes);
  }

  give(buffer: ArrayBuffer): void {
    this.#free.push(buffer);
  }
}
