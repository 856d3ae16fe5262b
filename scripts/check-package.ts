/**
 * `npm run check-package`: packs the package as npm would publish it, installs it in an empty folder, and uses it from
 * there: a program of its own and those of README.md are type-checked against the packed declarations and run under
 * plain Node on the packed model.
 */
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { readmePrograms } from "./readme-code.ts";

const root = fileURLToPath(new URL("..", import.meta.url));

/** Runs the bundled model as a stranger would. Fails unless the answer has the tokens asked for. */
const consumer = `
import { loadModel } from "ciuic";

const model = await loadModel("models/tiny-deepseek");
const ids: number[] = [];
for await (const part of model.generate("Once upon a time", { maxTokens: 5, temperature: 0 })) ids.push(...part.tokens);
await model.close();
if (ids.length !== 5) throw new Error("loadModel: expected 5 tokens, got " + ids.length);
console.log("5 tokens: " + ids.join(" "));
`;

/** The browser's entry, as far as a program without a browser goes: its types, and that it can be imported. */
const page = `
import { type BrowserProgress, InputError, loadModel, type RemoteModel } from "ciuic/browser";

const load: (url: string, show: (progress: BrowserProgress) => void) => Promise<RemoteModel> = (url, onProgress) =>
  loadModel(url, { backend: "wasm", threads: 2, quantize: { weights: "int4" }, onProgress });
if (typeof load !== "function" || !(new InputError("a", "b") instanceof Error)) throw new Error("ciuic/browser");
`;

const tsconfig = {
  compilerOptions: {
    target: "es2024",
    module: "nodenext",
    strict: true,
    exactOptionalPropertyTypes: true,
    skipLibCheck: false,
    types: ["node"],
    lib: ["es2024", "esnext.iterator", "dom"],
  },
  include: ["*.ts"],
};

/** What a script of this project needs of package.json. */
interface PackageFile {
  readonly name: string;
  readonly dependencies: Readonly<Record<string, string>>;
}

function run(folder: string, program: string, ...args: readonly string[]): string {
  return execFileSync(program, args, { cwd: folder, encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] });
}

function checkPackage(folder: string): void {
  run(root, "npm", "pack", "--loglevel=error", "--pack-destination", folder);
  // The project's own file.
  const { name, dependencies } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as PackageFile;
  const installed = join(folder, "node_modules", name);
  mkdirSync(installed, { recursive: true });
  run(folder, "sh", "-c", `tar -xzf ${name}-*.tgz -C node_modules/${name} --strip-components=1`);
  // In place of a registry: the dependencies as they are installed here, and the declarations of Node for the check.
  for (const each of [...Object.keys(dependencies), "@types/node", "undici-types"]) {
    cpSync(join(root, "node_modules", each), join(folder, "node_modules", each), {
      recursive: true,
      dereference: true,
    });
  }
  writeFileSync(join(folder, "package.json"), JSON.stringify({ type: "module", private: true }));
  writeFileSync(join(folder, "tsconfig.json"), JSON.stringify(tsconfig));
  symlinkSync(join("node_modules", name, "models"), join(folder, "models"));
  const programs = [consumer, page, ...readmePrograms(readFileSync(join(installed, "README.md"), "utf8"))];
  for (const [i, program] of programs.entries()) writeFileSync(join(folder, `program-${i}.ts`), program);
  run(folder, join(root, "node_modules", ".bin", "tsc"));
  for (const i of programs.keys()) process.stdout.write(run(folder, process.execPath, `program-${i}.js`));
}

const folder = mkdtempSync(join(tmpdir(), "check-package-"));
try {
  checkPackage(folder);
} finally {
  rmSync(folder, { recursive: true });
}
