/** Chat templates: equal to Python's jinja2 on the stored templates, and bounded on hostile ones. */
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { InputError } from "../../../src/ir/errors.ts";
import { type ChatMessage, renderChat } from "../../../src/runtime/text/chat-template.ts";
import { v3Config } from "./tokenizer-fixtures.ts";

const folder = "test/fixtures/chat-templates";
const examples: { messages: ChatMessage[]; rendered: Record<string, string> } = JSON.parse(
  readFileSync(`${folder}/rendered_examples.json`, "utf8"),
);
const tokens = { bosToken: "<｜begin▁of▁sentence｜>", eosToken: "<｜end▁of▁sentence｜>" };

function templateNamed(name: string): string {
  return name.startsWith("DeepSeek-V3 (")
    ? JSON.parse(v3Config()).chat_template
    : readFileSync(`${folder}/${name}`, "utf8");
}

test.each(Object.entries(examples.rendered))("%s", (key, rendered) => {
  const [name, mode] = key.split("|");
  const options = { ...tokens, addGenerationPrompt: true, thinking: mode === "think" };
  expect(renderChat(templateNamed(name!), examples.messages, options)).toBe(rendered);
});

test("thinking left open is the template's default", () => {
  const template = templateNamed("deepseek-ai-DeepSeek-V3.1.jinja");
  const options = { ...tokens, addGenerationPrompt: true };
  expect(renderChat(template, examples.messages, options)).toBe(
    renderChat(template, examples.messages, { ...options, thinking: false }),
  );
});

test("the bundled model's template", () => {
  const { chat_template } = JSON.parse(readFileSync("models/tiny-deepseek/tokenizer_config.json", "utf8"));
  const messages = [{ role: "user", content: "Hi" }];
  expect(renderChat(chat_template, messages, { ...tokens, addGenerationPrompt: true })).toBe(
    "<｜begin▁of▁sentence｜><｜User｜>Hi<｜Assistant｜><think></think>",
  );
});

test("blocks take their line's leading space and newline with them", () => {
  expect(renderChat("a\n  {% if true %}\nb\n  {% endif %}\nc\n", [])).toBe("a\nb\nc");
});

test("variables, tools and raise_exception", () => {
  const tools = [{ type: "function", function: { name: "f" } }];
  expect(renderChat("{{ tools | tojson }}{{ who }}", [], { variables: { tools, who: "me" } })).toBe(
    '[{"type": "function", "function": {"name": "f"}}]me',
  );
  expect(renderChat("{{ tools is none }}{{ thinking is defined }}", [])).toBe("truefalse");
  expect(() => renderChat("{{ raise_exception('roles must alternate') }}", [])).toThrow(
    "chat template: refuses these messages: roles must alternate",
  );
});

test.each(["messages", "bos_token", "range", "raise_exception", "namespace", "true", "add_generation_prompt"])(
  "the variable %s cannot be replaced",
  (name) => {
    expect(() => renderChat("", [], { variables: { [name]: 1 } })).toThrow(/not yours to set/);
  },
);

test.each([
  "messages.constructor",
  "messages['__proto__']",
  "''.__proto__",
  "''.constructor",
  "{}.constructor",
  "{}['__proto__']",
  "messages[0].constructor",
  "messages[0].__proto__",
  "raise_exception.constructor",
  "range.constructor",
  "namespace.prototype",
  "namespace().__proto__",
  "(1).constructor",
  "true.constructor",
  "messages[0]['content'].constructor",
  "__proto__",
  "constructor",
  "globalThis",
  "process",
])("%s is undefined", (expression) => {
  const messages = [JSON.parse('{"role":"user","content":"x"}')];
  expect(renderChat(`{{ (${expression}) is defined }}`, messages)).toBe("false");
});

test("a message's own __proto__ field is a field", () => {
  const messages = [JSON.parse('{"role":"user","__proto__":{"content":"inside"}}')];
  expect(renderChat("{{ messages[0]['__proto__'].content }}{{ messages[0].content is defined }}", messages)).toBe(
    "insidefalse",
  );
  expect({}).not.toHaveProperty("content");
});

describe("hostile templates end soon, with an InputError", () => {
  const doubling = (op: string): string =>
    `{% set ns = namespace(a='x') %}{% for i in range(60) %}${op}{% endfor %}{{ ns.a | length }}`;
  const big =
    "{% set ns = namespace(a='xxxxxxxxxx') %}{% for i in range(18) %}{% set ns.a = ns.a + ns.a %}{% endfor %}";
  const cases: readonly (readonly [string, string])[] = [
    ["a huge range", "{% for i in range(1000000000) %}{% endfor %}"],
    ["a range with a small step", "{{ range(0, 1, 0) }}"],
    ["a range that is infinite", "{{ range(0, 10.0 ** 300 * 10.0 ** 300) }}"],
    [
      "nested loops with nothing in them",
      "{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}",
    ],
    ["nested loops", "{% for i in range(2000) %}{% for j in range(2000) %}x{% endfor %}{% endfor %}"],
    [
      "loops over what is filtered out",
      "{% for i in range(9999) %}{% for j in range(9999) if false %}{% endfor %}{% endfor %}",
    ],
    ["doubling by +", doubling("{% set ns.a = ns.a + ns.a %}")],
    ["doubling by ~", doubling("{% set ns.a = ns.a ~ ns.a %}")],
    ["doubling by a block", doubling("{% set ns.a %}{{ ns.a }}{{ ns.a }}{% endset %}")],
    ["doubling by replace", doubling("{% set ns.a = ns.a.replace('x', 'xx') %}")],
    ["doubling by join", doubling("{% set ns.a = [ns.a, ns.a] | join(ns.a) %}")],
    ["doubling an array", doubling("{% set ns.a = [ns.a, ns.a] %}")],
    ["doubling an array for tojson", `${doubling("{% set ns.a = [ns.a, ns.a] %}")}{{ ns.a | tojson }}`],
    ["doubling through namespaces", doubling("{% set b = namespace(a=ns.a) %}{% set ns.a = [b, b] %}")],
    ["doubling an object", doubling("{% set ns.a = {'k': ns.a, 'l': ns.a} %}")],
    [
      "adding arrays",
      "{% set ns = namespace(a=[1]) %}{% for i in range(60) %}{% set ns.a = ns.a + ns.a %}{% endfor %}",
    ],
    ["a namespace in itself", "{% set ns = namespace() %}{% set ns.a = ns %}{{ ns.a }}"],
    ["a namespace in its array", "{% set ns = namespace() %}{% set ns.a = [ns, ns] %}{{ ns.a == '' }}"],
    ["replacing nothing", `${big}{{ ns.a.replace('', ns.a) }}`],
    ["replacing by a filter", `${big}{{ ns.a | replace('x', ns.a) }}`],
    ["joining with a long text", `${big}{{ ns.a | join(ns.a) }}`],
    [
      "searching a long text for a long text",
      `${big}{{ ns.a + 'y' in ns.a + ns.a[:9] }}{{ (ns.a[:1000000] + 'y') in ns.a }}`,
    ],
    ["splitting many times", `${big}{% for i in range(1000) %}{% set b = ns.a.split('x') %}{% endfor %}`],
    [
      "splitting by a computed name",
      `${big}{% for i in range(1000) %}{% set b = ns.a['sp' + 'lit']('x') %}{% endfor %}`,
    ],
    ["a wide indent", "{{ 'a\\nb' | indent(1000000000) }}"],
    ["a wide indent by name", "{{ 'a\\nb' | indent(width=1000000000) }}"],
    ["a wide indent of JSON", "{{ [[1]] | tojson(indent=1000000000) }}"],
    ["a wide indent of JSON, spread", "{{ [[1]] | tojson(**{'indent': 1000000000}) }}"],
    ["a macro that calls itself", "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"],
    [
      "macros that call twice",
      `${Array.from({ length: 40 }, (_, i) => `{% macro m${i + 1}() %}{{ m${i}() }}{{ m${i}() }}{% endmacro %}`).join("")}{% macro m0() %}x{% endmacro %}{{ m40() }}`,
    ],
    [
      "macros made in a loop",
      `{% for i in range(9999) %}{% macro m() %}${"{{ 1 }}".repeat(5000)}{% endmacro %}{% endfor %}`,
    ],
    [
      "a caller that calls",
      "{% macro m() %}{{ caller() }}{{ caller() }}{% endmacro %}{% macro n() %}{% call m() %}{{ n() }}{% endcall %}{% endmacro %}{{ n() }}",
    ],
    ["sorting long texts", `${big}{% for i in range(1000) %}{% set b = [ns.a, ns.a, ns.a] | sort %}{% endfor %}`],
    ["lookups of nothing", "{% for i in range(99999) %}{{ a }}{{ b }}{{ c }}{{ d }}{{ e }}{{ f }}{% endfor %}"],
    ["deep brackets", `{{ ${"(".repeat(30_000)}1${")".repeat(30_000)} }}`],
    ["deep lists", `{{ ${"[".repeat(30_000)}${"]".repeat(30_000)} }}`],
    ["deep blocks", `${"{% if true %}".repeat(8000)}${"{% endif %}".repeat(8000)}`],
    ["a long sum", `{{ ${"1+".repeat(30_000)}1 }}`],
    ["many signs", `{{ ${"-".repeat(60_000)}1 }}`],
    ["much white space", " ".repeat(100_000)],
    ["a long template", "x".repeat(200_000)],
    ["an open block", "{% if true %}"],
    ["an open string", "{{ '"],
    ["nonsense", "{{ 1 2 3 }}{% foo %}"],
    ["an unknown filter", "{{ 'a' | attr('constructor') }}"],
    ["a huge power", "{{ 10 ** 1000 }}"],
  ];
  test.each(cases)("%s", (_, template) => {
    const start = performance.now();
    expect(() => renderChat(template, [])).toThrow(InputError);
    // Generous: the slowest takes about a second on an idle machine; without limits each takes minutes or ends the process.
    expect(performance.now() - start).toBeLessThan(15_000);
  });
});

test("long chats are within the limits", () => {
  const messages: ChatMessage[] = Array.from({ length: 400 }, (_, i) => ({
    role: i % 2 === 0 ? "user" : "assistant",
    content: "word ".repeat(1000),
  }));
  for (const name of Object.keys(examples.rendered)) {
    const text = renderChat(templateNamed(name.split("|")[0]!), messages, tokens);
    expect(text.length).toBeGreaterThan(1_900_000);
  }
});
