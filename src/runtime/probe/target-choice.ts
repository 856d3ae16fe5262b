/** A choice of a backend for a model: what may be decided beforehand, and what comes out. */
import type { BackendMemory } from "../../plan/backend-memory.ts";
import type { ExpectedSpeed } from "../../plan/expected-speed.ts";
import type { Precision } from "../../plan/model-memory.ts";
import type { Refusal } from "./rank-targets.ts";

/** What may be decided beforehand. */
export interface WantedTarget {
  readonly backend?: string | undefined;
  readonly threads?: number | undefined;
  /** How matrices may be held. Default: all, the most precise that fits. */
  readonly precisions?: readonly Precision[] | undefined;
  /** Tokens of each sequence (default 4096, or the model's most), and sequences at a time (default 1). */
  readonly context?: number | undefined;
  readonly sequences?: number | undefined;
}

/** A backend with what is expected of it for this model. */
export interface TargetCandidate {
  readonly backend: string;
  readonly label: string;
  readonly threads: number | null;
  readonly precision: Precision;
  readonly memory: BackendMemory;
  /** What speaks against it; empty where it fits. */
  readonly problems: readonly string[];
  readonly speed: ExpectedSpeed;
  /** Bytes per second at which it reads, by which speed was computed, and whether that was measured. */
  readonly reading: number;
  readonly measured: boolean;
  /** Whether it goes by its expected speed: measured, or a GPU that there was no time for. Others go after these. */
  readonly known: boolean;
}

export interface TargetChoice {
  readonly backend: string;
  readonly threads: number | null;
  readonly precision: Precision;
  readonly fits: boolean;
  /** One line. */
  readonly why: string;
  /** Sentences with the numbers they rest on. */
  readonly reasons: readonly string[];
  readonly chosen: TargetCandidate;
  /** Runners-up that fit, fastest first. */
  readonly others: readonly TargetCandidate[];
  /** What does not run here, or does not fit. */
  readonly refused: readonly Refusal[];
}
