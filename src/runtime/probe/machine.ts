/** The machine that is probed, under Node: what its figures depend on, so that they are measured anew when it changes. */
import { nodeModules } from "./node-modules.ts";

/** Compared as a whole: any difference makes cached figures worthless. */
export interface Conditions {
  /** Of this package, and of the programs that figures are measured with. */
  readonly package: string;
  readonly engine: string;
  readonly cpu: string;
  readonly cores: number;
  /** Bytes that the process may have. */
  readonly memory: number;
  /** What is known of graphics drivers: their versions, and which Vulkan is told of. */
  readonly drivers: string;
  /** Optional packages and their versions. */
  readonly packages: readonly string[];
}

/** Raised when the programs or what is kept of them change. */
const programs = 4;

const optionalPackages = [
  "webgpu",
  "@tensorflow/tfjs-core",
  "@tensorflow/tfjs-backend-cpu",
  "@tensorflow/tfjs-backend-wasm",
  "@tensorflow/tfjs-backend-webgpu",
  "@tensorflow/tfjs-node",
  "@tensorflow/tfjs-node-gpu",
];

/**
 * A few milliseconds.
 * @param vulkan where the environment says that drivers are
 * @param packageFolder where optional packages are, if not beside this one
 */
export function readConditions(vulkan: string, packageFolder?: string): Conditions {
  const { os } = nodeModules();
  const cpus = os.cpus();
  return {
    package: `${ownVersion()}, programs ${programs}`,
    engine: `${process.release.name} ${process.version}, v8 ${process.versions.v8}, ${process.platform} ${process.arch}`,
    cpu: cpus[0]?.model.trim() ?? "unknown",
    cores: os.availableParallelism(),
    memory: usableMemory(),
    drivers: driversOf(vulkan),
    packages: optionalPackages.flatMap((name) => {
      const version = packageVersion(name, packageFolder);
      return version === null ? [] : [`${name} ${version}`];
    }),
  };
}

/** Bytes that this process may have: of the machine, or as its container is limited. */
export function usableMemory(): number {
  const total = nodeModules().os.totalmem();
  // 0 or absurdly large where there is no limit.
  const limit = process.constrainedMemory();
  return limit > 0 && limit < total ? limit : total;
}

/** Milliseconds that all cores have worked, and this process: less than the system counts where others work too. */
export interface WorkedTime {
  readonly all: number;
  readonly own: number;
  readonly at: number;
}

export function workedTime(): WorkedTime {
  const times = nodeModules()
    .os.cpus()
    .map(({ times }) => times);
  const all = times.reduce((sum, { user, nice, sys, irq }) => sum + user + nice + sys + irq, 0);
  const { user, system } = process.cpuUsage();
  return { all, own: (user + system) / 1000, at: performance.now() };
}

/** Cores that others kept busy between two times; null where the system counts nothing, or for too short a time to say. */
export function busyCores(from: WorkedTime, to: WorkedTime): number | null {
  const passed = to.at - from.at;
  if (to.all <= from.all || passed < 100) return null;
  return Math.max(0, (to.all - from.all - (to.own - from.own)) / passed);
}

/** Whether so many cores, used by others, spoil figures: threads of a program that has all cores wait for each other. */
export function isBusy(cores: number | null): cores is number {
  return cores !== null && cores > 0.25;
}

/** The installed version, "unknown" where it hides that; null where the package is not installed, in `packageFolder` or beside this one. */
export function packageVersion(name: string, packageFolder?: string): string | null {
  const { fs, path, module } = nodeModules();
  const from = packageFolder === undefined ? import.meta.url : path.resolve(packageFolder, "package.json");
  for (const folder of module.createRequire(from).resolve.paths(name) ?? []) {
    const file = path.join(folder, name, "package.json");
    if (fs.existsSync(file)) return versionIn(file) ?? "unknown";
  }
  return null;
}

function ownVersion(): string {
  const { url } = nodeModules();
  return versionIn(url.fileURLToPath(new URL("../../../package.json", import.meta.url))) ?? "unknown";
}

function versionIn(file: string): string | null {
  try {
    const parsed: unknown = JSON.parse(nodeModules().fs.readFileSync(file, "utf8"));
    const version = typeof parsed === "object" && parsed !== null && "version" in parsed ? parsed.version : null;
    return typeof version === "string" ? version : null;
  } catch {
    // A package that cannot be read has no version that could change.
    return null;
  }
}

/** Where Linux describes Vulkan's drivers. */
function vulkanFolders(): string[] {
  const { os } = nodeModules();
  const nvidia = "/usr/local/nvidia/share"; // in containers
  const shared = ["/etc", "/usr/local/etc", "/usr/share", "/usr/local/share", nvidia, `${os.homedir()}/.local/share`];
  return shared.map((folder) => `${folder}/vulkan/icd.d`);
}

/** False on Linux where no driver is described: then there is nothing to open, and opening complains on stderr. */
export function mayHaveVulkan(vulkan: string): boolean {
  if (process.platform !== "linux" || vulkan !== "") return true;
  const { fs } = nodeModules();
  return vulkanFolders().some((folder) => {
    try {
      return fs.readdirSync(folder).some((name) => name.endsWith(".json"));
    } catch {
      return false;
    }
  });
}

/** NVIDIA's driver says its version in a file; of the others, the descriptions that Vulkan loads are what changes. */
function driversOf(vulkan: string): string {
  const { fs } = nodeModules();
  const read = (file: string) => {
    try {
      return fs.readFileSync(file, "utf8").split("\n")[0] ?? "";
    } catch {
      return "";
    }
  };
  const list = (folder: string) => {
    try {
      return fs.readdirSync(folder).map((name) => `${name} ${fs.statSync(`${folder}/${name}`).mtimeMs}`);
    } catch {
      return [];
    }
  };
  const described = vulkanFolders().flatMap(list);
  return [read("/proc/driver/nvidia/version"), ...described, vulkan].filter((part) => part !== "").join("; ");
}
