/** The model that a command works on: the folder named, or the one that comes with the package. */
import { fileURLToPath } from "node:url";
import { type LoadOptions, loadModel } from "../runtime/load-model.ts";
import type { Model } from "../runtime/model.ts";
import { progressBar } from "./progress.ts";

/** Where MODEL is, or the bundled model, which lies beside both `src` and `dist`. */
export function modelPath(given: string | undefined): string {
  return given ?? fileURLToPath(new URL("../../models/tiny-deepseek", import.meta.url));
}

/** Loads with a progress bar. */
export async function openModel(given: string | undefined, options: LoadOptions = {}): Promise<Model> {
  const progress = progressBar(process.stderr);
  try {
    return await loadModel(modelPath(given), { ...options, onProgress: progress.show });
  } finally {
    progress.clear();
  }
}
