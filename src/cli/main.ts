#!/usr/bin/env node
/** The program: runs the command of the command line in this process, with its streams and exit code. */
import { exitCodes } from "./command.ts";
import { dispatch } from "./dispatch.ts";

/** A reader that has seen enough (`| head`) closes the pipe: nothing is wrong, and there is nothing left to do. */
function endQuietlyOnClosedPipe(stream: NodeJS.WriteStream): void {
  stream.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code === "EPIPE") process.exit(exitCodes.done);
    throw error;
  });
}

endQuietlyOnClosedPipe(process.stdout);
endQuietlyOnClosedPipe(process.stderr);
// Not process.exit: what was written to a pipe may still be on its way.
process.exitCode = await dispatch(process.argv.slice(2), (text) => process.stderr.write(text));
