/** What a device and the thread that runs its TensorFlow graphs say to each other. */

import type { HostTensor } from "./graph-bits.ts";
import type { Repeat } from "./graph-host.ts";
import type { EngineKind } from "./packages.ts";
import type { SavedModel } from "./saved-model.ts";

/** What the thread is started with. */
export interface GraphThreadStart {
  readonly kind: EngineKind;
  /** The folder in whose node_modules the package is; null where it is found like other packages. */
  readonly packageFolder: string | null;
  /** Threads of the processor; TensorFlow has one pool in a process, so the first to start it decides. */
  readonly threads: number;
}

export type GraphRequest =
  | { readonly ask: "start" }
  | { readonly ask: "open"; readonly model: Uint8Array<ArrayBuffer>; readonly signatures: SavedModel["signatures"] }
  | {
      readonly ask: "run";
      readonly session: number;
      readonly signature: string;
      readonly inputs: Readonly<Record<string, HostTensor>>;
      readonly repeat: Repeat;
    }
  | {
      readonly ask: "move";
      readonly from: number;
      readonly save: string;
      readonly to: number;
      readonly restore: string;
      readonly names: readonly string[];
    }
  | { readonly ask: "drop"; readonly session: number }
  | { readonly ask: "close" };

/** What each request gives. */
export interface GraphReplies {
  readonly start: string;
  readonly open: number;
  readonly run: Readonly<Record<string, HostTensor["data"]>>;
  readonly move: null;
  readonly drop: null;
  readonly close: null;
}

export type ToGraphThread = GraphRequest & { readonly id: number };

export type FromGraphThread =
  | { readonly id: number; readonly reply: GraphReplies[keyof GraphReplies] }
  /** `where` is null for errors that are not the library's. */
  | {
      readonly id: number;
      readonly failed: { readonly where: string | null; readonly what: string; readonly hint: string | null };
    };
