/** What of a list of backends can run, and what speaks against the others: shared by `chooseTarget` and by pages. */
import { UnsupportedError } from "../../ir/errors.ts";

export interface TargetRow {
  readonly backend: string;
  readonly label: string;
  /** Null where it has no threads. */
  readonly threads: number | null;
  /** Why it does not run, or null. */
  readonly missing: string | null;
  /** The processor does the work of a GPU. */
  readonly software: boolean;
}

export interface Refusal {
  readonly label: string;
  readonly reason: string;
}

export interface Runnable<R extends TargetRow> {
  /** In the order given. Never empty. */
  readonly possible: readonly R[];
  readonly refused: readonly Refusal[];
}

/** @throws UnsupportedError for a backend that does not exist, or none of which can run here */
export function runnableTargets<R extends TargetRow>(rows: readonly R[], backend?: string): Runnable<R> {
  const wanted = rows.filter((row) => backend === undefined || row.backend === backend);
  const reasonOf = ({ missing, software }: R) =>
    missing ?? (software && backend === undefined ? "it would run on the processor, slower than WebAssembly" : null);
  const possible = wanted.filter((row) => reasonOf(row) === null);
  const refused = wanted.flatMap((row) => {
    const reason = reasonOf(row);
    return reason === null ? [] : [{ label: row.label, reason }];
  });
  if (possible.length > 0) return { possible, refused };
  const names = [...new Set(rows.map((row) => row.backend))].join(", ");
  throw new UnsupportedError(
    `backend ${backend}`,
    refused.length === 0 ? "no such backend" : refused.map(({ label, reason }) => `${label}: ${reason}`).join("; "),
    { hint: `Without a name the fastest that runs here is taken. Backends: ${names}.` },
  );
}
