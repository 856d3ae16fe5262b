/** A rank as a guest of others: what it can help them with while it waits. */
import { Guest, type GuestOffer } from "../../compile.ts";

export class RankGuests {
  readonly #rank: number;
  /** By the rank that is helped. */
  readonly #guests = new Map<number, Guest>();

  constructor(rank: number) {
    this.#rank = rank;
  }

  /** What each rank offers; guests of a rank are numbered in the order of ranks. */
  join(offers: readonly (GuestOffer | null)[]): void {
    for (const [host, offer] of offers.entries()) {
      if (host === this.#rank || offer === null) continue;
      const number = this.#rank < host ? this.#rank : this.#rank - 1;
      const guest = this.#guests.get(host) ?? new Guest(offer.memory, number);
      this.#guests.set(host, guest);
      guest.add(offer.programs);
    }
  }

  /** Computes for those who have something to give away; whether there was any. */
  help(): boolean {
    let helped = false;
    for (const guest of this.#guests.values()) if (guest.help()) helped = true;
    return helped;
  }
}
