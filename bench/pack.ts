/** What the bundles of the benchmarks share: our code in a few files, Node without debug information, sizes that are checked. */
import { execFileSync } from "node:child_process";
import { existsSync, statSync, writeFileSync } from "node:fs";
import { basename } from "node:path";
import { build } from "esbuild";

/** Bundles programs for Node into `folder`; what they share or import lazily is a file of its own beside them. */
export async function bundleCode(
  entries: readonly string[],
  folder: string,
  external: readonly string[] = [],
): Promise<void> {
  await build({
    entryPoints: entries.map((entry) => ({ in: entry, out: basename(entry, ".ts") })),
    outdir: folder,
    bundle: true,
    splitting: true,
    platform: "node",
    format: "esm",
    target: "node24",
    external: [...external],
    logLevel: "warning",
  });
  writeFileSync(`${folder}/package.json`, '{ "type": "module" }\n');
}

/** Bundles scripts for a page into `folder`, each by its path there. */
export async function bundlePage(entryPoints: Readonly<Record<string, string>>, outdir: string): Promise<void> {
  const platform = "browser";
  await build({ entryPoints: { ...entryPoints }, outdir, bundle: true, platform, format: "esm", target: "es2022" });
}

/** `folder`/node.xz, the Node that runs this without its debug information; made once. */
export function packNode(folder: string): void {
  if (existsSync(`${folder}/node.xz`)) return;
  execFileSync("strip", ["-o", `${folder}/node`, process.execPath]);
  execFileSync("xz", ["--x86", "--lzma2=preset=9e", "-f", `${folder}/node`]);
}

/** `folder`/rest.tar.xz of these parts of `stage`. */
export function packRest(folder: string, stage: string, parts: readonly string[]): void {
  execFileSync("sh", [
    "-c",
    `tar -cf - -C "${stage}" ${parts.join(" ")} | xz --x86 --lzma2=preset=9e > "${folder}/rest.tar.xz"`,
  ]);
}

/** Prints the sizes. @throws Error when they are more than `mostBytes` together */
export function reportSizes(folder: string, mostBytes: number): void {
  const sizes = ["node.xz", "rest.tar.xz", "run.sh"].map((file) => [file, statSync(`${folder}/${file}`).size] as const);
  const total = sizes.reduce((sum, [, size]) => sum + size, 0);
  for (const [file, size] of sizes) console.log(`${(size / 2 ** 20).toFixed(1).padStart(6)} MiB  ${file}`);
  console.log(`${(total / 2 ** 20).toFixed(1).padStart(6)} MiB  ${folder}`);
  if (total > mostBytes) throw new Error(`the bundle is too large: expected at most ${mostBytes} bytes, got ${total}`);
}

/** Lines of a script that unpacks `node.xz` and `rest.tar.xz` beside itself into `unpacked`, once. */
export const unpackScript = `set -e
cd "$(dirname "$0")"
if [ ! -e unpacked/ready ]; then
  mkdir -p unpacked
  xz -dc node.xz > unpacked/node
  chmod +x unpacked/node
  xz -dc rest.tar.xz | tar -xf - -C unpacked
  touch unpacked/ready
fi
`;
