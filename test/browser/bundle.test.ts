/** What browsers get: nothing of Node, and for the page only what a page needs. */
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { expect, it } from "vitest";

const root = fileURLToPath(new URL("../..", import.meta.url));

/** Bundles as for a browser, where imports of Node's modules fail; gives the size and the files that are in it. */
async function bundle(
  entry: string,
): Promise<{ bytes: number; imports: readonly string[]; inputs: readonly string[] }> {
  const { outputFiles, metafile } = await build({
    absWorkingDir: root,
    entryPoints: [entry],
    bundle: true,
    write: false,
    format: "esm",
    platform: "browser",
    minify: true,
    metafile: true,
    logLevel: "silent",
  });
  const imports = Object.values(metafile.outputs).flatMap((output) => output.imports.map(({ path }) => path));
  return { bytes: outputFiles[0]!.contents.length, imports, inputs: Object.keys(metafile.inputs) };
}

it.for(["src/browser.ts", "src/browser/worker.ts", "src/index.ts"])(
  "%s imports nothing from outside",
  async (entry) => {
    const { imports } = await bundle(entry);
    expect(imports).toEqual([]);
  },
);

it("what does import Node's modules would be noticed", async () => {
  await expect(bundle("src/cli/run.ts")).rejects.toThrow(/node:/);
});

it("the page's part is small, and has no compiler in it", async () => {
  const { bytes, inputs } = await bundle("src/browser.ts");
  expect(inputs.filter((path) => /src\/(passes|backends|models|compile)/.test(path))).toEqual([]);
  expect(bytes).toBeLessThan(20_000);
});
