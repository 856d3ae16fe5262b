/**
 * What is said when tfjs-node or tfjs-node-gpu fails, produced with the real packages: a folder of links to what
 * `scripts/install-tensorflow.ts` installed and built, in which one thing is missing or broken. The libraries are those of
 * TensorFlow for the processor, for both packages.
 */
import { execFileSync } from "node:child_process";
import {
  appendFileSync,
  copyFileSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { prepareDevice } from "../../../src/compile.ts";
import { gpuPackageFolder, tensorFlowFolder } from "./tensorflow.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "real-packages-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

function linkAll(from: string, to: string, but: readonly string[]): void {
  mkdirSync(to, { recursive: true });
  for (const name of readdirSync(from)) {
    if (!but.includes(name)) symlinkSync(realpathSync(join(from, name)), join(to, name));
  }
}

/** The package as it is installed, its own scripts and its addon as files: they look for others from where they are. */
function install(from: string, name: string): string {
  const [source, target] = [from, folder].map((each) => join(each, "node_modules")) as [string, string]; // two
  linkAll(source, target, ["@tensorflow", ".package-lock.json"]);
  linkAll(join(source, "@tensorflow"), join(target, "@tensorflow"), [name]);
  const [own, to] = [source, target].map((each) => join(each, "@tensorflow", name)) as [string, string]; // two
  for (const part of ["package.json", "dist", "lib"]) cpSync(join(own, part), join(to, part), { recursive: true });
  linkAll(join(own, "deps", "lib"), join(to, "deps", "lib"), []);
  return to;
}

const addon = ["lib", "napi-v8", "tfjs_binding.node"] as const;
const library = ["deps", "lib", "libtensorflow_cc.so.2"] as const;

/** An addon of the kind that is bound to one version of Node, of Node 18. */
const oldAddon = `
struct Module { int version; unsigned flags; void *handle; const char *file; void *begin, *beginIn; const char *name; void *own, *next; };
extern "C" void node_module_register(void *);
static Module module = { 108, 0, nullptr, "old.cc", nullptr, (void *)&module, "old", nullptr, nullptr };
__attribute__((constructor)) static void announce() { node_module_register(&module); }
`;

function compileInto(path: string, source: string): void {
  rmSync(path, { force: true });
  execFileSync("g++", ["-shared", "-fPIC", "-x", "c++", "-", "-o", path], { input: source });
}

const backends = [
  ["tensorflow", "tfjs-node", tensorFlowFolder],
  ["tensorflow-gpu", "tfjs-node-gpu", gpuPackageFolder],
] as const;

describe.each(backends)("%s", (backend, name, from) => {
  const rebuild = `npm rebuild @tensorflow/${name}`;
  const anew = `npm rm @tensorflow/${name} && npm install @tensorflow/${name}@4.22.0`;

  /** What preparing both backends of the package says: in a thread, and here. */
  async function failures(): Promise<readonly string[]> {
    const all: string[] = [];
    for (const each of [backend, `${backend}-ops`]) {
      const failed = await prepareDevice(each, { packageFolder: folder }).catch((error: unknown) => error);
      expect(failed).toMatchObject({ name: "UnsupportedError" });
      all.push((failed as Error).message.replaceAll(realpathSync(folder), "FOLDER")); // as expected
    }
    return all;
  }

  it("is not installed", async () => {
    const all = await failures();
    expect(all).toEqual([
      `${backend}: the package @tensorflow/${name} is not installed\nInstall it: npm install @tensorflow/${name}@4.22.0`,
      `${backend}: the package @tensorflow/${name} is not installed\nInstall it: npm install @tensorflow/${name}@4.22.0`,
    ]);
  });

  const cases: readonly (readonly [name: string, breakIt: (at: string) => void, what: RegExp, mend: string])[] = [
    ["has no addon", (at) => rmSync(join(at, ...addon)), /is installed without its native addon/, rebuild],
    [
      "has a text file for an addon",
      (at) => writeFileSync(join(at, ...addon), "Not found\n"),
      /native addon of @tensorflow\/\S+ is not one that this Node can load here: \S+tfjs_binding.node: file too short/,
      anew,
    ],
    [
      "has an addon of another Node",
      (at) => compileInto(join(at, ...addon), oldAddon),
      /is not one that this Node can load here: The module \S+ was compiled against a different Node.js version/,
      anew,
    ],
    [
      "has no library",
      (at) => rmSync(join(at, "deps"), { recursive: true }),
      /the TensorFlow library that \S+ runs on is missing: libtensorflow\S+ cannot open shared object file/,
      rebuild,
    ],
    [
      "has half of the library",
      (at) => rmSync(join(at, "deps", "lib", "libtensorflow_framework.so.2")),
      /is not whole: libtensorflow_framework.so.2: cannot open shared object file/,
      anew,
    ],
    [
      "has a library that is cut short",
      (at) => {
        rmSync(join(at, ...library));
        copyFileSync(join(at, "package.json"), join(at, ...library));
      },
      /is not whole: \S+libtensorflow_cc.so.2: (file too short|invalid ELF header)/,
      anew,
    ],
    [
      "lacks a package that it needs",
      (at) => rmSync(join(at, "..", "tfjs")),
      /cannot be loaded: Cannot find module '@tensorflow\/tfjs'/,
      `npm install @tensorflow/${name}@4.22.0`,
    ],
    [
      "throws while it is loaded",
      (at) => appendFileSync(join(at, "dist", "version.js"), "\nthrow new TypeError('out of order');"),
      /cannot be loaded: out of order/,
      `npm install @tensorflow/${name}@4.22.0`,
    ],
  ];
  it.skipIf(from === null).each(cases)("%s", async (_, breakIt, what, mend) => {
    breakIt(install(from!, name));
    for (const message of await failures()) {
      expect(message).toMatch(what);
      expect(message.split("\n")).toHaveLength(2);
      expect(message.endsWith(mend)).toBe(true);
    }
  });
});

/** What a script prints in a process of its own, which has loaded nothing else. */
function printed(script: string): string {
  const env = { ...process.env, TF_CPP_MIN_LOG_LEVEL: "3" };
  return execFileSync(process.execPath, ["--input-type=module", "-e", script], { cwd: folder, encoding: "utf8", env });
}

const source = (file: string) => JSON.stringify(pathToFileURL(join(import.meta.dirname, "../../../src", file)).href);

describe.skipIf(tensorFlowFolder === null)("what Node 23 took from node:util", () => {
  const topOne = "tf.topk(tf.tensor([3, 4]), 1).indices.dataSync()[0]";

  it.skipIf(Number.parseInt(process.versions.node, 10) < 23)("breaks the package as it is", () => {
    const script = `
      import { createRequire } from "node:module";
      const tf = createRequire(${JSON.stringify(`${tensorFlowFolder}/x.cjs`)})("@tensorflow/tfjs-node");
      try { ${topOne} } catch (error) { console.log(error.message) }`;
    expect(printed(script)).toContain("isNullOrUndefined) is not a function");
  });

  it("is there where the package is imported by the backend", () => {
    const script = `
      import { importFrom } from ${source("backends/tfjs/package-folder.ts")};
      import { importTensorFlow } from ${source("backends/tfjs/packages.ts")};
      const { tf } = await importTensorFlow("tensorflow", importFrom(${JSON.stringify(tensorFlowFolder)}));
      console.log(${topOne})`;
    expect(printed(script).trim()).toBe("1");
  });
});

// Last: a library that is loaded is found by its name ever after.
it.skipIf(gpuPackageFolder === null).each(["tensorflow-gpu", "tensorflow-gpu-ops"])(
  "%s finds no GPU, and is refused: it would compute on the processor without a word",
  async (backend) => {
    install(gpuPackageFolder!, "tfjs-node-gpu");
    const opening = prepareDevice(backend, { packageFolder: folder });
    await expect(opening).rejects.toThrow(
      /^tensorflow-gpu: TensorFlow runs, but finds no GPU that it can use\nSee .*nvidia-smi/,
    );
  },
);
