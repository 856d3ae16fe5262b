/**
 * What is said when an optional package fails, with the one command that mends it: on any machine, with scripts that stand
 * in for the packages of TensorFlow. `real-packages.test.ts` has the same with the packages themselves.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import util from "node:util";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { prepareDevice } from "../../../src/compile.ts";
import { UnsupportedError } from "../../../src/ir/errors.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "packages-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

/** A package of one script. */
function install(name: string, script: string): void {
  const at = join(folder, "node_modules", name);
  mkdirSync(at, { recursive: true });
  writeFileSync(join(at, "package.json"), JSON.stringify({ name, version: "4.22.0", main: "index.js" }));
  writeFileSync(join(at, "index.js"), script);
}

/** Imports as a script of the folder does, by Node itself: the test runner would look in this project too. */
const importPackage = (name: string): Promise<unknown> => {
  const from = join(folder, "main.cjs");
  writeFileSync(from, "exports.load = (name) => import(name);");
  return createRequire(from)(from).load(name);
};

async function failure(backend: string): Promise<string> {
  const error = await prepareDevice(backend, { importPackage, packageFolder: folder }).then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(UnsupportedError);
  const { message } = error as UnsupportedError; // expected above
  return message.replaceAll(folder, "FOLDER");
}

/** TensorFlow.js in as far as a device asks for it, with a backend of that name. */
const fakeTensorFlow = (gpu: boolean) => `
const engine = { backendName: "theirs", backendInstance: {}, registry: { tensorflow: { isUsingGpuDevice: ${gpu} } } };
module.exports = { engine: () => engine, setBackend: async () => true, tidy: (make) => make() };
`;

describe("a package that is not there", () => {
  it.each([
    ["tfjs-cpu", "npm install @tensorflow/tfjs-core@4.22.0 @tensorflow/tfjs-backend-cpu@4.22.0"],
    ["tfjs-wasm", "npm install @tensorflow/tfjs-core@4.22.0 @tensorflow/tfjs-backend-wasm@4.22.0"],
    ["tfjs-webgpu", "npm install @tensorflow/tfjs-core@4.22.0 @tensorflow/tfjs-backend-webgpu@4.22.0"],
    ["tensorflow", "npm install @tensorflow/tfjs-node@4.22.0"],
    ["tensorflow-gpu", "npm install @tensorflow/tfjs-node-gpu@4.22.0"],
    ["tensorflow-ops", "npm install @tensorflow/tfjs-node@4.22.0"],
    ["tensorflow-gpu-ops", "npm install @tensorflow/tfjs-node-gpu@4.22.0"],
  ])("%s", async (backend, command) => {
    const message = await failure(backend);
    expect(message).toMatch(/^(tfjs-\w+|tensorflow(-gpu)?): the package @tensorflow\/\S+ is not installed/);
    expect(message).toContain(command);
  });
});

describe.each([
  // In a thread, which looks in the folder, and here.
  ["tensorflow", "@tensorflow/tfjs-node"],
  ["tensorflow-gpu", "@tensorflow/tfjs-node-gpu"],
  ["tensorflow-ops", "@tensorflow/tfjs-node"],
  ["tensorflow-gpu-ops", "@tensorflow/tfjs-node-gpu"],
])("%s", (backend, name) => {
  it("installed without running its script", async () => {
    install(
      name,
      "throw new Error('The Node.js native addon module (tfjs_binding.node) can not be found at path: /x/lib/napi-v8/tfjs_binding.node')",
    );
    const message = await failure(backend);
    expect(message).toContain("without its native addon");
    expect(message).toContain(`npm rebuild ${name}`);
  });

  it("an addon without TensorFlow's library", async () => {
    // Node's own error: a file that is no library.
    install(
      name,
      "require('node:fs').writeFileSync(__dirname + '/libtensorflow.node', 'none'); process.dlopen({ exports: {} }, __dirname + '/libtensorflow.node')",
    );
    const message = await failure(backend);
    expect(message).toContain("the TensorFlow library");
    expect(message).toContain(`npm rm ${name} && npm install ${name}@4.22.0`);
  });

  it("anything else", async () => {
    install(name, "throw new TypeError('out of order')");
    const message = await failure(backend);
    expect(message).toContain(`${name} cannot be loaded: out of order`);
    expect(message).toContain(`npm install ${name}@4.22.0`);
  });

  it("a package that it needs is not there", async () => {
    install(name, "require('@tensorflow/tfjs')");
    expect(await failure(backend)).toContain("cannot be loaded: Cannot find module '@tensorflow/tfjs'");
  });
});

it.each(["tensorflow-gpu", "tensorflow-gpu-ops"])(
  "%s: a package that finds no GPU is refused, on the CPU it would compute without a word",
  async (backend) => {
    install("@tensorflow/tfjs-node-gpu", fakeTensorFlow(false));
    const message = await failure(backend);
    expect(message).toContain("finds no GPU");
    expect(message).toContain("nvidia-smi");
    expect(message).toContain("--backend tensorflow");
  },
);

it("a GPU package with a GPU and the CPU package are opened", async () => {
  install("@tensorflow/tfjs-node-gpu", fakeTensorFlow(true));
  install("@tensorflow/tfjs-node", fakeTensorFlow(false));
  const gpu = await prepareDevice("tensorflow-gpu-ops", { importPackage });
  expect(gpu.summary).toContain("TensorFlow on the GPU");
  const cpu = await prepareDevice("tensorflow-ops", { importPackage });
  expect(cpu.summary).toContain("TensorFlow on the CPU");
});

it("what Node 23 took from node:util is there before the package is imported", async () => {
  const gone = util as { isNullOrUndefined?: unknown }; // not of these types any more
  const had = gone.isNullOrUndefined;
  delete gone.isNullOrUndefined;
  install(
    "@tensorflow/tfjs-node",
    `if (!require("node:util").isNullOrUndefined(undefined)) throw new Error("no"); ${fakeTensorFlow(false)}`,
  );
  await prepareDevice("tensorflow-ops", { importPackage });
  if (had !== undefined) gone.isNullOrUndefined = had;
});

it("a package that makes itself the current backend is put back", async () => {
  install("@tensorflow/tfjs-core", fakeTensorFlow(false));
  install(
    "@tensorflow/tfjs-node",
    'const tf = require("@tensorflow/tfjs-core"); tf.engine().backendName = "tensorflow"; module.exports = tf;',
  );
  await prepareDevice("tensorflow-ops", { importPackage });
  const core = createRequire(join(folder, "main.cjs"))("@tensorflow/tfjs-core");
  expect(core.engine().backendName).toBe("theirs");
});
