/** The benchmark of the GPU: `main.ts MODE [flags]`, where a mode is a line of the table in modes.ts. README.md lists the flags. */
import { parseFlags } from "./mode.ts";
import { modes } from "./modes.ts";

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
