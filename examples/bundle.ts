/** Bundles the example page and the library's worker, in memory. */
import { relative, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const root = fileURLToPath(new URL("..", import.meta.url));

export interface BundleOptions {
  readonly minify?: boolean;
}

/** Files by the path they are served at: `/chat.js`, `/browser.js` (the library alone) and `/browser/worker.js`. */
export async function bundleExample({ minify = false }: BundleOptions = {}): Promise<ReadonlyMap<string, Uint8Array>> {
  const { outputFiles } = await build({
    absWorkingDir: root,
    entryPoints: {
      chat: "examples/chat/chat.ts",
      browser: "src/browser.ts",
      // Where `loadModel` looks for it: beside the file that it is in.
      "browser/worker": "src/browser/worker.ts",
    },
    outdir: "site",
    bundle: true,
    format: "esm",
    platform: "browser",
    target: "es2022",
    sourcemap: "linked",
    minify,
    write: false,
    logLevel: "warning",
  });
  const site = `${root}site`;
  return new Map(outputFiles.map(({ path, contents }) => [`/${relative(site, path).split(sep).join("/")}`, contents]));
}
