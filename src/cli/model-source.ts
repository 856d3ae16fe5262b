/** The model that a command works on: the folder named, or the one that comes with the package. */
import { fileURLToPath } from "node:url";
import { readEnv } from "../env.ts";
import { type LoadOptions, loadModel } from "../runtime/load-model.ts";
import type { Model } from "../runtime/model.ts";
import { KernelProfile, showKernelTimes } from "../runtime/report/kernel-profile.ts";
import { progressBar } from "./progress.ts";

/** Where MODEL is, or the bundled model, which lies beside both `src` and `dist`. */
export function modelPath(given: string | undefined): string {
  return given ?? fileURLToPath(new URL("../../models/tiny-deepseek", import.meta.url));
}

/** Loads with a progress bar, lets `use` work, and closes. `DEBUG=1` tells of memory, `DEBUG=2` of kernels' times. */
export async function withModel<T>(
  given: string | undefined,
  options: LoadOptions,
  use: (model: Model) => Promise<T>,
): Promise<T> {
  const { DEBUG } = readEnv();
  const profile = options.profile ?? (DEBUG >= 2 ? new KernelProfile() : undefined);
  const model = await load(modelPath(given), { ...options, profile });
  if (DEBUG >= 1)
    console.error(
      `${model.device?.summary ?? "interpreter"}; weights ${model.memory.weights} bytes, caches ${model.memory.caches} bytes`,
    );
  for (const reason of DEBUG >= 1 ? (model.choice?.reasons ?? []) : []) console.error(reason);
  try {
    return await use(model);
  } finally {
    await model.close();
    if (profile !== undefined && DEBUG >= 2) console.error(showKernelTimes(profile.times(), { programs: true }));
  }
}

async function load(path: string, options: LoadOptions): Promise<Model> {
  const progress = progressBar(process.stderr);
  try {
    return await loadModel(path, { ...options, onProgress: progress.show });
  } finally {
    progress.clear();
  }
}
