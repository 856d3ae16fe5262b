#!/usr/bin/env node
/** The program: runs the command of the command line in this process, with its streams and exit code. */
import { exitCodes } from "./command.ts";
import { dispatch } from "./dispatch.ts";

/** A reader that has seen enough (`| head`) closes the pipe: nothing is wrong. A disk may be full. Nothing is left to do. */
function endWhereNobodyReads(stream: NodeJS.WriteStream, name: string): void {
  stream.on("error", ({ code, message }: NodeJS.ErrnoException) => {
    if (code === "EPIPE") process.exit(exitCodes.done);
    if (stream !== process.stderr) process.stderr.write(`ciuic: ${name}: cannot write: ${code ?? message}\n`);
    process.exit(exitCodes.usage);
  });
}

endWhereNobodyReads(process.stdout, "stdout");
endWhereNobodyReads(process.stderr, "stderr");
// Not process.exit: what was written to a pipe may still be on its way.
process.exitCode = await dispatch(process.argv.slice(2), (text) => process.stderr.write(text));
