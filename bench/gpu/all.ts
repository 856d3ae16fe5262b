/** Ours and the peers in one call, each in a process of its own so that none holds memory of another, and the ratios. */
import { spawnSync } from "node:child_process";
import { rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { readFigures, showRatios } from "./figures.ts";
import type { Mode } from "./mode.ts";

export const allMode: Mode = {
  name: "all",
  does: "decode, llama and transformers with the same flags, and a table with ratios",
  flags: null,
  // The file that this process was started with.
  run: (_, args) => measureAll(process.argv[1]!, args, `${tmpdir()}/ciuic-figures-${process.pid}`),
};

const modes = ["decode", "llama", "transformers"] as const;

/** `flags`: those of this call, which the modes get too. Whether all of them ended well. */
function measureAll(script: string, flags: readonly string[], figures: string): boolean {
  rmSync(figures, { force: true });
  const codes = modes.map((mode) => {
    const started = performance.now();
    console.log(`\n== ${mode}`);
    const command = [...process.execArgv, script, mode, ...flags, "--figures", figures];
    const { status } = spawnSync(process.execPath, command, { stdio: "inherit" });
    console.log(`== ${mode} took ${((performance.now() - started) / 1000).toFixed(1)} s, exit code ${status}`);
    return status;
  });
  console.log(`\n${showRatios(readFigures(figures))}`);
  return codes.every((code) => code === 0);
}
