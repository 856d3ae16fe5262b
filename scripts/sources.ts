/** The project's source files as text, and as code: the text with comments (and strings) blanked, line by line. */
import { readdirSync, readFileSync } from "node:fs";
import { join, relative, sep } from "node:path";

export interface Source {
  /** Relative to the project, with forward slashes. */
  readonly path: string;
  readonly text: string;
}

/** All TypeScript files below `folders` of the project at `root`, sorted. A folder that is not there has none. */
export function readSources(root: string, folders: readonly string[]): readonly Source[] {
  return folders.flatMap((folder) => {
    const names = readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile() && /\.(ts|js|mjs|cjs)$/.test(entry.name))
      .map((entry) => relative(root, join(entry.parentPath, entry.name)).split(sep).join("/"));
    return names.sort().map((path) => ({ path, text: readFileSync(join(root, path), "utf8") }));
  });
}

/** The lines of a file; the newline that ends it begins no other. */
export function linesOf(text: string): readonly string[] {
  return text.replace(/\n$/, "").split("\n");
}

/**
 * One alternative per thing that could hide a quote or a comment sign from the next: comments, strings, templates (up to
 * their first `${`, and from each `}` that ends one), regular expressions (after what cannot end an operand).
 */
const token =
  /(?<comment>\/\/[^\n]*|\/\*[\s\S]*?\*\/)|(?<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')|(?<regex>(?<=(?:[(,=:[!&|?{};+*%~^<>\n-]|\breturn|=>)\s*)\/(?:[^/\\[\n]|\\.|\[(?:[^\]\\\n]|\\.)*\])+\/[a-z]*)|(?<mark>[`{}])/g;

/** `text` with each comment as spaces, so that lines and columns stay; with `strings`, what is in quotes as well. */
export function codeOf(text: string, blank: { readonly strings: boolean }): string {
  let code = "";
  let done = 0;
  /** For each open `${`, how many plain braces are open inside. */
  const templates: number[] = [];
  const take = (end: number, hidden: boolean) => {
    const part = text.slice(done, end);
    code += hidden ? part.replace(/[^\n]/g, " ") : part;
    done = end;
  };
  /** From inside a template to behind its closing quote or behind a `${`. */
  const template = () => {
    let at = done;
    while (at < text.length && text[at] !== "`" && !text.startsWith("${", at)) at += text[at] === "\\" ? 2 : 1;
    take(at, blank.strings);
    if (text[at] === "$") templates.push(0);
    take(Math.min(text.length, at + (text[at] === "$" ? 2 : 1)), false);
    token.lastIndex = done;
  };
  token.lastIndex = 0;
  for (let match = token.exec(text); match !== null; match = token.exec(text)) {
    const { comment, string, regex, mark } = match.groups ?? {};
    const end = match.index + match[0].length;
    if (mark === undefined) {
      const quote = string === undefined ? 0 : 1;
      take(match.index + quote, false);
      take(end - quote, comment !== undefined || (blank.strings && (string ?? regex) !== undefined));
      take(end, false);
      continue;
    }
    take(end, false);
    const depth = templates.at(-1);
    if (mark === "`") template();
    else if (mark === "{" && depth !== undefined) templates[templates.length - 1] = depth + 1;
    else if (mark === "}" && depth !== undefined && depth > 0) templates[templates.length - 1] = depth - 1;
    else if (mark === "}" && depth === 0) {
      templates.pop();
      template();
    }
  }
  take(text.length, false);
  return code;
}
