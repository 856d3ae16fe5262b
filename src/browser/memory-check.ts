/** Whether a model fits, by its config alone and before anything large is downloaded: the arithmetic of `ciuic plan-memory`. */
import { UnsupportedError } from "../ir/errors.ts";
import type { ModelConfig } from "../models/deepseek/config.ts";
import { memoryTable, showMemoryTable } from "../plan/memory-table.ts";
import { precisionOf } from "../plan/model-memory.ts";
import { sizesOfConfig } from "../plan/weight-groups.ts";
import { limitsOf } from "../runtime/load-limits.ts";
import type { BackendChoice, Capabilities, Choices, Refusal } from "./backend-choice.ts";
import type { LoadSettings } from "./protocol.ts";

/**
 * The choices without backends that the model is too large for. What a browser does not tell (how much memory a GPU has)
 * speaks against nothing.
 * @throws UnsupportedError with what the model takes on each backend, where it fits on none of those that can run
 */
export function fittingBackends(
  { possible, refused }: Choices,
  config: ModelConfig,
  settings: LoadSettings,
  { binding = null, memory = null }: Capabilities,
): Choices {
  const { slots, ropeRows: context, tokens } = limitsOf(config, settings, null);
  const request = { context, sequences: Math.max(1, Math.floor(slots / context)), tokens };
  const limits = [
    { backend: "webgpu", memory: null, binding },
    { backend: "wasm", memory, binding: null },
    { backend: "js", memory, binding: null },
  ].filter(({ backend }) => possible.some((choice) => choice.backend === backend));
  const table = memoryTable("this model", sizesOfConfig(config), request, limits);
  const precision = precisionOf(settings.quantize);
  const rowOf = (choice: BackendChoice) =>
    // Where nothing is read as stored there is no row for f32.
    [precision, "stored"].flatMap((each) =>
      table.rows.filter((row) => row.backend === choice.backend && row.precision === each),
    )[0];
  const tooLarge = possible.flatMap((choice): Refusal[] => {
    const row = rowOf(choice);
    if (row === undefined || row.fits) return [];
    return [{ label: choice.label, reason: `too large for it: ${[...row.problems, ...row.advice].join("; ")}` }];
  });
  const left = possible.filter((choice) => !tooLarge.some(({ label }) => label === choice.label));
  if (left.length > 0 || possible.length === 0) return { possible: left, refused: [...refused, ...tooLarge] };
  throw new UnsupportedError("memory", `the model is too large for this browser: ${tooLarge[0]!.reason}`, {
    text: showMemoryTable(table),
    hint: "Ask for a shorter contextLength, quantised weights (quantize) or a smaller model.",
  });
}
