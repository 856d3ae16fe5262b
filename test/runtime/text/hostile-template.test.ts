/** Mutated and invented chat templates: a text or a typed error, soon. */
import { readdirSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { type ChatMessage, renderChat } from "../../../src/runtime/text/chat-template.ts";
import { hostileCheck, mutateText, pick, type Random, randomFrom } from "../hostile.ts";

const folder = "test/fixtures/chat-templates";
const templates = readdirSync(folder)
  .filter((file) => file.endsWith(".jinja"))
  .map((file) => readFileSync(`${folder}/${file}`, "utf8"));
const messages: ChatMessage[] = [
  { role: "system", content: "S" },
  { role: "user", content: "Hi </think>" },
  {
    role: "assistant",
    content: "A",
    tool_calls: [{ type: "function", function: { name: "f", arguments: { a: [1] } } }],
  },
  { role: "tool", content: "7" },
  { role: "assistant", content: "<think>r</think>B" },
  JSON.parse('{"role":"user","content":"1+1?","__proto__":{"polluted":true}}'),
];

/** The template with two of its names, numbers or operators put in the place of others: most results still parse. */
function swapWords(random: Random, template: string): string {
  const words = template.split(/(\b\w+\b|[-+~|=<>!]+)/);
  for (let times = 0; times < 2; times++) {
    const at = 2 * random(words.length >> 1) + 1;
    const from = 2 * random(words.length >> 1) + 1;
    if (/^\w/.test(words[at]!) === /^\w/.test(words[from]!)) words[at] = words[from]!;
  }
  return words.join("");
}

test("4,000 mutated templates", () => {
  const random = randomFrom(20_005);
  const check = hostileCheck();
  for (let i = 0; i < 4000; i++) {
    const original = pick(random, templates);
    const template = i % 2 === 0 ? mutateText(random, original, templates) : swapWords(random, original);
    // The templates differ in which tool calls they can print.
    const asked = i % 3 === 0 ? messages : messages.filter(({ role }) => role !== "tool").slice(0, 2);
    check.run(() => renderChat(template, asked, { addGenerationPrompt: true, thinking: i % 2 === 0 }), template);
  }
  check.finish({ inputs: 4000, refused: 500, accepted: 500 });
});

/** Pieces of which hostile templates are made. */
const values = [
  "ns.a",
  "ns",
  "messages",
  "loop",
  "'x'",
  "[ns.a, ns.a]",
  "{'k': ns.a}",
  "range(300)",
  "1",
  "none",
  "m",
  "m()",
  "-1",
  "9999999999",
];
const operations = [" + ", " ~ ", " * ", " ** ", " in ", " == ", " % ", " and ", " or "];
const filters = [
  "tojson",
  "join(ns.a)",
  "replace('x', ns.a)",
  "indent(99999)",
  "list",
  "sort",
  "length",
  "items",
  "reverse",
  "string",
  "map(attribute='a')",
  "unique",
  "tojson(indent=9999)",
  "first",
  "default(ns)",
  "title",
  "trim",
];
const methods = [
  ".split('x')",
  ".replace('', ns.a)",
  ".upper()",
  ".items()",
  ".get('a', ns)",
  "[0]",
  "['constructor']",
  "[::-1]",
  ".__proto__",
  ".a",
  "[:9]",
  ".split()",
  ".startswith(ns.a)",
];

test("2,000 templates made of hostile pieces", () => {
  const random = randomFrom(20_006);
  const check = hostileCheck();
  const expression = (): string => {
    let text = pick(random, values);
    for (let n = random(4); n > 0; n--) {
      const ways = [
        () => `${text} | ${pick(random, filters)}`,
        () => `(${text})${pick(random, methods)}`,
        () => `(${text})${pick(random, operations)}${pick(random, values)}`,
      ];
      text = pick(random, ways)();
    }
    return text;
  };
  const block = (depth: number): string => {
    const inner = (): string => (depth === 0 ? "x" : block(depth - 1) + (random(2) === 0 ? block(depth - 1) : ""));
    const ways = [
      () => `{{ ${expression()} }}`,
      () => `{% set ns.a = ${expression()} %}`,
      () =>
        `{% for i in ${pick(random, ["range(40)", "range(300)", "messages", expression()])} %}${inner()}{% endfor %}`,
      () => `{% if ${expression()} %}${inner()}{% else %}${inner()}{% endif %}`,
      () => `{% macro m() %}${inner()}{% endmacro %}{{ m() }}`,
      () => `{% set ns.a %}${inner()}{% endset %}`,
    ];
    return pick(random, ways)();
  };
  for (let i = 0; i < 2000; i++) {
    const body = Array.from({ length: 1 + random(4) }, () => block(1 + random(3))).join("");
    const template = `{% set ns = namespace(a='xyzxyz') %}{% macro m() %}m{% endmacro %}${body}`;
    const text = check.run(() => renderChat(template, messages), template);
    if (text !== undefined) expect(text.length).toBeLessThanOrEqual(4_000_000);
  }
  check.finish({ inputs: 2000, refused: 300, accepted: 150 });
});
