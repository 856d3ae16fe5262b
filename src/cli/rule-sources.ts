/** Where passes and rewrite rules are written and what is said of them there: found by their names in the files beside this one. */
import { readdir, readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";

export interface SourceNote {
  /** `src/passes/rules/algebra.ts:46`. */
  readonly place: string;
  /** Its own comment, else the first sentence of its file's. */
  readonly doc: string;
  /** The rule as it is written; of a pass, nothing. */
  readonly text: string;
}

export interface TraceSources {
  readonly rules: Readonly<Record<string, SourceNote>>;
  readonly passes: Readonly<Record<string, SourceNote>>;
}

/**
 * `rule("x", ...)`, `rule(` with the name on the next line, or a record with a name, which may be a constant's of the file;
 * in a template anything may stand for `${...}`.
 */
const named = /(?:\brule\(\s*|^[ \t]*name: )(?:(["`])([\w$.{}#-]+)\1|(\w+)),(\s*level: "tensor")?/gm;

/** Names that are not found, of rules elsewhere perhaps, are left out. */
export async function findSources(rules: readonly string[], passes: readonly string[]): Promise<TraceSources> {
  const folder = new URL("../passes/", import.meta.url);
  const paths = await readdir(folder, { recursive: true });
  const files = paths.filter((path) => /\.[jt]s$/.test(path) && !path.endsWith(".d.ts")).sort();
  const root = fileURLToPath(new URL("../../", import.meta.url));
  const found = { rules: new Map<string, SourceNote>(), passes: new Map<string, SourceNote>() };
  for (const path of files) {
    const url = new URL(path.replaceAll("\\", "/"), folder);
    const text = await readFile(url, "utf8");
    const place = fileURLToPath(url).slice(root.length).replaceAll("\\", "/");
    for (const { 0: head, 2: written, 3: constant = "", 4: level, index } of text.matchAll(named)) {
      const pattern = written ?? constantOf(text, constant);
      if (pattern === undefined) continue;
      const line = text.slice(0, index + head.search(/\S/)).split("\n").length - 1;
      const isPass = level !== undefined;
      const note = isPass ? passNote(text, place, line) : ruleNote(text, place, line);
      for (const name of isPass ? passes : rules) {
        const known = isPass ? found.passes : found.rules;
        if (!known.has(name) && matches(pattern, name)) known.set(name, note);
      }
    }
  }
  return { rules: Object.fromEntries(found.rules), passes: Object.fromEntries(found.passes) };
}

function constantOf(text: string, name: string): string | undefined {
  return new RegExp(`\\bconst ${name} = "([^"]+)"`).exec(text)?.[1];
}

function matches(pattern: string, name: string): boolean {
  const parts = pattern.split(/\$\{\w+\}/).map((part) => part.replaceAll(/[.$#]/g, "\\$&"));
  return new RegExp(`^${parts.join("\\w+")}$`).test(name);
}

function passNote(text: string, place: string, line: number): SourceNote {
  return { place: `${place}:${line + 1}`, doc: fileDoc(text), text: "" };
}

/** Relies on the formatting: what belongs to a statement is indented more, up to the line that closes it. */
function ruleNote(text: string, place: string, line: number): SourceNote {
  const lines = text.split("\n");
  const start = lines[line - 1]?.trim() === "{" ? line - 1 : line;
  const indent = indentOf(lines[start]!);
  let end = start + 1;
  while (end < lines.length && indentOf(lines[end]!) > indent) end++;
  const closes = end > start + 1 && /^\s*[)}\]]/.test(lines[end] ?? "");
  const own = lines.slice(start, closes ? end + 1 : end).map((each) => each.slice(indent));
  const inside = /\/\/ (.*)$/m.exec(own.join("\n"))?.[1];
  const above = /^\s*\/\/ (.*)$/.exec(lines[start - 1] ?? "")?.[1];
  return { place: `${place}:${start + 1}`, doc: above ?? inside ?? fileDoc(text), text: own.join("\n") };
}

function indentOf(line: string): number {
  return line.trim() === "" ? Number.POSITIVE_INFINITY : line.search(/\S/);
}

/** The first sentence of the comment that the file begins with. */
function fileDoc(text: string): string {
  const comment = /^\s*\/\*\*([\s\S]*?)\*\//.exec(text)?.[1] ?? "";
  const plain = comment
    .replaceAll(/^\s*\* ?/gm, "")
    .replaceAll(/\s+/g, " ")
    .trim();
  return /^.*?\.(?= |$)/.exec(plain)?.[0] ?? plain;
}
