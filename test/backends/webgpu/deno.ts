/** Deno, whose WebGPU is wgpu with naga: where it is found, and a device that runs single kernels in one. */
import { spawn, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { emitKernel } from "../../../src/backends/webgpu/emit.ts";
import { type Device, openDevice } from "../../../src/compile.ts";
import { webgpuTarget } from "../../../src/ir/target.ts";
import { zeros } from "../../../src/ir/tensor.ts";
import "./gpu.ts"; // finds a driver

const local = fileURLToPath(new URL("../../../.cache/deno/node_modules/.bin/deno", import.meta.url));
export const deno = process.env.DENO ?? (existsSync(local) ? local : "deno");
export const hasDeno = spawnSync(deno, ["--version"]).status === 0;
if (!hasDeno) {
  console.error(
    "\nNO DENO: WGSL is checked by one compiler alone, Dawn's. Install it for the tests: scripts/install-deno.sh.\n",
  );
}

interface Answer {
  readonly error?: string;
  readonly buffers?: readonly string[];
}

/** A device for plans of one launch whose parameters are the kernel's buffers; null where Deno finds no driver. */
export async function openDenoDevice(): Promise<(Device & { readonly adapter: string }) | null> {
  const script = fileURLToPath(new URL("naga-run.ts", import.meta.url));
  const child = spawn(deno, ["run", "--unstable-webgpu", script], { stdio: ["pipe", "pipe", "ignore"] });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const next = async () => {
    const { value, done } = await lines.next();
    if (done) throw new Error("Deno has ended");
    return JSON.parse(value) as unknown;
  };
  const adapter = await next();
  if (typeof adapter !== "string") return null;
  const load: Device["load"] = ({ kernels: [kernel], funcs, entry }) => {
    if (kernel === undefined) throw new Error("a plan without a kernel");
    const { source, workgroups, access } = emitKernel(kernel);
    const params = funcs.get(entry)!.params.map(({ type }) => zeros(type.dtype, type.shape).data);
    const run = async () => {
      const buffers = params.map(({ buffer, byteOffset, byteLength }, i) => {
        const bytes = Buffer.alloc(Math.max(4, 4 * Math.ceil(byteLength / 4)));
        bytes.set(new Uint8Array(buffer, byteOffset, byteLength));
        return { bytes: bytes.toString("base64"), access: access[i] };
      });
      child.stdin.write(`${JSON.stringify({ code: source, workgroups, buffers })}\n`);
      const { error, buffers: found } = (await next()) as Answer; // what the script prints
      if (error !== undefined || found === undefined) throw new Error(`${kernel.name}: ${error}\n${source}`);
      for (const [i, data] of params.entries())
        new Uint8Array(data.buffer, data.byteOffset, data.byteLength).set(
          Buffer.from(found[i]!, "base64").subarray(0, data.byteLength),
        );
    };
    return { sources: [source], instantiate: () => ({ params, results: [], run, release: () => {} }) };
  };
  return { ...openDevice("js"), target: webgpuTarget, adapter, load, close: () => void child.kill() };
}
