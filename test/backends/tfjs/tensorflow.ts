/** Where a real TensorFlow is, if `scripts/install-tensorflow.ts` has installed one. */
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** The folder for `packageFolder`; null where there is none. */
export const tensorFlowFolder = folderOf("tensorflow", "tfjs-node");

/** The same of the package for GPUs, whether there is a GPU or not. */
export const gpuPackageFolder = folderOf("tensorflow-gpu", "tfjs-node-gpu");

function folderOf(name: string, packageName: string): string | null {
  const folder = fileURLToPath(new URL(`../../../.cache/${name}`, import.meta.url));
  return existsSync(`${folder}/node_modules/@tensorflow/${packageName}/lib/napi-v8/tfjs_binding.node`) ? folder : null;
}

if (tensorFlowFolder === null) {
  console.warn("no TensorFlow: what needs it is skipped; to install it: node scripts/install-tensorflow.ts");
}
