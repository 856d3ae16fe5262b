/** The same shape under Hugging Face transformers, as installed on the machine: a Python process that makes random weights itself. */
import { spawnSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { recordFigures } from "./figures.ts";
import { type Mode, type ShapeOptions, shapeFlags, shapeOptions } from "./mode.ts";

interface TransformersOptions extends ShapeOptions {
  /** Seconds that torch.compile may take. */
  readonly patience: number;
}

export const transformersMode: Mode = {
  name: "transformers",
  does: "the same shape under Hugging Face transformers, with the machine's python3, torch and transformers",
  flags: [...shapeFlags, "patience"],
  run: (flags) => measureTransformers({ ...shapeOptions(flags), patience: Number(flags.patience) }),
};

interface Line {
  readonly how: string;
  readonly decode: number;
  readonly prefill: number;
}

/** Whether it ran. */
function measureTransformers(options: TransformersOptions): boolean {
  const { shape, tokens, prefill, context, cache, figures, patience } = options;
  const folder = `${cache}/${shape.key}-config`;
  mkdirSync(folder, { recursive: true });
  writeFileSync(`${folder}/config.json`, JSON.stringify(shape.json));
  // Not named as the package is: Python looks beside the script first.
  const script = fileURLToPath(new URL("peer-transformers.py", import.meta.url));
  const { stdout, stderr, status, error } = spawnSync(
    "python3",
    [script, folder, ...[tokens, prefill, context, patience].map(String)],
    { encoding: "utf8" },
  );
  console.log(`transformers, ${shape.title}`);
  if (error !== undefined) {
    console.log(`transformers: python3 does not start: ${error.message}`);
    return false;
  }
  const notes = stderr.split("\n").filter((line) => line.startsWith("transformers "));
  for (const note of notes) console.log(note);
  for (const text of stdout.split("\n").filter((line) => line.startsWith("{"))) {
    const { how, decode, prefill: prompt } = JSON.parse(text) as Line; // what the script prints
    console.log(
      `transformers bf16 ${how}: decode ${decode.toFixed(1)} tokens/s, ${(1000 / decode).toFixed(3)} ms a token`,
    );
    console.log(`transformers bf16 ${how}: prefill of ${prefill}: ${prompt.toFixed(1)} tokens/s`);
    recordFigures(figures, { engine: `transformers bf16 ${how}`, ours: false, decode, prefill: prompt });
  }
  if (status !== 0) console.log(`transformers: FAILED\n${stderr.split("\n").slice(-12).join("\n")}`);
  return status === 0;
}
