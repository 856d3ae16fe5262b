/** Where a real TensorFlow is, if `scripts/install-tensorflow.ts` has installed one. */
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

const folder = fileURLToPath(new URL("../../../.cache/tensorflow", import.meta.url));

/** The folder for `packageFolder`; null where there is none. */
export const tensorFlowFolder: string | null = existsSync(
  `${folder}/node_modules/@tensorflow/tfjs-node/lib/napi-v8/tfjs_binding.node`,
)
  ? folder
  : null;

if (tensorFlowFolder === null) {
  console.warn("no TensorFlow: what needs it is skipped; to install it: node scripts/install-tensorflow.ts");
}
