/**
 * Ranks that are processes under Node, each of which can be shown a GPU of its own: Dawn takes the first that it finds. The
 * modules of Node are reached through the process, so that a browser bundle imports none.
 */
import { InputError, UnsupportedError } from "../../ir/errors.ts";
import type { RankEvents, RankHandle, RankSite } from "./mesh-ranks.ts";
import type { FromRank, RankStart, ToRank } from "./messages.ts";
import type { RankPort } from "./serve-rank.ts";
import { makeSocketMesh, removeSocketMesh, type SocketMesh } from "./sockets.ts";

/** The first message to a process. */
interface ProcessStart {
  readonly start: RankStart;
  readonly sockets: SocketMesh;
}

export interface ProcessOptions {
  /** Numbers of NVIDIA's GPUs, as in /dev/nvidia0, for the ranks in turn; null shows each rank all there are. */
  readonly gpus: readonly number[] | null;
}

/** What Linux calls NVIDIA's GPUs. */
const devicePattern = /^nvidia(\d+)$/;

export async function processSite({
  gpus,
}: ProcessOptions): Promise<RankSite & { readonly clear: () => Promise<void> }> {
  const present = gpus === null ? [] : presentGpus();
  for (const gpu of gpus ?? []) {
    if (present.includes(gpu)) continue;
    const what = `there is no /dev/nvidia${gpu}`;
    throw new InputError("gpus", what, { hint: present.length > 0 ? `There are: ${present.join(", ")}.` : "None is." });
  }
  const sockets = await makeSocketMesh();
  return {
    start: (start, events) => {
      const gpu = gpus === null ? null : gpus[start.rank % gpus.length]!;
      return startProcess({ start, sockets }, gpu === null ? [] : present.filter((each) => each !== gpu), events);
    },
    // Each hears of the others' end by its sockets.
    stop: () => {},
    clear: () => removeSocketMesh(sockets),
  };
}

/** `hidden`: GPUs that the process is not to see. */
function startProcess(given: ProcessStart, hidden: readonly number[], { message, gone }: RankEvents): RankHandle {
  const { spawn } = process.getBuiltinModule("node:child_process");
  const { fileURLToPath } = process.getBuiltinModule("node:url");
  // Run from its source or as it was built.
  const file = import.meta.url.endsWith(".ts") ? "./rank-process.ts" : "./rank-process.js";
  const node = [process.execPath, ...process.execArgv, fileURLToPath(new URL(file, import.meta.url))];
  const [program, ...args] = hidden.length === 0 ? node : withoutDevices(hidden, node);
  const child = spawn(program!, args, { stdio: ["ignore", "inherit", "inherit", "ipc"], serialization: "advanced" });
  const left = new Promise<void>((resolve) => child.once("close", () => resolve()));
  child.on("message", (each) => message(each as FromRank)); // what `processPort` sends
  child.on("error", (error) => gone(`the process did not start: ${error.message}`));
  child.on("exit", (code, signal) => gone(`the process ended: ${signal ?? `exit code ${code}`}`));
  // A process that is gone hears nothing more, and its end is told.
  const send = (each: ProcessStart | ToRank) => void (child.connected && child.send(each, () => {}));
  send(given);
  const hold = (alive: boolean) => {
    const each = alive ? "ref" : "unref";
    child[each]();
    child.channel?.[each]();
  };
  return {
    post: send,
    hold,
    end: async () => {
      hold(true);
      child.kill("SIGKILL");
      await left;
    },
    gone: left,
  };
}

/** The command in a world of mounts of its own, in which nothing can be opened where these GPUs are. */
function withoutDevices(hidden: readonly number[], command: readonly string[]): readonly string[] {
  const mounts = hidden.map((gpu) => `mount --bind /dev/null /dev/nvidia${gpu}`);
  const isRoot = process.getuid?.() === 0;
  const world = ["unshare", "--mount", ...(isRoot ? [] : ["--map-root-user"])];
  return [...world, "sh", "-c", `${mounts.join(" && ")} && exec "$@"`, "sh", ...command];
}

function presentGpus(): readonly number[] {
  if (process.platform !== "linux") throw new UnsupportedError("gpus", "GPUs can be told apart on Linux alone");
  const names = process.getBuiltinModule("node:fs").readdirSync("/dev");
  return names.flatMap((name) => devicePattern.exec(name)?.[1] ?? []).map(Number);
}

/** In a rank's process: what it is started with, and the way back. */
export function processPort(): Promise<ProcessStart & { readonly port: RankPort }> {
  if (process.send === undefined) throw new UnsupportedError("rank process", "expected to be a process of a mesh");
  const early: ToRank[] = [];
  let hear = (message: ToRank): void => void early.push(message);
  const port: RankPort = {
    listen: (listener) => {
      hear = listener;
      for (const each of early.splice(0)) hear(each);
    },
    post: (each) => void process.send?.(each),
    close: () => process.exit(0),
  };
  // Without whoever drives there is nothing to do.
  process.on("disconnect", () => process.exit(0));
  return new Promise((resolve) => {
    process.once("message", (first) => {
      process.on("message", (each) => hear(each as ToRank)); // what `startProcess` posts
      resolve({ ...(first as ProcessStart), port }); // what it sends first
    });
  });
}
