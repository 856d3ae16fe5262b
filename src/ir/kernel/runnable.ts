/** What a device can run at all: kernels of plans that are only read and measured may be larger. */
import { UnsupportedError } from "../errors.ts";
import type { Kernel } from "./kernel.ts";

/**
 * Indices are i32. A kernel with a larger buffer can be read and measured (plans of models that only run sharded), but
 * not run: `checkRunnable` refuses it, and K5 has nothing to say about it.
 */
export const maxElements = 2 ** 31 - 1;

/** Throws UnsupportedError for a kernel that no device can run. */
export function checkRunnable(kernel: Kernel): void {
  const large = kernel.bufs.find((buf) => buf.size > maxElements);
  if (large === undefined) return;
  throw new UnsupportedError(
    `kernel ${kernel.name}`,
    `buffer ${large.name} has ${large.size} elements: at most ${maxElements} can be addressed`,
    {
      hint: "The model is too large for one device without sharding.",
    },
  );
}
