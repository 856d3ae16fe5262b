/**
 * Makes a folder that runs this benchmark on another x86-64 Linux with nothing installed but a shell, tar and xz: Node,
 * our code in a few files, llama.cpp's libraries and onnxruntime-node. `node bench/cpu/bundle.ts [FOLDER]`, then there
 * `./run.sh --peers llama,ort`.
 */
import { execFileSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = fileURLToPath(new URL(".", import.meta.url));
const folder = process.argv[2] ?? `${here}bundle`;
const stage = `${folder}/stage`;
const mostBytes = 55 * 2 ** 20;

/** llama.cpp's builds for x86-64 servers of the last years; it needs one to run and chooses the best. */
const builds = ["sapphirerapids", "alderlake", "icelake", "zen4", "cooperlake", "skylakex", "haswell", "x64"];
const llama = "node_modules/@node-llama-cpp/linux-x64/bins/linux-x64";
const onnx = "node_modules/onnxruntime-node";

const script = `#!/bin/sh
# Unpacks itself beside this file, then runs the benchmark; see README.md of bench/cpu for the flags.
set -e
cd "$(dirname "$0")"
if [ ! -e unpacked/ready ]; then
  mkdir -p unpacked
  xz -dc node.xz > unpacked/node
  chmod +x unpacked/node
  xz -dc rest.tar.xz | tar -xf - -C unpacked
  touch unpacked/ready
fi
exec unpacked/node unpacked/code/main.js "$@"
`;

mkdirSync(folder, { recursive: true });
rmSync(stage, { recursive: true, force: true });
await bundleCode();
copyLibraries();
execFileSync("sh", ["-c", `tar -cf - -C "${stage}" code node_modules | xz -9 > "${folder}/rest.tar.xz"`]);
if (!existsSync(`${folder}/node.xz`)) packNode();
writeFileSync(`${folder}/run.sh`, script, { mode: 0o755 });
rmSync(stage, { recursive: true });
report();

/** Threads are started from text, so that no file beside these is needed. */
async function bundleCode(): Promise<void> {
  await build({
    entryPoints: [`${here}main.ts`],
    outdir: `${stage}/code`,
    bundle: true,
    splitting: true,
    platform: "node",
    format: "esm",
    target: "node24",
    external: ["playwright-core"],
    logLevel: "warning",
  });
  writeFileSync(`${stage}/code/package.json`, '{ "type": "module" }\n');
}

/** In the places where the code looks for them: beside its own folder. */
function copyLibraries(): void {
  const wanted = (file: string) => {
    const build = /^libggml-cpu-(\w+)\.so$/.exec(file)?.[1];
    return build === undefined ? /\.(so|node)$/.test(file) : builds.includes(build);
  };
  for (const file of readdirSync(here + llama).filter(wanted))
    cpSync(`${here}${llama}/${file}`, `${stage}/${llama}/${file}`);
  for (const part of ["package.json", "dist"])
    cpSync(`${here}${onnx}/${part}`, `${stage}/${onnx}/${part}`, { recursive: true });
  for (const version of readdirSync(`${here}${onnx}/bin`)) {
    const part = `${onnx}/bin/${version}/linux/x64`;
    cpSync(`${here}${part}`, `${stage}/${part}`, { recursive: true });
  }
  const common = "node_modules/onnxruntime-common";
  for (const part of ["package.json", "dist/cjs"])
    cpSync(`${here}${common}/${part}`, `${stage}/${common}/${part}`, { recursive: true });
}

/** The Node that runs this, without its debug information. */
function packNode(): void {
  execFileSync("strip", ["-o", `${folder}/node`, process.execPath]);
  execFileSync("xz", ["-9", `${folder}/node`]);
}

function report(): void {
  const sizes = ["node.xz", "rest.tar.xz", "run.sh"].map((file) => [file, statSync(`${folder}/${file}`).size] as const);
  const total = sizes.reduce((sum, [, size]) => sum + size, 0);
  for (const [file, size] of sizes) console.log(`${(size / 2 ** 20).toFixed(1).padStart(6)} MiB  ${file}`);
  console.log(`${(total / 2 ** 20).toFixed(1).padStart(6)} MiB  ${folder}`);
  if (total > mostBytes) throw new Error(`the bundle is too large: expected at most ${mostBytes} bytes, got ${total}`);
}
