/** What a probe of this machine gives: a row for each way in which a backend runs or does not, and the conditions. */
import type { BackendProbe } from "./backend-probe.ts";
import type { Conditions } from "./machine.ts";

export interface ProbeReport {
  readonly schema: "ciuic-probe-1";
  readonly conditions: Conditions;
  readonly probes: readonly BackendProbe[];
  /** False where only what a choice needs was measured. */
  readonly complete: boolean;
  /** Cores that other programs used meanwhile: figures are that much too low. Null where the system does not tell. */
  readonly busy: number | null;
  /** Whether it was measured before. */
  readonly cached: boolean;
  /** What went wrong with the cache. */
  readonly notes: readonly string[];
}
