/** Steps that only fill the cache, begun so that the runner has the next chunk of a prompt while it computes this one. */
export class BegunSteps {
  readonly #steps: Promise<unknown>[] = [];

  /** How many are not known to be done. */
  get count(): number {
    return this.#steps.length;
  }

  add(step: Promise<unknown>): void {
    step.catch(() => {}); // whoever settles it hears of it
    this.#steps.push(step);
  }

  /** The result of a step that comes after these, when it and they are done. */
  async before<T>(last: Promise<T>): Promise<T> {
    this.add(last);
    await this.settle(0);
    return last;
  }

  /** Waits until at most so many are under way. Throws what one of them threw, when none is under way any more. */
  async settle(most: number): Promise<void> {
    try {
      while (this.#steps.length > most) await this.#steps.shift();
    } catch (error) {
      await Promise.allSettled(this.#steps.splice(0));
      throw error;
    }
  }
}
