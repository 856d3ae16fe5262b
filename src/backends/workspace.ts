/**
 * Memory that a program uses while it runs and leaves nothing in: intermediate values, scratch. Programs of a device run
 * one after another, so those of all its buckets and pieces share it.
 */

interface Space<T> {
  readonly bytes: number;
  readonly memory: T;
  users: number;
}

/** A part that one program uses until it gives it back. */
export interface TakenSpace<T> {
  /** Of at least the bytes asked for. */
  readonly memory: T;
  readonly release: () => void;
}

export class Workspace<T> {
  readonly #make: (bytes: number) => T;
  readonly #free: (memory: T) => void;
  readonly #spaces = new Set<Space<T>>();

  constructor(make: (bytes: number) => T, free: (memory: T) => void) {
    this.#make = make;
    this.#free = free;
  }

  /** The smallest of what there is that is large enough, else more. */
  take(bytes: number): TakenSpace<T> {
    const enough = [...this.#spaces].filter((space) => space.bytes >= bytes).sort((a, b) => a.bytes - b.bytes);
    const space = enough[0] ?? { bytes, memory: this.#make(bytes), users: 0 };
    this.#spaces.add(space);
    space.users++;
    let taken = true;
    const release = () => {
      if (!taken) return;
      taken = false;
      if (--space.users > 0) return;
      this.#spaces.delete(space);
      this.#free(space.memory);
    };
    return { memory: space.memory, release };
  }
}
