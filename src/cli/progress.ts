/** A progress bar on stderr, on a terminal only. */
import type { LoadProgress } from "../runtime/load-model.ts";

export interface Progress {
  readonly show: (progress: LoadProgress) => void;
  /** Removes the bar. */
  readonly clear: () => void;
}

const cells = 24;
const labels = { compile: "compiling", weights: "loading weights" } as const;

export function progressBar(stream: NodeJS.WriteStream): Progress {
  if (!stream.isTTY) return { show: () => {}, clear: () => {} };
  let shown = "";
  return {
    show: (progress) => {
      const line = progressLine(progress);
      // One expression follows another in microseconds; a terminal does not.
      if (line !== shown) stream.write(`\r\x1b[K${line}`);
      shown = line;
    },
    clear: () => {
      if (shown !== "") stream.write("\r\x1b[K");
      shown = "";
    },
  };
}

/** `loading weights ████████░░░░ 66%  12.3 of 18.6 MB`. */
export function progressLine({ phase, done, total }: LoadProgress): string {
  const part = total === 0 ? 1 : done / total;
  const full = Math.round(part * cells);
  const bar = "█".repeat(full) + "░".repeat(cells - full);
  const amount = phase === "weights" ? `  ${megabytes(done)} of ${megabytes(total)} MB` : "";
  return `${labels[phase]} ${bar} ${Math.floor(part * 100)}%${amount}`;
}

function megabytes(bytes: number): string {
  return (bytes / 1e6).toFixed(1);
}
