/** What runs TensorFlow graphs: sessions that hold variables and run signatures of a model. */
import type { HostTensor } from "./graph-bits.ts";

export interface GraphHost {
  /** One line for people: the engine and the device. */
  readonly summary: string;
  /** Loads a model (the content of `saved_model.pb`) with these signatures. Gives a number for the session. */
  readonly open: (model: Uint8Array<ArrayBuffer>, signatures: readonly string[]) => Promise<number>;
  /** Runs a signature. Inputs and outputs go by the signature's names. */
  readonly run: (
    session: number,
    signature: string,
    inputs: Readonly<Record<string, HostTensor>>,
  ) => Promise<Readonly<Record<string, HostTensor["data"]>>>;
  /** Runs `save` of one session and hands what it gives of these names to `restore` of another. */
  readonly move: (from: number, save: string, to: number, restore: string, names: readonly string[]) => Promise<void>;
  /** Ends a session. */
  readonly drop: (session: number) => Promise<void>;
  readonly close: () => Promise<void>;
}
