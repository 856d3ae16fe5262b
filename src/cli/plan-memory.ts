/** `ciuic plan-memory`: what a model takes in memory on each backend, from its config or the headers of its weights. */
import { stat } from "node:fs/promises";
import { basename, dirname, resolve } from "node:path";
import { folderUrl } from "../browser/folder-url.ts";
import { openRemoteFolder } from "../browser/stored-folder.ts";
import { InputError } from "../ir/errors.ts";
import { parseBytes } from "../plan/hardware.ts";
import { memoryTable, showMemoryTable } from "../plan/memory-table.ts";
import type { WeightSizes } from "../plan/weight-groups.ts";
import { memoryLimits } from "../runtime/probe/memory-limits.ts";
import type { ModelFolder } from "../runtime/weights/byte-source.ts";
import { indexFile, maxIndexBytes, parseIndex, singleFile } from "../runtime/weights/checkpoint.ts";
import { memoryFolderSizes } from "../runtime/weights/memory-sizes.ts";
import { openNodeFolder } from "../runtime/weights/node-folder.ts";
import { write } from "./answer.ts";
import { defineCommand, exitCodes } from "./command.ts";
import { deviceOptions } from "./device-flags.ts";
import { modelPath } from "./model-source.ts";
import type { OptionTable } from "./options.ts";

const options = {
  context: { kind: "whole", value: "N", doc: "Tokens of each sequence. Default: 4096, or the model's most." },
  sequences: { kind: "whole", value: "N", doc: "Sequences at a time. Default: 1." },
  tokens: { kind: "whole", value: "N", doc: "Tokens of a prompt that are computed at once. Default: 128." },
  backends: {
    kind: "text",
    value: "NAMES",
    doc: "Backends to show, with commas between them, or all. Default: webgpu, wasm, and TensorFlow where ciuic probe found it.",
  },
  memory: { kind: "text", value: "SIZE", doc: "Memory, such as 24GiB. Default: this machine's; unknown for a GPU." },
  binding: {
    kind: "text",
    value: "SIZE",
    doc: "Largest buffer that a kernel of a GPU can read. Default: as probed, or what every WebGPU has, 128 MiB.",
  },
  "package-folder": deviceOptions["package-folder"],
  json: { kind: "flag", doc: "Print the table as JSON." },
} as const satisfies OptionTable;

export const planMemory = defineCommand({
  name: "plan-memory",
  usage: ["[MODEL] [--backends NAMES] [--context N] [--sequences N] [--memory SIZE] [--json]"],
  summary: "Say what a model takes in memory, and where it fits.",
  details: [
    "Weights, caches, values of a step and the largest single buffer, by backend and precision, and what would make it fit. Exit code 1 where nothing shown fits.",
    "MODEL may be a config.json, a folder with weights but no config, or the address of a folder: of weights only the headers are read, over HTTP as ranges of bytes.",
  ],
  options,
  examples: [
    "ciuic plan-memory",
    "ciuic plan-memory --context 2048 --sequences 8 --backends all",
    "ciuic plan-memory --memory 256MB --json",
  ],
  positionals: 1,
  run: async ({ values, positionals }) => {
    const { name, sizes } = await readSizes(modelPath(positionals[0]));
    const limits = await memoryLimits({
      packageFolder: values["package-folder"],
      ...(values.memory === undefined ? {} : { memory: parseBytes(values.memory, "plan-memory --memory") }),
      ...(values.backends === undefined ? {} : { backends: values.backends.split(",").map((name) => name.trim()) }),
      ...(values.binding === undefined ? {} : { binding: parseBytes(values.binding, "plan-memory --binding") }),
    });
    const { context, sequences, tokens } = values;
    const request = {
      ...(context === undefined ? {} : { context }),
      ...(sequences === undefined ? {} : { sequences }),
      ...(tokens === undefined ? {} : { tokens }),
    };
    const table = memoryTable(name, sizes, request, limits);
    await write(process.stdout, values.json ? `${JSON.stringify(table, null, 2)}\n` : showMemoryTable(table));
    return table.rows.some(({ fits }) => fits) ? exitCodes.done : exitCodes.no;
  },
});

async function readSizes(path: string): Promise<{ name: string; sizes: WeightSizes }> {
  if (/^https?:/.test(path)) {
    const url = folderUrl(path, path);
    return { name: url, sizes: await memoryFolderSizes(await openRemote(url)) };
  }
  const info = await stat(path).catch(() => undefined);
  const isFile = info?.isFile() ?? false;
  const folder = await openNodeFolder(isFile ? dirname(path) : path);
  const name = basename(isFile ? dirname(resolve(path)) : resolve(path));
  return { name, sizes: await memoryFolderSizes(folder, isFile ? basename(path) : undefined) };
}

/** A folder whose config is missing may still have weights, whose headers say enough. */
async function openRemote(url: string): Promise<ModelFolder> {
  return openRemoteFolder(url).catch(async (error: unknown) => {
    if (!(error instanceof InputError) || !error.where.endsWith("config.json")) throw error;
    const found = await openRemoteFolder(url, { files: [indexFile] }).catch(() => null);
    const shards = async (from: ModelFolder) =>
      parseIndex(await from.readText(indexFile, maxIndexBytes), indexFile).keys();
    const files = found === null ? [singleFile] : [indexFile, ...(await shards(found))];
    return openRemoteFolder(url, { files }).catch(() => {
      throw error;
    });
  });
}
