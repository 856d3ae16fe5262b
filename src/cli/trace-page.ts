/** The page that shows a trace: one HTML file with the trace, the viewer's scripts and its style in it, and nothing to load. */
import { readFile } from "node:fs/promises";
import { html } from "../plan/page.ts";
import type { TraceFile } from "../trace-file.ts";
import { traceStyle } from "./trace-style.ts";

/** Each before those that use it. */
const scripts = ["dom", "diff", "passes-tab", "kernels-tab", "memory-tab", "start"];

export async function tracePage(trace: TraceFile): Promise<string> {
  // As JSON the text may not end the script element that holds it.
  const data = JSON.stringify(trace).replaceAll("<", "\\u003c");
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>${html(trace.name)}: trace</title><link rel="icon" href="data:,"><style>${traceStyle}</style></head><body>
<noscript>This page needs scripts, which it has in itself.</noscript>
<script type="application/json" id="trace">${data}</script>
<script type="module">
${await viewerScript()}
start();
</script>
</body></html>
`;
}

/** The viewer's modules as one: their imports are of each other, so all that goes is how they say it. */
async function viewerScript(): Promise<string> {
  const texts = await Promise.all(scripts.map(plainScript));
  return texts
    .map((text) => text.replaceAll(/^import\s[^;]*;$/gm, "").replaceAll(/^export /gm, ""))
    .join("\n")
    .replaceAll(/^\/\/# sourceMappingURL=.*$/gm, "")
    .replaceAll("</script", "<\\/script");
}

/** As JavaScript: built, or from the sources, whose types Node takes away. */
async function plainScript(name: string): Promise<string> {
  const built = import.meta.url.endsWith(".js");
  const text = await readFile(new URL(`./viewer/${name}.${built ? "js" : "ts"}`, import.meta.url), "utf8");
  if (built) return text;
  const { stripTypeScriptTypes } = await import("node:module");
  return stripTypeScriptTypes(text);
}
