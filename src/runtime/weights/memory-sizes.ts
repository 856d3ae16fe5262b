/** The sizes that memory depends on, from whatever a folder has: a config, headers of weights, or both. */
import { parseModelConfigText } from "../../models/deepseek/config.ts";
import { sizesOfConfig, sizesOfHeaders, type WeightSizes } from "../../plan/weight-groups.ts";
import { maxConfigBytes } from "../load-limits.ts";
import type { ModelFolder } from "./byte-source.ts";
import { hasWeights, headersOf, openCheckpoint } from "./checkpoint.ts";

/** @param configFile only this file is read @throws InputError where neither config nor weights tell */
export async function memoryFolderSizes(folder: ModelFolder, configFile?: string): Promise<WeightSizes> {
  const file = configFile ?? "config.json";
  const config =
    configFile !== undefined || (await folder.has(file))
      ? parseModelConfigText(await folder.readText(file, maxConfigBytes), `${folder.name} ${file}`)
      : null;
  if (config !== null && (configFile !== undefined || !(await hasWeights(folder)))) return sizesOfConfig(config);
  const checkpoint = await openCheckpoint(folder);
  await checkpoint.close();
  const headers = headersOf(checkpoint);
  return config === null ? sizesOfHeaders(headers, folder.name) : sizesOfConfig(config, headers);
}
