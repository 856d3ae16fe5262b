/**
 * Makes `dist/browser/worker.js` one file that browsers run as it is: import maps, which would resolve the name of a
 * dependency, do not hold in workers. Part of `npm run build`, after the compiler.
 */
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const root = fileURLToPath(new URL("..", import.meta.url));

await build({
  absWorkingDir: root,
  entryPoints: ["src/browser/worker.ts"],
  outfile: "dist/browser/worker.js",
  bundle: true,
  format: "esm",
  platform: "browser",
  target: "es2022",
  // Readable, like the rest of dist; what is served to many can be minified by whoever serves it.
  sourcemap: true,
  banner: { js: "/*! ciuic, MIT licence. With @huggingface/jinja, MIT licence, by Hugging Face. */" },
  logLevel: "warning",
});
