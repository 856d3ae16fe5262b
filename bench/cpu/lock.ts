/** Turns among benchmarks on one machine. */
import { spawn } from "node:child_process";

/** Runs a task while this process alone holds the lock of `file` among benchmarks that ask for it, by util-linux's flock. */
export async function locked<T>(file: string | undefined, task: () => Promise<T>): Promise<T> {
  if (file === undefined) return task();
  const holder = spawn("flock", ["-x", file, "sh", "-c", "echo held; cat"], { stdio: ["pipe", "pipe", "inherit"] });
  await new Promise((resolve, reject) => {
    holder.stdout.once("data", resolve);
    holder.once("error", reject);
  });
  try {
    return await task();
  } finally {
    holder.stdin.end();
  }
}
