/** The benchmark of the GPU: `main.ts MODE [flags]`, where a mode is a line of the table below. README.md lists the flags. */
import { allMode } from "./all.ts";
import { choiceMode } from "./choice.ts";
import { decodeMode } from "./decode.ts";
import { goldensMode } from "./goldens.ts";
import { llamaMode } from "./llama.ts";
import { meshMode } from "./mesh.ts";
import { type Mode, parseFlags } from "./mode.ts";
import { productsMode } from "./products.ts";
import { transformersMode } from "./transformers.ts";
import { unitsMode } from "./units.ts";

const modes: readonly Mode[] = [
  goldensMode,
  decodeMode,
  productsMode,
  unitsMode,
  meshMode,
  choiceMode,
  llamaMode,
  transformersMode,
  allMode,
];

const [name, ...args] = process.argv.slice(2);
const mode = modes.find((each) => each.name === name);
if (mode === undefined) {
  console.error("expected one of:");
  for (const each of modes) {
    const flags = each.flags === null ? "" : ` (${each.flags.map((flag) => `--${flag}`).join(" ")})`;
    console.error(`  ${each.name.padEnd(14)}${each.does}${flags}`);
  }
  process.exitCode = 2;
} else {
  try {
    const fine = await mode.run(parseFlags(mode.flags === null ? [] : args), args);
    process.exitCode = fine ? 0 : 1;
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    process.exitCode = 1;
  }
}
