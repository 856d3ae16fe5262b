/** Folders are made with those they lie in, or it is said why not: in another process, since Node's own way may never end. */
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { expect, test } from "vitest";

const module = resolve("src/runtime/make-folder.ts");
const script = `const { makeFolder } = await import(${JSON.stringify(module)}); makeFolder(process.argv[1]);`;
const made = (folder: string) =>
  spawnSync(process.execPath, ["--input-type=module", "-e", script, folder], { timeout: 20_000, encoding: "utf8" });

test("all that are missing are made, and what is there stays", () => {
  const root = mkdtempSync(join(tmpdir(), "ciuic-folder-"));
  try {
    const inner = join(root, "a", "b", "c");
    expect(made(inner).status).toBe(0);
    expect(existsSync(inner)).toBe(true);
    writeFileSync(join(inner, "kept"), "");
    expect(made(inner).status).toBe(0);
    expect(existsSync(join(inner, "kept"))).toBe(true);
  } finally {
    rmSync(root, { recursive: true });
  }
});

test.skipIf(process.platform !== "linux")(
  "a file system without room for folders is an error, and no endless wait",
  () => {
    const { status, signal, stderr } = made("/proc/nothing/of/this");
    expect(signal).toBeNull();
    expect(status).toBe(1);
    expect(stderr).toContain("ENOENT");
  },
);
