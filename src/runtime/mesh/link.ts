/**
 * How ranks exchange bytes: the one thing that a mesh asks of what connects its devices. `SharedLink` connects threads of
 * a process, `QueueLink` what can only hand over messages: devices of one thread, or processes; a network can stand in
 * their place.
 */

/** Where in its program a rank is, for messages. */
export interface ExchangeId {
  readonly step: number;
  readonly exchange: number;
}

export interface Outgoing {
  readonly to: number;
  /** What both ends call the message within a step, so that ranks that have lost each other notice. */
  readonly tag: number;
  readonly bytes: Uint8Array;
}

export interface Incoming {
  readonly from: number;
  readonly tag: number;
  /** As long as what is sent. */
  readonly into: Uint8Array;
}

export interface Link {
  /** Whether exchanges of different steps may be under way at the same time. */
  readonly interleaves: boolean;
  /**
   * Sends and receives all of these, in whichever order they can move; messages between two ranks keep theirs. Throws when
   * that has not happened before the link's deadline, when another rank has ended, and for another message than was expected.
   */
  exchange(id: ExchangeId, sends: readonly Outgoing[], receives: readonly Incoming[]): void | Promise<void>;
  /** Makes exchanges under way and later ones throw. */
  stop(why: string): void;
}
