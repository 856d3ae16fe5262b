/**
 * Makes a folder that runs this benchmark on another x86-64 Linux with an NVIDIA driver and nothing else installed but a
 * shell, tar and xz: Node, Dawn, a Vulkan loader, our code and the golden models. `node bench/gpu/bundle.ts [FOLDER]`,
 * then there `./run.sh goldens`, `./run.sh decode`, `./run.sh mesh` or `./run.sh all`; README.md says more.
 */
import { execFileSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readdirSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { bundleCode, bundlePage, packNode, packRest, reportSizes, unpackScript } from "../pack.ts";

const here = fileURLToPath(new URL(".", import.meta.url));
const root = fileURLToPath(new URL("../../", import.meta.url));
const folder = process.argv[2] ?? `${here}bundle`;
const stage = `${folder}/stage`;
const mostBytes = 52 * 2 ** 20;
/** llama.cpp with Vulkan, where the peers of bench/cpu are installed. */
const llama = "node_modules/@node-llama-cpp/linux-x64-vulkan/bins/linux-x64-vulkan";
const peer = existsSync(`${here}../cpu/${llama}`);

/** Where Debian keeps its libraries. */
const libraries = "/usr/lib/x86_64-linux-gnu";
/** What NVIDIA's driver loads besides its own files, used where the machine has none. */
const besides = ["libGLdispatch.so.0", "libX11.so.6", "libXext.so.6", "libxcb.so.1", "libXau.so.6", "libXdmcp.so.6"];

const script = `#!/bin/sh
# Unpacks itself beside this file, then runs the benchmark; see README.md of bench/gpu for the flags.
${unpackScript}mkdir -p unpacked/found
for file in unpacked/lib/*; do
  name=$(basename "$file")
  ldconfig -p 2> /dev/null | grep -q "$name" || ln -sf "../lib/$name" "unpacked/found/$name"
done
export LD_LIBRARY_PATH="$PWD/unpacked/found\${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
if [ -z "$VK_DRIVER_FILES" ]; then
  for file in /usr/local/nvidia/share/vulkan/icd.d/nvidia_icd.json /usr/share/vulkan/icd.d/nvidia_icd.json \\
    /etc/vulkan/icd.d/nvidia_icd.json; do
    if [ -z "$VK_DRIVER_FILES" ] && [ -e "$file" ]; then export VK_DRIVER_FILES="$file"; fi
  done
fi
export XDG_RUNTIME_DIR="\${XDG_RUNTIME_DIR:-/tmp}"
exec unpacked/node unpacked/code/main.js "$@"
`;

mkdirSync(folder, { recursive: true });
rmSync(stage, { recursive: true, force: true });
// Processes of a mesh run a file beside the others.
await bundleCode([`${here}main.ts`, `${root}src/runtime/mesh/rank-process.ts`], `${stage}/code`);
const [page, worker] = [`${here}browser-page.ts`, `${root}src/browser/worker.ts`];
await bundlePage({ "browser-page": page, "browser/worker": worker }, `${stage}/site`);
cpSync(`${here}peer-transformers.py`, `${stage}/code/peer-transformers.py`);
copyDawn();
copyLoader();
if (peer) copyLlama();
else console.log("without llama.cpp, which is not installed in bench/cpu");
cpSync(`${root}test/fixtures/goldens`, `${stage}/goldens`, { recursive: true });
packRest(folder, stage, ["code", "site", "node_modules", "lib", "goldens"]);
packNode(folder);
writeFileSync(`${folder}/run.sh`, script, { mode: 0o755 });
rmSync(stage, { recursive: true });
// What an earlier bundle unpacked is no longer what this one holds.
rmSync(`${folder}/unpacked/ready`, { force: true });
reportSizes(folder, mostBytes);

/** Where the code looks for the package: beside its own folder. */
function copyDawn(): void {
  const [from, to] = [`${root}node_modules/webgpu`, `${stage}/node_modules/webgpu`];
  for (const file of ["package.json", "index.js"]) cpSync(`${from}/${file}`, `${to}/${file}`);
  const binary = "dist/linux-x64/dawn.node";
  mkdirSync(`${to}/dist/linux-x64`, { recursive: true });
  execFileSync("strip", ["-s", "-o", `${to}/${binary}`, realpathSync(`${from}/${binary}`)]);
}

/** With the kernels for processors that are needed to start at all. */
function copyLlama(): void {
  for (const file of readdirSync(`${here}../cpu/${llama}`)) {
    if (file.endsWith(".json") || (file.startsWith("libggml-cpu-") && !/haswell|icelake/.test(file))) continue;
    cpSync(`${here}../cpu/${llama}/${file}`, `${stage}/${llama}/${file}`);
  }
}

/** The Vulkan loader, which Dawn opens by name, and what NVIDIA's driver links to. */
function copyLoader(): void {
  for (const name of ["libvulkan.so.1", ...besides]) {
    const file = `${libraries}/${name}`;
    if (existsSync(file)) cpSync(realpathSync(file), `${stage}/lib/${name}`);
    else if (name === "libvulkan.so.1") throw new Error(`there is no ${file}: install libvulkan1`);
  }
}
