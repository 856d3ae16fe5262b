/** What the decode bench asks of an implementation of the demo model, ours or another's. */
export interface Candidate {
  readonly name: string;
  /** Loads and compiles; not timed. */
  setup(): Promise<Session>;
}

/** One sequence with a KV cache. */
export interface Session {
  /** Runs all of `ids`; the logits [vocab_size] of the last. */
  prefill(ids: readonly number[]): Float32Array;
  /** Runs one token; its logits [vocab_size]. */
  decode(id: number): Float32Array;
  /** Forgets the sequence. */
  reset(): void;
}
