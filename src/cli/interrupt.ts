/** Ctrl-C while a command works: the first asks it to stop, the second ends the process. */
import { exitCodes } from "./command.ts";

export interface Interrupt {
  readonly signal: AbortSignal;
  /** Back to the default, in which Ctrl-C ends the process. */
  readonly release: () => void;
}

export function catchInterrupt(): Interrupt {
  const controller = new AbortController();
  const stop = () => {
    if (controller.signal.aborted) process.exit(exitCodes.interrupted);
    controller.abort();
  };
  process.on("SIGINT", stop);
  return { signal: controller.signal, release: () => process.off("SIGINT", stop) };
}
