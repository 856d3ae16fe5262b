/**
 * Makes a folder that runs this benchmark on another x86-64 Linux with nothing installed but a shell, tar and xz: Node,
 * our code in a few files, llama.cpp's libraries and onnxruntime-node. `node bench/cpu/bundle.ts [FOLDER]`, then there
 * `./run.sh --peers llama,ort`, or `./run.sh profile`.
 */
import { cpSync, existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { bundleCode, packNode, packRest, reportSizes, unpackScript } from "../pack.ts";

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
# ./run.sh profile ..., wasm-dots ..., wasm-rows ... and mesh ... run these instead.
${unpackScript}case "$1" in
  profile | wasm-dots | wasm-rows) program=$1; shift ;;
  mesh) program=mesh.bench; shift ;;
  *) program=main ;;
esac
exec unpacked/node "unpacked/code/$program.js" "$@"
`;

mkdirSync(folder, { recursive: true });
rmSync(stage, { recursive: true, force: true });
// Threads that compute together are started from text; those of a mesh load a file beside the others.
const threads = "../../src/runtime/mesh/rank-thread.ts";
const entries = [
  "main.ts",
  "profile.ts",
  "../kitchen/wasm-dots.ts",
  "../kitchen/wasm-rows.ts",
  "../mesh.bench.ts",
  threads,
].map((file) => here + file);
await bundleCode(entries, `${stage}/code`, ["playwright-core"]);
const peers = existsSync(here + llama);
if (peers) copyLibraries();
else console.log("without the peers, which are not installed: only profile and wasm-dots run");
packRest(folder, stage, ["code", ...(peers ? ["node_modules"] : [])]);
packNode(folder);
writeFileSync(`${folder}/run.sh`, script, { mode: 0o755 });
rmSync(stage, { recursive: true });
reportSizes(folder, mostBytes);

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
