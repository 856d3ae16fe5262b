/** What is known of one backend on this machine: whether it runs, on what, within what limits, how fast. Plain data, as the cache keeps it. */

/** Measured with small programs of our own; rates count a multiplication and an addition as two operations. */
export interface Figures {
  /** Bytes per second at which memory too large for caches is read. */
  readonly reading: number;
  /** Operations per second of a matrix times one vector, as in decoding, where reading does not limit them. */
  readonly f32Vector: number;
  readonly int8Vector: number;
  /** The same of a matrix times many vectors, as in prefill. */
  readonly f32Matrix: number;
  readonly int8Matrix: number;
  /** Seconds that a launch takes besides its operations, threads' waiting for each other included. */
  readonly launch: number;
  /** The same of a launch for many vectors. */
  readonly launchMatrix: number;
  /** Seconds that a step takes besides its launches: waking threads, submitting, reading results back. */
  readonly step: number;
  /** Seconds of the runtime's own work for a token, and for each logit that it looks at; not of this backend, but of its process. */
  readonly token: number;
  readonly logit: number;
}

export const figureNames = [
  "reading",
  "f32Vector",
  "int8Vector",
  "f32Matrix",
  "int8Matrix",
  "launch",
  "launchMatrix",
  "step",
  "token",
  "logit",
] as const satisfies readonly (keyof Figures)[];

/** Why a row has no figures though it could have. */
export const noTime = "there was no time left";

/** Why something does not run, and what would make it. */
export interface Missing {
  readonly reason: string;
  readonly mend: string;
}

export interface BackendProbe {
  /** As `loadModel` takes it. */
  readonly backend: string;
  /** One line for people. */
  readonly label: string;
  /** Null where the backend has no threads. */
  readonly threads: number | null;
  /** Null where it runs. */
  readonly missing: Missing | null;
  /** What computes; null where nothing is known. */
  readonly device: string | null;
  /** Whether the processor does the work of a GPU: never chosen unless asked for. */
  readonly software: boolean;
  /** Bytes that it may use, and the largest buffer and binding; null where nobody says. */
  readonly memory: number | null;
  readonly buffer: number | null;
  readonly binding: number | null;
  readonly features: readonly string[];
  /** Null where nothing was measured, which `unmeasured` explains. */
  readonly figures: Figures | null;
  readonly unmeasured: string | null;
}

/** A row for what does not run. */
export function missingProbe(backend: string, label: string, missing: Missing): BackendProbe {
  return {
    backend,
    label,
    threads: null,
    missing,
    device: null,
    software: false,
    memory: null,
    buffer: null,
    binding: null,
    features: [],
    figures: null,
    unmeasured: "it does not run here",
  };
}
