/** What an engine did, passed from the processes that measure to the one that compares, as lines of JSON in a file. */
import { appendFileSync, existsSync, readFileSync } from "node:fs";

export interface Figures {
  readonly engine: string;
  readonly ours: boolean;
  /** Tokens per second, each sampled greedily. */
  readonly decode: number;
  readonly prefill: number;
}

export function recordFigures(file: string | undefined, figures: Figures): void {
  if (file !== undefined) appendFileSync(file, `${JSON.stringify(figures)}\n`);
}

export function readFigures(file: string): Figures[] {
  if (!existsSync(file)) return [];
  const lines = readFileSync(file, "utf8").split("\n");
  return lines.filter((line) => line !== "").map((line) => JSON.parse(line) as Figures); // written by recordFigures
}

/** A table: each engine's figures, and how many times as fast each of ours is as it. */
export function showRatios(all: readonly Figures[]): string {
  const ours = all.filter((each) => each.ours);
  const names = ours.flatMap(({ engine }) => [`${engine} / it: decode`, "prefill"]);
  const rows = all.map((each) => [
    each.engine,
    each.decode.toFixed(1),
    each.prefill.toFixed(0),
    ...ours.flatMap(({ decode, prefill }) =>
      each.ours ? ["", ""] : [(decode / each.decode).toFixed(2), (prefill / each.prefill).toFixed(2)],
    ),
  ]);
  const head = ["engine", "decode tok/s", "prefill tok/s", ...names];
  return [head, head.map(() => "---"), ...rows].map((row) => `| ${row.join(" | ")} |`).join("\n");
}
