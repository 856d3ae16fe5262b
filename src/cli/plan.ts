/** `ciuic plan`: how a model could be placed on devices, from its config alone. */
import { stat } from "node:fs/promises";
import { basename, dirname, resolve } from "node:path";
import { openDefaultDevice } from "../compile.ts";
import { InputError } from "../ir/errors.ts";
import { type ModelConfig, parseModelConfigText } from "../models/deepseek/config.ts";
import type { Candidate } from "../plan/candidate.ts";
import { devices, findDevice, links, parseBytes, parseLink } from "../plan/hardware.ts";
import { planPage, rate } from "../plan/page.ts";
import { type Plan, planDeployment } from "../plan/plan.ts";
import { planFormats } from "../plan/shape.ts";
import { showBytes, showSeconds } from "../plan/show.ts";
import { limitsOf } from "../runtime/load-limits.ts";
import { rankValues } from "../runtime/mesh/rank-values.ts";
import { limitsOfLane } from "../runtime/mesh/space-limits.ts";
import { openNodeFolder } from "../runtime/weights/node-folder.ts";
import { write } from "./answer.ts";
import { defineCommand, exitCodes } from "./command.ts";
import { modelPath } from "./model-source.ts";
import type { OptionTable } from "./options.ts";
import { writeOutput } from "./write-output.ts";

const options = {
  devices: { kind: "whole", value: "N", doc: "How many there are, all alike. Default: 1." },
  device: { kind: "text", value: "NAME", doc: `What they are: ${Object.keys(devices).join(", ")}. Default: rtx-4090.` },
  memory: { kind: "text", value: "SIZE", doc: "Memory of each, such as 24GiB. Default: the device's." },
  bandwidth: {
    kind: "text",
    value: "SIZE",
    doc: "Bytes that each reads in a second, such as 900GB. Default: the device's.",
  },
  link: {
    kind: "text",
    value: "RATE,DELAY",
    doc: `Between them: bandwidth and latency such as 32GB/s,10us, or ${Object.keys(links).join(", ")}. Default: pcie4.`,
  },
  context: { kind: "whole", value: "N", doc: "Tokens of each sequence. Default: 8192, or the model's most." },
  batch: { kind: "whole", value: "N", doc: "Sequences at a time. Default: 1." },
  weights: { kind: "text", value: "FORMAT", doc: `How weights are held: ${planFormats.join(", ")}. Default: stored.` },
  "cache-bits": { kind: "whole", value: "N", doc: "Bits of a cached value. Default: 16." },
  compiled: {
    kind: "flag",
    doc: "Compile the recommended division's steps, and say what values take on each rank here.",
  },
  json: { kind: "flag", doc: "Print the plan as JSON." },
  html: { kind: "text", value: "FILE", doc: "Also write a page with a picture of the plan." },
} as const satisfies OptionTable;

export const plan = defineCommand({
  name: "plan",
  usage: ["[MODEL] --devices N [--memory SIZE] [--link RATE,DELAY] [--batch N] [--json] [--html FILE]"],
  summary: "Say how a model can be divided over devices, and what that would give.",
  details: [
    "Prices every division into pipeline stages, tensor, data and expert parallelism: memory per device, what links carry, speed.",
    "MODEL may be a folder without weights, or the path of a config.json: nothing is computed or loaded.",
    "Estimates; docs/plans.md compares them with published measurements. Exit code 1 where nothing fits.",
  ],
  options,
  examples: [
    "ciuic plan --devices 2 --memory 1MiB",
    "ciuic plan --devices 4 --device desktop-cpu --link ethernet1 --batch 8",
    "ciuic plan --devices 2 --json",
  ],
  positionals: 1,
  run: async ({ values, positionals }) => {
    const { name, text } = await readConfig(modelPath(positionals[0]));
    const config = parseModelConfigText(text, `${name} config`);
    const weights = planFormats.find((format) => format === (values.weights ?? "stored"));
    if (weights === undefined) {
      throw new InputError(
        "plan --weights",
        `expected ${planFormats.join(", ")}, got ${JSON.stringify(values.weights)}`,
      );
    }
    const base = findDevice(values.device ?? "rtx-4090");
    const made = planDeployment(name, config, {
      devices: values.devices ?? 1,
      device: {
        ...base,
        ...(values.memory === undefined ? {} : { memory: parseBytes(values.memory, "plan --memory") }),
        ...(values.bandwidth === undefined ? {} : { bandwidth: parseBytes(values.bandwidth, "plan --bandwidth") }),
      },
      link: parseLink(values.link ?? "pcie4", "plan --link"),
      weights,
      ...(values.context === undefined ? {} : { context: values.context }),
      ...(values.batch === undefined ? {} : { batch: values.batch }),
      ...(values["cache-bits"] === undefined ? {} : { cacheBits: values["cache-bits"] }),
    });
    if (values.html !== undefined) await writeOutput(values.html, planPage(made));
    await write(process.stdout, values.json ? `${JSON.stringify(made, null, 2)}\n` : showPlan(made));
    if (values.compiled && !values.json) await write(process.stdout, showCompiled(config, made));
    return made.recommended === null ? exitCodes.no : exitCodes.done;
  },
});

/** What values of the recommended division's steps take, as ranks of threads would allocate it. */
function showCompiled(config: ModelConfig, { recommended, request }: Plan): string {
  if (recommended === null) return "";
  const { pp, tp, dp, ep } = recommended.mesh;
  const { batch, context, weights } = request;
  const apart = ep > 1 ? 1 : dp;
  const mesh = { pp, tp, ...(ep > 1 && { ep: dp }) };
  const requests = Math.ceil(batch / apart);
  const all = limitsOf(config, { contextLength: context, maxSequences: requests }, null);
  const quantize = weights === "int8" || weights === "int4" ? { quantize: { weights } } : {};
  const bytes = rankValues(config, {
    mesh,
    target: openDefaultDevice().target,
    compile: { verify: 0, ...quantize },
    limits: limitsOfLane(all, pp),
    lanes: pp,
    ...{ requests, prompt: Math.max(context - 1, 1), answer: 1 },
  });
  return `values as compiled, by rank: ${bytes.map(showBytes).join(", ")}\n`;
}

async function readConfig(path: string): Promise<{ name: string; text: string }> {
  const info = await stat(path).catch(() => undefined);
  const isFile = info?.isFile() ?? false;
  const folder = await openNodeFolder(isFile ? dirname(path) : path);
  const text = await folder.readText(isFile ? basename(path) : "config.json", 2 ** 20);
  return { name: basename(isFile ? dirname(resolve(path)) : resolve(path)), text };
}

/** The plan as text. */
export function showPlan({ model, request, totalWeights, recommended, others, advice, hash }: Plan): string {
  const { devices: count, device, link, context, batch } = request;
  const head = `${model}: ${showBytes(totalWeights)} of weights, on ${count} x ${device.name} of ${showBytes(device.memory)}, link ${showBytes(link.bandwidth)}/s ${showSeconds(link.latency)}, ${batch} x ${context} tokens`;
  const best = recommended === null ? [] : ["", `recommended: ${recommended.name}`, ...details(recommended)];
  const rest = others.length === 0 ? [] : ["", recommended === null ? "nearest:" : "others:", ...others.map(oneLine)];
  return `${[head, "", ...advice, ...best, ...rest, "", `plan ${hash}`].join("\n")}\n`;
}

function details(candidate: Candidate): string[] {
  const { stages, mesh, limitedBy } = candidate;
  return [
    ...stages.map(
      ({ layers, weights, caches, working }, i) =>
        `  ${stages.length > 1 ? `stage ${i}, ` : ""}layers ${layers[0]}..${layers[1] - 1}: weights ${showBytes(weights)}, caches ${showBytes(caches)}, values ${showBytes(working)} per device`,
    ),
    `  decoding ${rate(candidate.decodeAll)} tokens/s together, ${rate(candidate.decodeOne)} alone; prefill ${rate(candidate.prefill)} tokens/s; first token of a full prompt after ${showSeconds(candidate.firstToken)}`,
    `  per token and device: ${rate(candidate.messages)} messages, ${showBytes(candidate.bytes)}${mesh.ep > 1 ? `; busiest experts ${candidate.imbalance.toFixed(2)} x the mean` : ""}`,
    `  limited by ${limitedBy}`,
  ];
}

function oneLine(candidate: Candidate): string {
  const { name, peak, limit, fits, decodeAll, decodeOne, limitedBy } = candidate;
  const memory = fits ? showBytes(peak) : `${showBytes(peak)}, ${showBytes(peak - limit)} too much`;
  return `  ${name.padEnd(28)} ${rate(decodeAll)} tokens/s together, ${rate(decodeOne)} alone; ${memory}; limited by ${limitedBy}`;
}
