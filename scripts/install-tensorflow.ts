/**
 * Installs TensorFlow.js for Node with a real TensorFlow, in a folder of its own (`.cache/tensorflow`; with `--gpu`
 * `.cache/tensorflow-gpu`), for tests and measurements: the package's own installer needs the vendor's download site, and
 * TensorFlow 2.9 is too old for new GPUs.
 *
 *     node scripts/install-tensorflow.ts [--library FOLDER] [--gpu] [--folder FOLDER]
 *
 * The library comes from `--library` (or TENSORFLOW_LIBRARY), a folder as the C library or a Python package has it, or
 * else out of the Python wheel, which `pip download` brings. The package for GPUs can be built on the library for the
 * processor (`deps` of the other package), to see what it does without a GPU. Needs npm and g++; pip only to download.
 * May be run again.
 */
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { extract, openZip, readText, type ZipFile } from "./read-zip.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
const { values: flags } = parseArgs({
  options: { folder: { type: "string" }, library: { type: "string" }, gpu: { type: "boolean", default: false } },
});
const folder = resolve(flags.folder ?? join(root, ".cache", flags.gpu ? "tensorflow-gpu" : "tensorflow"));
const library = flags.library ?? process.env.TENSORFLOW_LIBRARY;
const packageName = flags.gpu ? "@tensorflow/tfjs-node-gpu" : "@tensorflow/tfjs-node";
const packageFolder = join(folder, "node_modules", packageName);
/** The wheel, pinned like everything else; for Python 3.11 only by name: nothing of Python is used. */
const wheel = { name: flags.gpu ? "tensorflow" : "tensorflow-cpu", version: "2.21.0" };
/** What the addon includes (`binding/*.cc` of the package); what these include is found by following them. */
const headers = ["c_api.h", "eager/c_api.h", "tf_datatype.h", "tf_status.h", "tf_tensor.h"].map(
  (name) => `tensorflow/c/${name}`,
);
const moreHeaders = ["tensorflow/core/platform/ctstring_internal.h"];

const start = performance.now();
if (works() !== null) {
  say(`nothing to do: ${works()}`);
} else {
  installPackage();
  await placeLibrary();
  buildAddon();
  const found = works();
  if (found === null) throw new Error(`${packageName} was built and does not run: ${tryImport().reason}`);
  say(`${found}, in ${folder}, after ${((performance.now() - start) / 1000).toFixed(0)} s`);
}

function say(text: string): void {
  console.log(`install-tensorflow: ${text}`);
}

function runs(command: string, args: readonly string[], at = folder): string {
  return execFileSync(command, args, { cwd: at, encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] });
}

/** The package without its install script, and the headers of Node's stable interface, which every Node has alike. */
function installPackage(): void {
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, "package.json"), `${JSON.stringify({ private: true, type: "commonjs" })}\n`);
  const wanted = [`${packageName}@4.22.0`, "node-api-headers@1.9.0"];
  runs("npm", ["install", "--no-audit", "--no-fund", "--loglevel=error", "--ignore-scripts", ...wanted]);
  // Nearly two thirds of what was installed.
  for (const name of readdirSync(join(folder, "node_modules"), { recursive: true, encoding: "utf8" })) {
    if (name.endsWith(".map")) rmSync(join(folder, "node_modules", name));
  }
}

async function placeLibrary(): Promise<void> {
  const deps = join(packageFolder, "deps");
  rmSync(deps, { recursive: true, force: true });
  mkdirSync(join(deps, "lib"), { recursive: true });
  if (library !== undefined) {
    linkLibrary(resolve(library), deps);
    return;
  }
  const zip = await openZip(downloadWheel());
  for (const [name, link] of [
    ["libtensorflow_framework.so.2", "libtensorflow_framework.so"],
    ["libtensorflow_cc.so.2", "libtensorflow.so"], // it exports the C interface as well
  ] as const) {
    await extract(zip, `tensorflow/${name}`, join(deps, "lib", name));
    symlinkSync(name, join(deps, "lib", link));
  }
  await extractHeaders(zip, deps);
  rmSync(zip.path);
}

/** Links a library that is there: `lib` and `include` of a C library, or the folder of a Python package. */
function linkLibrary(from: string, deps: string): void {
  const places = [from, join(from, "lib")];
  const find = (names: readonly string[]): string => {
    const found = places.flatMap((place) => names.map((name) => join(place, name))).find((path) => existsSync(path));
    if (found === undefined) throw new Error(`${from}: expected one of ${names.join(", ")} there or in its lib`);
    return found;
  };
  const include = [from, dirname(from)].map((place) => join(place, "include")).find((path) => existsSync(path));
  if (include === undefined) throw new Error(`${from}: expected a folder include there or beside it`);
  const cc = find(["libtensorflow.so", "libtensorflow.so.2", "libtensorflow_cc.so.2"]);
  const framework = find(["libtensorflow_framework.so", "libtensorflow_framework.so.2"]);
  // The name that the library asks its loader for, beside the one that the linker looks for.
  for (const [path, names] of [
    [cc, ["libtensorflow.so", "libtensorflow.so.2", "libtensorflow_cc.so.2"]],
    [framework, ["libtensorflow_framework.so", "libtensorflow_framework.so.2"]],
  ] as const) {
    for (const name of names) symlinkSync(path, join(deps, "lib", name));
  }
  symlinkSync(include, join(deps, "include"));
}

function downloadWheel(): string {
  say(`downloading ${wheel.name} ${wheel.version}`);
  const to = join(folder, "wheel");
  rmSync(to, { recursive: true, force: true });
  mkdirSync(to);
  const platform = ["--only-binary=:all:", "--python-version", "3.11", "--platform", "manylinux_2_27_x86_64"];
  const patience = ["--retries", "1", "--timeout", "20", "--no-cache-dir", "--quiet"];
  runs("pip", ["download", `${wheel.name}==${wheel.version}`, "--no-deps", "-d", to, ...platform, ...patience]);
  const name = readdirSync(to).find((each) => each.endsWith(".whl"));
  if (name === undefined) throw new Error("pip download left no wheel");
  return join(to, name);
}

/** The few of the wheel's ten thousand headers that are reached. */
async function extractHeaders(zip: ZipFile, deps: string): Promise<void> {
  const wanted = [...headers, ...moreHeaders];
  for (const name of wanted) {
    const entry = `tensorflow/include/${name}`;
    await extract(zip, entry, join(deps, "include", name));
    for (const [, next] of (await readText(zip, entry)).matchAll(/^\s*#\s*include\s+"([^"]+)"/gm)) {
      if (next !== undefined && !wanted.includes(next)) wanted.push(next);
    }
  }
}

/** What `binding.gyp` of the package says, in one call of the compiler: no node-gyp, no Python, no headers of one Node. */
function buildAddon(): void {
  say("building the addon");
  const to = join(packageFolder, "lib", "napi-v8");
  mkdirSync(to, { recursive: true });
  const include = [join(folder, "node_modules", "node-api-headers", "include"), "deps/include", "."];
  runs(
    "g++",
    [
      ..."-std=c++17 -O2 -shared -fPIC -DNAPI_VERSION=8 -w".split(" "),
      ...include.map((each) => `-I${each}`),
      "binding/tfjs_backend.cc",
      "binding/tfjs_binding.cc",
      "-Ldeps/lib",
      "-ltensorflow",
      "-ltensorflow_framework",
      "-Wl,-rpath,$ORIGIN/../../deps/lib",
      "-o",
      join(to, "tfjs_binding.node"),
    ],
    packageFolder,
  );
}

/** What is installed, in a few words; null where it does not run. */
function works(): string | null {
  return existsSync(join(packageFolder, "lib")) ? tryImport().found : null;
}

function tryImport(): { readonly found: string | null; readonly reason: string } {
  const { version } = JSON.parse(readFileSync(join(packageFolder, "package.json"), "utf8")) as { version: string }; // npm's
  const code = `process.stdout.write("TensorFlow " + require(${JSON.stringify(packageFolder)}).backend().binding.TF_Version)`;
  try {
    const env = { ...process.env, TF_CPP_MIN_LOG_LEVEL: "3" };
    const found = execFileSync(process.execPath, ["-e", code], {
      encoding: "utf8",
      env,
      stdio: ["ignore", "pipe", "pipe"],
    });
    return { found: `${packageName} ${version} with ${found}`, reason: "" };
  } catch (error) {
    return { found: null, reason: String(error) };
  }
}
