/** `ciuic probe`: what each backend can do on this machine, and why not where it cannot. */
import { showBytes, showSeconds } from "../plan/show.ts";
import type { BackendProbe } from "../runtime/probe/backend-probe.ts";
import { noTime } from "../runtime/probe/backend-probe.ts";
import { isBusy } from "../runtime/probe/machine.ts";
import { type ProbeReport, probe } from "../runtime/probe/probe.ts";
import { write } from "./answer.ts";
import { defineCommand, exitCodes } from "./command.ts";
import { deviceOptions } from "./device-flags.ts";
import type { OptionTable } from "./options.ts";

const options = {
  fresh: { kind: "flag", doc: "Measure again, whatever is kept." },
  seconds: {
    kind: "whole",
    value: "N",
    doc: "Time for measuring, with --fresh. Default: 2.5 seconds, which are not enough for TensorFlow and TensorFlow.js.",
  },
  json: { kind: "flag", doc: "Print everything as JSON." },
  "package-folder": deviceOptions["package-folder"],
} as const satisfies OptionTable;

export const probeCommand = defineCommand({
  name: "probe",
  usage: ["[--fresh] [--seconds N] [--package-folder FOLDER] [--json]"],
  summary: "Say what each backend can do on this machine.",
  details: [
    "Whether it runs, on what, within what limits, and how fast small programs are: memory read per second, operations of a matrix times one vector (decoding) and many (prompts), what a launch and a step cost. Of what does not run: why, and what would make it.",
    "Takes less than three seconds and is kept (CIUIC_CACHE in docs/env.md) until the machine, its drivers, the engine or this package change. Run it while the machine is idle.",
  ],
  options,
  examples: ["ciuic probe", "ciuic probe --fresh --json", "ciuic probe --fresh --seconds 20"],
  positionals: 0,
  run: async ({ values }) => {
    const { fresh = false, seconds, "package-folder": packageFolder } = values;
    const time = seconds === undefined ? {} : { milliseconds: 1000 * seconds };
    const report = await probe({ fresh, packageFolder, ...time });
    for (const note of report.notes) process.stderr.write(`ciuic: ${note}\n`);
    await write(process.stdout, values.json ? `${JSON.stringify(report, null, 2)}\n` : showProbe(report));
    return exitCodes.done;
  },
});

/** The report as text. */
export function showProbe({ conditions, probes, cached, busy }: ProbeReport): string {
  const { cpu, cores, memory, engine } = conditions;
  const head = `${cpu}, ${cores} ${cores === 1 ? "core" : "cores"}, ${showBytes(memory)}; ${engine}`;
  const when = cached ? "measured before; --fresh measures again" : "measured now";
  const others = isBusy(busy)
    ? [
        `other programs kept ${busy.toFixed(1)} cores busy meanwhile: figures are too low, and are kept for ten minutes only`,
      ]
    : [];
  const late = probes.some(({ unmeasured }) => unmeasured === noTime);
  const more = late ? ["", "More can be measured with more time: ciuic probe --fresh --seconds 20"] : [];
  return `${[head, when, ...others, ...probes.flatMap((each) => ["", ...rowLines(each)]), ...more].join("\n")}\n`;
}

function rowLines(row: BackendProbe): string[] {
  const { backend, label, missing, device, software, figures, unmeasured, features } = row;
  const name = backend.padEnd(19);
  if (missing !== null) {
    const mend = missing.mend === "" ? [] : [`  ${missing.mend}`];
    return [`${name}does not run: ${missing.reason}`, ...mend];
  }
  const limits = [
    ...(row.memory === null ? [] : [`memory ${showBytes(row.memory)}`]),
    ...(row.buffer === null ? [] : [`buffers ${showBytes(row.buffer)}`]),
    ...(row.binding === null ? [] : [`bindings ${showBytes(row.binding)}`]),
    ...(row.threads === null ? [] : [`${row.threads} ${row.threads === 1 ? "thread" : "threads"}`]),
  ];
  return [
    `${name}runs: ${label}${software ? ": never chosen unless asked for" : ""}`,
    ...(device === null || label.includes(device) ? [] : [`  on ${device}`]),
    ...(limits.length === 0 ? [] : [`  ${limits.join(", ")}`]),
    ...(features.length === 0 ? [] : [`  ${features.join(", ")}`]),
    ...(figures === null ? [`  not measured: ${unmeasured}`] : figureLines(figures)),
  ];
}

function figureLines(figures: NonNullable<BackendProbe["figures"]>): string[] {
  const ops = (rate: number) => `${(rate / 1e9).toPrecision(3)} G/s`;
  const { f32Vector, int8Vector, f32Matrix, int8Matrix } = figures;
  return [
    `  reads ${showBytes(figures.reading)}/s; a launch takes ${showSeconds(figures.launch)}, a step ${showSeconds(figures.step)}`,
    `  operations: one vector f32 ${ops(f32Vector)}, int8 ${ops(int8Vector)}; many f32 ${ops(f32Matrix)}, int8 ${ops(int8Matrix)}`,
  ];
}
