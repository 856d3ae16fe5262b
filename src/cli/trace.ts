/** `ciuic trace`: a page that shows what the compiler did with a model, pass by pass and kernel by kernel. */
import { stat } from "node:fs/promises";
import { InputError, UnsupportedError } from "../ir/errors.ts";
import { type Trace, tracing } from "../passes/instruments.ts";
import type { Model } from "../runtime/model.ts";
import { profileStep } from "../runtime/report/profile-step.ts";
import { ModelRunner } from "../runtime/steps/model-runner.ts";
import { asArray, asObject, asText, type JsonValue, parseJson } from "../runtime/weights/json.ts";
import { type TraceFile, traceFile, traceFormat } from "../trace-file.ts";
import { defineCommand, exitCodes } from "./command.ts";
import { deviceFlags, deviceOptions } from "./device-flags.ts";
import { withModel } from "./model-source.ts";
import type { OptionTable, OptionValues } from "./options.ts";
import { pruneFlags, pruneOptions } from "./prune-flags.ts";
import { quantizeFlags, quantizeOptions } from "./quantize-flags.ts";
import { readText } from "./read-input.ts";
import { tracePage } from "./trace-page.ts";
import { writeOutput } from "./write-output.ts";

const options = {
  out: { kind: "text", value: "FILE.html", doc: "Where to write the page. Default: trace.html." },
  backend: {
    kind: "text",
    value: "NAME",
    doc: "What to compile for and run on. Default: what should be fastest (ciuic probe), on one thread.",
  },
  "package-folder": deviceOptions["package-folder"],
  ...quantizeOptions,
  ...pruneOptions,
} as const satisfies OptionTable;

export const trace = defineCommand({
  name: "trace",
  usage: ["[MODEL | TRACE.json] [--out FILE.html] [--quantize FORMAT]"],
  summary: "Write a page that shows passes, kernels with their times, and memory.",
  details: [
    "Compiles the step of one token, runs some on one thread to time every kernel, and writes one HTML file, which needs no network: what each pass and each match of a rule changed in the IR, with the rule as it is written, each kernel's source, time and bytes, and where every value lies in memory.",
    "A file that TRACE=FILE.json wrote is shown too, without times, as far as it goes: a pass that failed leaves those before it.",
  ],
  options,
  examples: ["ciuic trace", "ciuic trace --quantize int4 --out int4.html"],
  positionals: 1,
  run: async ({ values, positionals }) => {
    const [source] = positionals;
    const file = source !== undefined && (await stat(source).catch(() => undefined))?.isFile() === true;
    const data = file ? readTrace(await readText(source), source) : await traceModel(source, values);
    const out = values.out ?? "trace.html";
    await writeOutput(out, await tracePage(data));
    process.stderr.write(`${out}: open it in a browser\n`);
    return exitCodes.done;
  },
});

async function traceModel(path: string | undefined, values: OptionValues<typeof options>): Promise<TraceFile> {
  const { instrument, trace } = tracing();
  // What is compiled first is the step of one token.
  const load = { ...deviceFlags(values), threads: 1, maxSequences: 1 };
  const changes = { quantize: quantizeFlags("trace", values), prune: await pruneFlags(values) };
  const compile = { instruments: [instrument] };
  return withModel(path, { ...load, ...changes, compile }, async (model) => {
    const { program } = model;
    return traceFile(trace, program, program.program.sources, await timesOf(model));
  });
}

/** Tokens that the smallest step for one token has room for. */
const usualContext = 256;

/** Milliseconds of each kernel in a step of one token; none where the device cannot time its kernels. */
async function timesOf({ runner, program }: Model): Promise<(number | null)[]> {
  if (!(runner instanceof ModelRunner)) return [];
  try {
    // Not at the beginning, where attention has nothing to read.
    const after = Math.min(usualContext, runner.sizes.maxContext) - 1;
    const { kernels } = await profileStep(runner, { tokens: 1, after, steps: 48 });
    const ms = new Map(kernels.map((each) => [each.index, each.ms]));
    return program.plan.kernels.map((_, i) => ms.get(i) ?? 0);
  } catch (error) {
    if (error instanceof UnsupportedError) return [];
    throw error;
  }
}

/** A trace as `TRACE` writes it. @throws InputError for another file */
function readTrace(text: string, where: string): TraceFile {
  const fields = asObject(parseJson(text, where), where);
  if (!fields.has("nodes") || !fields.has("passes")) {
    throw new InputError(where, "is no trace", { hint: "TRACE=trace.json ciuic inspect writes one." });
  }
  checkPasses(fields.get("passes"), `${where} passes`);
  const given = JSON.parse(text) as Trace & Partial<TraceFile>; // the page shows what there is
  if (given.format !== undefined && given.format !== traceFormat) {
    throw new InputError(
      `${where} format`,
      `expected ${JSON.stringify(traceFormat)}, got ${JSON.stringify(given.format)}`,
    );
  }
  const nothing = { kernels: [], memory: [], bytes: { arena: 0, weights: 0, touched: 0 }, name: where, target: "?" };
  return { ...nothing, format: traceFormat, ...given };
}

/** What is read of passes before the page is. */
function checkPasses(passes: JsonValue | undefined, where: string): void {
  for (const [i, value] of asArray(passes, where).entries()) {
    const pass = asObject(value, `${where} ${i}`);
    asText(pass.get("name"), `${where} ${i} name`);
    for (const [j, match] of asArray(pass.get("matches"), `${where} ${i} matches`).entries()) {
      asText(asObject(match, `${where} ${i} matches ${j}`).get("rule"), `${where} ${i} matches ${j} rule`);
    }
  }
}
