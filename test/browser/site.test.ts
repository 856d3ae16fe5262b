/** The example's web server: what it serves, in which parts, under which headers, and what it keeps to itself. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer, request, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { pathOf, rangeOf, serveSite } from "../../examples/site.ts";

const outside = mkdtempSync(join(tmpdir(), "site-outside-"));
const folder = mkdtempSync(join(tmpdir(), "site-"));
let server: Server;
let isolated = true;

beforeAll(async () => {
  writeFileSync(join(outside, "secret.txt"), "secret");
  writeFileSync(join(folder, "weights.safetensors"), "0123456789");
  writeFileSync(join(folder, "config.json"), "{}");
  writeFileSync(join(folder, ".hidden"), "hidden");
  symlinkSync(join(outside, "secret.txt"), join(folder, "link.txt"));
  const files = new Map([["/chat.js", new TextEncoder().encode("1;")]]);
  const folders = { "/models/": folder };
  server = createServer((each, response) => void serveSite({ files, folders, isolated }, each, response));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
});

afterAll(() => {
  server.close();
  for (const each of [folder, outside]) rmSync(each, { recursive: true });
});

interface Answer {
  readonly status: number | undefined;
  readonly headers: Readonly<Record<string, unknown>>;
  readonly body: string;
}

/** Asks for the path as it is: fetch would tidy it first. */
function get(path: string, headers: Record<string, string> = {}, method = "GET"): Promise<Answer> {
  const { port } = server.address() as AddressInfo; // of a server that listens
  return new Promise((resolve, reject) => {
    const asked = request({ host: "127.0.0.1", port, path, headers, method }, (response) => {
      let body = "";
      response.on("data", (part) => {
        body += String(part);
      });
      response.on("end", () => resolve({ status: response.statusCode, headers: response.headers, body }));
    });
    asked.on("error", reject);
    asked.end();
  });
}

describe("the site", () => {
  it("serves files with their types, isolated or not", async () => {
    const chat = await get("/chat.js?x=1");
    expect(chat).toMatchObject({ status: 200, body: "1;" });
    expect(chat.headers).toMatchObject({
      "content-type": "text/javascript; charset=utf-8",
      "cross-origin-opener-policy": "same-origin",
      "cross-origin-embedder-policy": "require-corp",
      "x-content-type-options": "nosniff",
    });
    expect((await get("/models/config.json")).headers["content-type"]).toBe("application/json");
    isolated = false;
    expect((await get("/chat.js")).headers).not.toHaveProperty("cross-origin-embedder-policy");
    isolated = true;
  });

  it("answers ranges, HEAD and known versions", async () => {
    const path = "/models/weights.safetensors";
    const part = await get(path, { range: "bytes=2-4" });
    expect(part).toMatchObject({ status: 206, body: "234" });
    expect(part.headers).toMatchObject({ "content-range": "bytes 2-4/10", "content-length": "3" });
    expect(await get(path, { range: "bytes=-2" })).toMatchObject({ status: 206, body: "89" });
    expect(await get(path, { range: "bytes=7-" })).toMatchObject({ status: 206, body: "789" });
    expect(await get(path, { range: "bytes=10-" })).toMatchObject({ status: 416, body: "" });
    expect(await get(path, { range: "lines=1-2" })).toMatchObject({ status: 200, body: "0123456789" });
    expect(await get(path, {}, "HEAD")).toMatchObject({ status: 200, body: "" });
    expect(await get(path, { "if-none-match": String(part.headers.etag) })).toMatchObject({ status: 304 });
    expect(await get(path, {}, "POST")).toMatchObject({ status: 405 });
  });

  it.for([
    "/models/../secret.txt",
    "/models/%2e%2e/secret.txt",
    "/models/..%2fsecret.txt",
    "/models/%2e%2e%5csecret.txt",
    "/models/x/../../secret.txt",
    "/models//config.json",
    "/models/config.json%00.txt",
    "/models/.hidden",
    "/models/link.txt",
    "/models/",
    "/models",
    "/models/C:/x",
    "/%",
    "/package.json",
  ])("has no %s", async (path) => {
    expect(await get(path)).toMatchObject({ status: 404, body: "" });
  });
});

it("a path never has a part that leads elsewhere", () => {
  const piece = fc.constantFrom("..", "%2e", ".", "/", "%2f", "\\", "%5c", "a", "%00", "?", "#", ":");
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
      const path = pathOf(`/${pieces.join("")}`);
      expect(path ?? "/a").toMatch(/^(\/[^./\\\0:][^/\\\0:]*)*$/);
    }),
  );
});

it("a range is inside the file, whatever is asked", () => {
  fc.assert(
    fc.property(fc.stringMatching(/^bytes=\d{0,3}-\d{0,3}$/), fc.nat(300), (header, size) => {
      const range = rangeOf(header, size);
      if (range === null || range === "invalid") return;
      expect(range[0]).toBeGreaterThanOrEqual(0);
      expect(range[1]).toBeGreaterThan(range[0]);
      expect(range[1]).toBeLessThanOrEqual(size);
    }),
  );
});

describe("npm run example", () => {
  const serve = (...args: string[]) => {
    const file = fileURLToPath(new URL("../../examples/serve.ts", import.meta.url));
    return spawnSync(process.execPath, ["--no-warnings", file, ...args], { encoding: "utf8", timeout: 60_000 });
  };

  it.each([
    [["--port", "abc"], '--port: expected a whole number from 0 to 65535, got "abc"'],
    [["--port", "65536"], '--port: expected a whole number from 0 to 65535, got "65536"'],
    [["--prot", "1"], "Unknown option '--prot'"],
  ])("%j is refused with the options that there are", (args, message) => {
    const { status, stderr } = serve(...args);
    expect({ status, first: stderr.split("\n")[0] }).toEqual({ status: 2, first: message });
    expect(stderr).toContain("--no-isolation");
  });
});
