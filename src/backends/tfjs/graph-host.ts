/** What runs TensorFlow graphs: sessions that hold variables and run signatures of a model. */

import type { HostTensor } from "./graph-bits.ts";
import type { SavedModel } from "./saved-model.ts";

/** At least one time. */
export interface Repeat {
  readonly times: number;
  readonly feedback: readonly { readonly output: string; readonly input: string }[];
}

export const once: Repeat = { times: 1, feedback: [] };

export interface GraphHost {
  /** One line for people: the engine and the device. */
  readonly summary: string;
  /** Whether `move` hands memory over, as on the processor, where elsewhere it would copy to this process and back. */
  readonly moves: boolean;
  /** Loads a model (the content of `saved_model.pb`) with these signatures. Gives a number for the session. */
  readonly open: (model: Uint8Array<ArrayBuffer>, signatures: SavedModel["signatures"]) => Promise<number>;
  /**
   * Runs a signature. Inputs and outputs go by the signature's names. Where it is to run several times, outputs take the
   * place of inputs for the next time, as `feedback` pairs them; what the last time gives is given.
   */
  readonly run: (
    session: number,
    signature: string,
    inputs: Readonly<Record<string, HostTensor>>,
    repeat?: Repeat,
  ) => Promise<Readonly<Record<string, HostTensor["data"]>>>;
  /** Runs `save` of one session and hands what it gives of these names to `restore` of another. */
  readonly move: (from: number, save: string, to: number, restore: string, names: readonly string[]) => Promise<void>;
  /** Ends a session. */
  readonly drop: (session: number) => Promise<void>;
  readonly close: () => Promise<void>;
}
