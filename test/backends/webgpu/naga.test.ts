/**
 * A second implementation of WGSL: every shader of the test corpus through naga, which Firefox and Deno have, in a Deno from
 * the package `deno` (or `DENO`, or the path), and many of them run there. Says so loudly where there is none, and where Deno
 * finds no Vulkan driver.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { emitKernel } from "../../../src/backends/webgpu/emit.ts";
import { splitBindings } from "../../../src/backends/webgpu/split.ts";
import type { Kernel } from "../../../src/ir/kernel/kernel.ts";
import { checkKernels } from "../../../src/runtime/quality/verify-kernels.ts";
import { goldenNames } from "../../models/read-golden.ts";
import { caseKernels, goldenKernels, unitKernels } from "./corpus.ts";
import { deno, hasDeno, openDenoDevice } from "./deno.ts";

interface Found {
  readonly adapter: string | null;
  readonly problems: readonly { readonly name: string; readonly message: string; readonly code: string }[];
}

/** Without subgroups, which naga does not have; also with buffers in parts. */
function shadersOf(name: string, kernel: Kernel): { name: string; code: string }[] {
  const inputs = kernel.bufs.filter(({ access, space }) => access === "read" && space === "global");
  const beside = new Set(inputs.map((buf) => buf.name));
  const variants = [{}, { shared: beside }, { packedDot: false }].map((options) => emitKernel(kernel, options));
  const [plain] = variants as [ReturnType<typeof emitKernel>];
  const written = kernel.bufs.some(({ access, space, size }) => access !== "read" && space === "global" && size > 256);
  const parts = written
    ? []
    : [splitBindings(plain, kernel, { most: 1024, part: 1024 })].filter((each) => each.bindings.length <= 8);
  const codes = [...variants, ...parts].map(({ source }) => source);
  return [...new Set(codes)].map((code) => ({ name: `${name}: ${kernel.name}`, code }));
}

test.skipIf(!hasDeno)(
  "every shader is valid for naga",
  ({ skip }) => {
    const shaders = [
      ...[{}, { optimize: false }].flatMap((options) => caseKernels(options)),
      ...unitKernels(), // without units, which naga does not have
      ...goldenNames.flatMap((name) =>
        [1, 40].flatMap((tokens) => goldenKernels(name, tokens).map((kernel) => ({ name, kernel }))),
      ),
    ].flatMap(({ name, kernel }) => shadersOf(name, kernel));
    const different = [...new Map(shaders.map((each) => [each.code, each])).values()];
    expect(different.length).toBeGreaterThan(500);
    const file = `${mkdtempSync(`${tmpdir()}/naga-`)}/shaders.json`;
    writeFileSync(file, JSON.stringify(different));
    const script = fileURLToPath(new URL("naga-check.ts", import.meta.url));
    const { stdout, stderr, status } = spawnSync(deno, ["run", "--allow-read", "--unstable-webgpu", script, file], {
      encoding: "utf8",
      timeout: 300_000,
      maxBuffer: 2 ** 28,
    });
    expect(status, stderr).toBe(0);
    const { adapter, problems }: Found = JSON.parse(stdout);
    if (adapter === null) {
      console.error(
        "\nDENO FINDS NO VULKAN DRIVER: shaders are not checked by naga. Run scripts/install-gpu-tests.sh as root.\n",
      );
      skip();
    }
    const shown = problems.slice(0, 3).map(({ name, message, code }) => `${name}\n${message}\n${code}`);
    expect(problems.length, shown.join("\n\n")).toBe(0);
  },
  400_000,
);

test.skipIf(!hasDeno)(
  "kernels compute there what the executor does",
  async ({ skip }) => {
    const device = await openDenoDevice();
    if (device === null) return skip("Deno finds no Vulkan driver");
    try {
      const cases = caseKernels({}).filter((_, i) => i % 12 === 0);
      const models = goldenKernels("v3", 1).map((kernel) => ({ name: "v3", kernel }));
      const named = [...cases, ...models];
      const plan = { name: "corpus", entry: "", funcs: new Map(), kernels: named.map(({ kernel }) => kernel) };
      const checks = await checkKernels(device, plan);
      const wrong = checks.flatMap((check, i) => (check.fine ? [] : [{ case: named[i]!.name, ...check }]));
      expect(wrong).toEqual([]);
      expect(checks.filter(({ elements }) => elements > 0).length).toBeGreaterThan(checks.length / 2);
    } finally {
      await device.close();
    }
  },
  400_000,
);
