/** `npm run example`: bundles the chat page and serves it with the models of this checkout. */
import { createServer } from "node:http";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { bundleExample } from "./bundle.ts";
import { type Site, serveSite } from "./site.ts";

const usage = `npm run example -- [OPTIONS]

  --port N         the port to listen on (default 8080; 0 takes a free one)
  --no-isolation   without the headers that let threads share memory: shows the fallback to one thread
  --help           this text
`;

const folderOf = (path: string) => fileURLToPath(new URL(path, import.meta.url));

/** What the example serves, without the bundle. */
export function exampleSite(files: ReadonlyMap<string, Uint8Array>, isolated: boolean): Site {
  return { files, isolated, folders: { "/models/": folderOf("../models"), "/": folderOf("chat") } };
}

function readOptions() {
  const { values } = parseArgs({
    options: {
      port: { type: "string", default: "8080" },
      "no-isolation": { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  const port = /^\d+$/.test(values.port) ? Number(values.port) : Number.NaN;
  if (!(port <= 65_535)) throw new Error(`--port: expected a whole number from 0 to 65535, got "${values.port}"`);
  return { ...values, port };
}

/** @throws Error for arguments that make no sense */
async function main(): Promise<void> {
  const values = readOptions();
  if (values.help) {
    process.stdout.write(usage);
    return;
  }
  const site = exampleSite(await bundleExample({ minify: true }), !values["no-isolation"]);
  const server = createServer((request, response) => void serveSite(site, request, response));
  server.on("error", (error: NodeJS.ErrnoException) => {
    const why =
      error.code === "EADDRINUSE" ? "another program listens there. Take another port with --port N." : error.message;
    process.stderr.write(`cannot listen on port ${values.port}: ${why}\n`);
    process.exitCode = 1;
  });
  server.listen(values.port, "localhost", () => {
    const address = server.address();
    const port = typeof address === "object" && address !== null ? address.port : values.port;
    process.stdout.write(`http://localhost:${port}/ (${site.isolated ? "cross-origin isolated" : "not isolated"})\n`);
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await main().catch((error: unknown) => {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n\n${usage}`);
    process.exitCode = 2;
  });
}
